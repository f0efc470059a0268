# stress-ng verifies what it computes. Its rseq wants a C library without one of its own.
check()
{
	stress-ng "$@" --verify > out 2>&1
	echo "status $?"
	sed -n 's/^stress-ng: \(fail\|error\): *\[[0-9]*\]/\1/p' out
}
check --seq 2 --class cpu --exclude sleep,rseq --timeout 1s
check --matrix 2 --vecmath 2 --fp-error 1 --atomic 2 --timeout 3s
