# Keys made from nothing but their parameters; no random number is printed.
printf '302e020100300506032b657004220420%s' $(printf %064d 5) | python3 -c '
import sys; sys.stdout.buffer.write(bytes.fromhex(sys.stdin.read()))' > ed.der
openssl pkey -inform DER -in ed.der -out ed.pem && openssl pkey -in ed.pem -pubout
openssl pkeyutl -sign -inkey ed.pem -rawin -in $T | md5sum
openssl pkeyutl -sign -inkey ed.pem -rawin -in $T -out sig
openssl pkey -in ed.pem -pubout -out ed.pub
openssl pkeyutl -verify -pubin -inkey ed.pub -rawin -in $T -sigfile sig
openssl prime -generate -bits 64 >/dev/null && echo a prime
for n in 170141183460469231731687303715884105727 170141183460469231731687303715884105729; do
	openssl prime $n
done
for curve in prime256v1 secp384r1 secp521r1 secp256k1 brainpoolP256r1; do
	openssl ecparam -name $curve -genkey -noout -out ec.pem
	openssl dgst -sha256 -sign ec.pem -out sig $T
	openssl ec -in ec.pem -pubout -out ec.pub 2>/dev/null
	echo $curve $(openssl dgst -sha256 -verify ec.pub -signature sig $T)
done
for bits in 1024 2048; do
	openssl genrsa -out rsa.pem $bits 2>/dev/null
	openssl dgst -sha256 -sign rsa.pem -out sig $T
	openssl rsa -in rsa.pem -pubout -out rsa.pub 2>/dev/null
	echo rsa $bits $(openssl dgst -sha256 -verify rsa.pub -signature sig $T)
done
