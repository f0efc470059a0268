/*
 * Files and folders of VMs (store.h). Everything is opened relative to a folder
 * descriptor, with O_NOFOLLOW and O_CLOEXEC. Mapping is map.c's business.
 */
#include "sys/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int
sys_dir_open(int at, const char *path, int *fdp)
{
	struct stat st;
	int fd;

	fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return (errno == ELOOP || errno == ENOTDIR ? EPERM : errno);
	if (fstat(fd, &st) != 0 || st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
		close(fd);
		return (EPERM);
	}
	*fdp = fd;
	return (0);
}

int
sys_dir_create(int at, const char *name, int *fdp)
{
	if (mkdirat(at, name, 0700) != 0)
		return (errno);
	return (sys_dir_open(at, name, fdp));
}

int
sys_remove(int at, const char *name)
{
	struct dirent *de;
	DIR *dir;
	int error = 0, fd;

	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		if (errno != ENOTDIR && errno != ELOOP)
			return (errno);
		return (unlinkat(at, name, 0) == 0 ? 0 : errno);
	}
	if ((dir = fdopendir(fd)) == NULL) {
		error = errno;
		close(fd);
		return (error);
	}
	while ((de = readdir(dir)) != NULL) {
		if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, de->d_name, 0) != 0 && errno == EISDIR)
			(void)unlinkat(fd, de->d_name, AT_REMOVEDIR);
	}
	closedir(dir);
	if (unlinkat(at, name, AT_REMOVEDIR) != 0)
		error = errno;
	return (error);
}

int
sys_file_create(int at, const char *name, uint64_t size, int *fdp)
{
	int error, fd;

	if (size > INT64_MAX)
		return (EFBIG);
	fd = openat(at, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return (errno);
	if (ftruncate(fd, (off_t)size) != 0) {
		error = errno;
		close(fd);
		(void)unlinkat(at, name, 0);
		return (error);
	}
	*fdp = fd;
	return (0);
}

int
sys_file_open(int at, const char *name, bool writable, int *fdp, uint64_t *size)
{
	struct stat st;
	int fd;

	fd = openat(at, name, (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return (errno == ELOOP || errno == EISDIR || errno == ENXIO ? EPROTO : errno);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return (EPROTO);
	}
	if (size != NULL)
		*size = (uint64_t)st.st_size;
	*fdp = fd;
	return (0);
}

int
sys_file_alloc(int fd, uint64_t off, uint64_t len)
{
	if (off > INT64_MAX || len > INT64_MAX)
		return (EFBIG);
	while (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) != 0) {
		if (errno == EOPNOTSUPP) /* some network file systems: by writing */
			return (posix_fallocate(fd, (off_t)off, (off_t)len));
		if (errno != EINTR)
			return (errno);
	}
	return (0);
}

static int
own_op(int fd, int op, short type, struct flock *fl)
{
	memset(fl, 0, sizeof(*fl));
	fl->l_type = type;
	fl->l_whence = SEEK_SET;
	return (fcntl(fd, op, fl) == 0 ? 0 : errno);
}

int
sys_own(int fd)
{
	struct flock fl;
	int error;

	/* An open-file-description lock: not lost when some other fd is closed. */
	error = own_op(fd, F_OFD_SETLK, F_WRLCK, &fl);
	return (error == EAGAIN || error == EACCES ? EBUSY : error);
}

void
sys_disown(int fd)
{
	struct flock fl;

	(void)own_op(fd, F_OFD_SETLK, F_UNLCK, &fl);
}

bool
sys_owned(int fd)
{
	struct flock fl;

	return (own_op(fd, F_OFD_GETLK, F_WRLCK, &fl) == 0 && fl.l_type != F_UNLCK);
}

uint64_t
sys_process_start(pid_t pid)
{
	char buf[1024], path[32], *p;
	ssize_t n;
	int fd, i;

	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return (0);
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return (0);
	buf[n] = '\0';
	/* Field 22; the second one, the name, may hold anything up to its ')'. */
	if ((p = strrchr(buf, ')')) == NULL)
		return (0);
	for (i = 2; i < 22; i++) {
		if ((p = strchr(p + 1, ' ')) == NULL)
			return (0);
	}
	return (strtoull(p + 1, NULL, 10));
}
