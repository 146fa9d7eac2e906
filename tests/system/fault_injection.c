/* A preloaded library that makes file system calls fail, or kills the process at the n-th call
 * that changes a file. The switches are in a file that the tests map too, so that they can be
 * changed at any time. Compiled and controlled by fault_injection.py. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/* In the order of SWITCHES in fault_injection.py. The first six are errno values, 0 for success. */
struct control {
	atomic_int write_error, sync_error, sendfile_error, read_error, unnamed_error, link_error;
	atomic_int kill_at; /* the number of the changing call that kills the process; 0: none */
	atomic_int changes; /* changing calls so far */
	atomic_int sync_seconds; /* duration of fsync and fdatasync */
};

static struct control *control;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("TIDEGATE_FAULTS");
	long fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
	if (fd < 0)
		abort();
	control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
	if (control == MAP_FAILED)
		abort();
	close((int)fd);
}

/* Counts a call that changes a file. Returns whether it fails, with errno set. */
static int changes(atomic_int *error)
{
	int count = atomic_fetch_add(&control->changes, 1) + 1;
	if (count == atomic_load(&control->kill_at))
		kill(getpid(), SIGKILL);
	errno = error ? atomic_load(error) : 0;
	return errno != 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static mode_t mode_of(int flags, va_list arguments)
{
	return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

static int opening(int flags)
{
	if ((flags & O_TMPFILE) == O_TMPFILE)
		return changes(&control->unnamed_error);
	return flags & O_CREAT ? changes(NULL) : 0;
}

#define OPENAT(name)                                                                   \
	int name(int directory, const char *path, int flags, ...)                      \
	{                                                                              \
		va_list arguments;                                                     \
		va_start(arguments, flags);                                            \
		mode_t mode = mode_of(flags, arguments);                               \
		va_end(arguments);                                                     \
		return opening(flags) ? -1 : REAL(name)(directory, path, flags, mode); \
	}
OPENAT(openat)
OPENAT(openat64)

#define OPEN(name)                                                          \
	int name(const char *path, int flags, ...)                          \
	{                                                                   \
		va_list arguments;                                          \
		va_start(arguments, flags);                                 \
		mode_t mode = mode_of(flags, arguments);                    \
		va_end(arguments);                                          \
		return opening(flags) ? -1 : REAL(name)(path, flags, mode); \
	}
OPEN(open)
OPEN(open64)

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset)
{
	return changes(&control->write_error) ? -1 : REAL(pwrite64)(fd, bytes, count, offset);
}

ssize_t write(int fd, const void *bytes, size_t count)
{
	struct stat status;
	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && changes(&control->write_error))
		return -1;
	return REAL(write)(fd, bytes, count);
}

int fsync(int fd)
{
	sleep((unsigned)atomic_load(&control->sync_seconds));
	return changes(&control->sync_error) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	sleep((unsigned)atomic_load(&control->sync_seconds));
	return changes(&control->sync_error) ? -1 : REAL(fdatasync)(fd);
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
	return changes(&control->link_error) ? -1 : REAL(linkat)(from, old, to, new, flags);
}

int rename(const char *old, const char *new)
{
	return changes(&control->link_error) ? -1 : REAL(rename)(old, new);
}

int renameat(int from, const char *old, int to, const char *new)
{
	return changes(&control->link_error) ? -1 : REAL(renameat)(from, old, to, new);
}

int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
	return changes(&control->link_error) ? -1 : REAL(renameat2)(from, old, to, new, flags);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
	return changes(NULL) ? -1 : REAL(fallocate64)(fd, mode, offset, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
	return changes(NULL) ? -1 : REAL(fallocate)(fd, mode, offset, length);
}

int unlink(const char *path)
{
	return changes(NULL) ? -1 : REAL(unlink)(path);
}

int unlinkat(int directory, const char *path, int flags)
{
	return changes(NULL) ? -1 : REAL(unlinkat)(directory, path, flags);
}

ssize_t pread64(int fd, void *buffer, size_t count, off64_t offset)
{
	errno = atomic_load(&control->read_error);
	return errno ? -1 : REAL(pread64)(fd, buffer, count, offset);
}

extern ssize_t sendfile64(int, int, off64_t *, size_t);

ssize_t sendfile64(int socket, int file, off64_t *offset, size_t count)
{
	errno = atomic_load(&control->sendfile_error);
	return errno ? -1 : REAL(sendfile64)(socket, file, offset, count);
}
