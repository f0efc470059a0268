/*
 * What devices cost, from inside the guest: a static program for devio.py.
 *
 *	devio read|write|randread|randwrite FILE SECONDS
 *		O_DIRECT transfers of 1 MiB in order, or of 4 KiB anywhere
 *	devio recv|send ADDRESS PORT MIB
 *	devio print KIB
 *
 * Prints "D NAME FIGURE UNIT", by the guest's clock.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MIB (1 << 20)

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((double)ts.tv_sec + (double)ts.tv_nsec * 1e-9);
}

static void
disk(const char *name, const char *path, double seconds)
{
	int writing = strstr(name, "write") != NULL, random = name[0] == 'r' && name[1] == 'a';
	size_t size = random ? 4096 : MIB;
	int fd = open(path, (writing ? O_RDWR : O_RDONLY) | O_DIRECT);
	uint64_t blocks, at = 0, count = 0, seed = 88172645463325252u;
	double begin, took;
	ssize_t n;
	void *buf;

	if (fd < 0)
		err(1, "%s", path);
	blocks = (uint64_t)lseek(fd, 0, SEEK_END) / size;
	if (blocks == 0 || posix_memalign(&buf, MIB, size) != 0)
		errx(1, "%s: too small", path);
	memset(buf, 0x5a, size);
	begin = now();
	do {
		for (int i = 0; i < 16; i++, count++) {
			seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
			at = random ? seed % blocks : (at + 1) % blocks;
			n = writing ? pwrite(fd, buf, size, (off_t)(at * size))
				    : pread(fd, buf, size, (off_t)(at * size));
			if (n != (ssize_t)size)
				err(1, "%s at %ju", name, (uintmax_t)(at * size));
		}
		took = now() - begin;
	} while (took < seconds);
	if (random)
		printf("D %s %.0f IOPS\n", name, (double)count / took);
	else
		printf("D %s %.1f MiB/s\n", name, (double)count / took);
}

static void
network(const char *name, const char *address, int port, size_t mib)
{
	static char buf[65536];
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int s = socket(AF_INET, SOCK_STREAM, 0), sending = name[0] == 's';
	size_t left = mib * MIB, part;
	double begin;
	ssize_t n;
	char end;

	if (s < 0 || inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
	    connect(s, (struct sockaddr *)&to, sizeof(to)) != 0)
		err(1, "%s", address);
	begin = now();
	while (left > 0) {
		part = left < sizeof(buf) ? left : sizeof(buf);
		n = sending ? write(s, buf, part) : read(s, buf, part);
		if (n <= 0)
			err(1, "%s", name);
		left -= (size_t)n;
	}
	/* What was sent has arrived when the other side closes. */
	if (sending && (shutdown(s, SHUT_WR) != 0 || read(s, &end, 1) != 0))
		err(1, "%s: end", name);
	printf("D %s %.1f MiB/s\n", name, (double)mib / (now() - begin));
}

static void
print(size_t kib)
{
	static char line[64];

	memset(line, '.', sizeof(line));
	line[63] = '\n';
	for (size_t i = 0; i < kib * 16; i++)
		fwrite(line, 1, sizeof(line), stdout);
}

int
main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (strcmp(what, "print") == 0 && argc == 3)
		print((size_t)atoi(argv[2]));
	else if ((strcmp(what, "send") == 0 || strcmp(what, "recv") == 0) && argc == 5)
		network(what, argv[2], atoi(argv[3]), (size_t)atoi(argv[4]));
	else if (argc == 4)
		disk(what, argv[2], atof(argv[3]));
	else
		errx(2, "usage: devio read|write|randread|randwrite FILE SECONDS, "
			"recv|send ADDRESS PORT MIB, print KIB");
	return (0);
}
