# openssl speed comes to its end; what it measured are SPEED lines.
for a in md5 sha1 sha256 sha512 aes-128-cbc aes-128-gcm aes-256-ctr chacha20-poly1305 sm4-cbc; do
	openssl speed -seconds 1 -bytes 8192 -evp $a > out 2> err
	echo "$a $?"
	grep -i '^[a-z0-9-]* *[0-9.]*k$' out | sed 's/^/SPEED /'
done
for a in rsa2048 ecdsap256 ed25519 ecdhx25519; do
	openssl speed -seconds 1 $a > out 2> err
	echo "$a $?"
	grep '^ *[0-9].* bits' out | sed 's/^/SPEED /'
done
