# Compress, note size and digest, bring it back. $1: how many of the methods.
methods="gzip,-1n xz,-0 zstd,-1,--single-thread gzip,-6n gzip,-9n bzip2,-1 bzip2,-9 xz,-4
xz,-2,--check=sha256 zstd,-9,--single-thread zstd,-3,-T2"
for f in $D $T; do
	n=0
	for m in $methods; do
		n=$((n + 1))
		[ $n -le ${1:-99} ] || break
		set -- "${1:-99}" $(echo $m | tr , ' ')
		limit=$1; shift
		"$@" -c < $f > z
		echo "$m $(stat -c %s z) $(md5sum < z)"
		$1 -dc < z | cmp - $f || echo "$m: comes back changed"
		set -- $limit
	done
done
