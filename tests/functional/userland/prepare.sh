# Known data without a random generator: the key stream of a cipher, and text.
# $D and $T are files that are the same everywhere, $W is where these scripts are.
W=/tmp/job D=/tmp/data T=/tmp/text
cd /tmp
key=$(printf %064d 7) iv=$(printf %032d 9)
head -c 4M /dev/zero | OPENSSL_armcap=0 openssl enc -chacha20 -K $key -iv $iv > $D
seq 1 200000 | mawk '{
	word = substr("abcdefghijklmnopqrstuvwxyz", $1 % 20, 6)
	printf "%d line %x of text %s\n", $1, $1 * 2654435761 % 4294967296, word
}' > $T
DIGESTS="md5 sha1 sha224 sha256 sha384 sha512 sha512-256 sha3-224 sha3-256 sha3-384 sha3-512
shake128 shake256 blake2b512 blake2s256 rmd160 sm3"
