# Text tools, and the shells themselves.
sort $T | md5sum
sort -n -k3 $T | md5sum
sort -R --random-source=$D $T | md5sum
sort --parallel=2 -S 1M -k2,2 -k5,5r $T | uniq -c | md5sum
mawk '{ n[$NF]++; s += $1 * 1.1 }
	END { for (k in n) print k, n[k]; printf "%.17g\n", s }' $T | sort | md5sum
mawk '{ s += sqrt($1) + log($1) } END { printf "%.17g %d\n", s, NR }' $T
gawk '{ s += sin($1) } END { printf "%.17g %d\n", s, NR }' $T
sed -E 's/([0-9]+) line ([0-9a-f]+)/\2:\1/' $T | grep -E '^[0-9a]+:' | md5sum
echo 'scale=200; 4*a(1); e(1); sqrt(2); l(2); s(1)' | bc -l
cksum $D $T; sum $D; b2sum $D; base64 -w 0 $D | md5sum; od -A d -t fFx8 -N 4096 $D | md5sum
factor 18446744073709551557 18446744073709551617 1000000007
numfmt --to=iec 1234567890123; seq 0.1 0.1 3 | md5sum
tar -cf - --sort=name --mtime=@0 --owner=0 --group=0 -C /usr/lib/python3.11 json email | md5sum
find /usr/lib/python3.11 -name '*.py' | sort | xargs cat | wc
diff -u $T $T && rev $T | tr a-z A-Z | cut -c3-20 | paste -sd, | fold -w 77 | md5sum
dash -c 'i=0 s=0
while [ $i -lt 50000 ]; do s=$(((s * 31 + i) % 1000003)) i=$((i + 1)); done; echo $s'
bash -c 'for ((i = s = 0; i < 30000; i++)); do ((s = (s * 31 + i) % 1000003)); done; echo $s'
