# Programs of Debian as whole processes, for programs.py: one function each, p_NAME.
# What they print is the same on every machine; $D, $T and their packed forms are made once.
set -e
W=/tmp/job D=/tmp/data T=/tmp/text
cd /tmp

prepare()
{
	key=$(printf %064d 7) iv=$(printf %032d 9)
	head -c 2M /dev/zero | OPENSSL_armcap=0 openssl enc -chacha20 -K $key -iv $iv > $D
	seq 1 60000 | mawk '{
		word = substr("abcdefghijklmnopqrstuvwxyz", $1 % 20, 6)
		printf "%d line %x of text %s\n", $1, $1 * 2654435761 % 4294967296, word
	}' > $T
	gzip -6nc $T > t.gz
	xz -1c $T > t.xz
	zstd -qc $T > t.zst
}

p_python3() { python3 $W/program.py; }
p_python3_start() { for i in 1 2 3 4 5; do python3 -c pass; done; }
p_perl() { perl $W/program.pl; }
p_sqlite3() { sqlite3 :memory: < $W/program.sql; }
p_gzip() { gzip -6nc $T; }
p_gunzip() { for i in 1 2 3 4 5 6 7 8; do gzip -dc t.gz; done; }
p_bzip2() { bzip2 -9c $T; }
p_xz() { xz -1c $T; }
p_unxz() { for i in 1 2 3 4; do xz -dc t.xz; done; }
p_zstd() { zstd -qc -6 --single-thread $T; }
p_unzstd() { for i in 1 2 3 4 5 6 7 8 9 10 11 12; do zstd -qdc t.zst; done; }
p_sort() { sort -k5,5 -k3,3r $T; }
p_mawk() { mawk '{ n[$NF] += $1; s += sqrt($1) } END { for (k in n) t += n[k]; print t, s }' $T; }
p_grep() { for i in 1 2 3 4; do grep -cE '([0-9])\1.*(fgh|xyz)' $T; done; }
p_sha256() { for i in 1 2 3 4 5 6 7 8; do openssl dgst -sha256 -r $D; done; }
p_md5() { for i in 1 2 3 4 5 6; do openssl dgst -md5 -r $D; done; }
p_sha3() { openssl dgst -sha3-256 -r $D; }
p_aes() { for i in 1 2 3 4 5 6 7 8; do openssl enc -aes-128-cbc -K 1 -iv 2 -in $D 2>/dev/null; done; }
p_chacha20() { for i in 1 2 3 4 5 6; do openssl enc -chacha20 -K 1 -iv 2 -in $D 2>/dev/null; done; }
p_prime() { openssl prime 170141183460469231731687303715884105727; openssl prime -checks 200 \
	2074722246773485207821695222107608587480996474721117292752992589912196684750549658310084416732550077; }
p_bc() { echo 'scale=300; 4*a(1); e(1)' | bc -l; }
p_dash() { i=0 s=0; while [ $i -lt 60000 ]; do s=$(((s * 31 + i) % 1000003)) i=$((i + 1)); done; echo $s; }
p_bash() { bash -c 'for ((i = s = 0; i < 30000; i++)); do ((s = (s * 31 + i) % 1000003)); done; echo $s'; }
p_processes() { i=0; while [ $i -lt 150 ]; do /bin/true; i=$((i + 1)); done; echo $i; }
p_find() { find /usr/lib /usr/share -name '*.py' | sort; }

if [ $1 = prepare ]; then
	prepare
	echo "P prepare 0 -"
else
	began=$(date +%s%N)
	p_$1 > out
	ended=$(date +%s%N)
	echo "P $1 $((ended - began)) $(md5sum < out | cut -d' ' -f1)"
fi
