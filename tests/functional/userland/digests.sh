# Every digest of OpenSSL.
for a in $DIGESTS; do openssl dgst -$a -r $D; done
