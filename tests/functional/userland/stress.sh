# stress-ng verifies what it computes.
check()
{
	stress-ng "$@" --verify > out 2>&1
	echo "status $?"
	grep -E 'fail|error' out
}
check --seq 2 --class cpu --exclude sleep --timeout 1s
check --matrix 2 --vecmath 2 --fp-error 1 --atomic 2 --timeout 3s
