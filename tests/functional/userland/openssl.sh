# Digests and ciphers by OpenSSL's code for this CPU, for NEON alone and in portable C.
# OPENSSL_armcap (crypto/arm_arch.h): 0 is portable, 1 NEON; unset, what the CPU has.
for a in $DIGESTS; do
	for cap in "" 0 1; do
		if [ -z "$cap" ]; then unset OPENSSL_armcap; else export OPENSSL_armcap=$cap; fi
		echo "$a $(openssl dgst -$a -r $D | cut -d' ' -f1)"
	done | uniq
done
ciphers="aes-128-cfb8 aes-256-cfb8 des-ede3-cbc chacha20"
for c in aes-128 aes-192 aes-256 camellia-128 aria-256 sm4; do
	for m in cbc ctr ecb cfb ofb; do ciphers="$ciphers $c-$m"; done
done
key=$(printf %064d 123456789) iv=$(printf %032d 42)
for c in $ciphers; do
	for cap in "" 0 1; do
		if [ -z "$cap" ]; then unset OPENSSL_armcap; else export OPENSSL_armcap=$cap; fi
		openssl enc -$c -K $key -iv $iv -in $D -out e 2>/dev/null
		openssl enc -d -$c -K $key -iv $iv -in e -out d 2>/dev/null
		cmp d $D && echo "$c $(md5sum < e)"
	done | uniq
done
