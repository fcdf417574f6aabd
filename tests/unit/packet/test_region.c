/* SPDX-License-Identifier: BSD-3-Clause */
/* Regions: what is made is sealed, what is not sealed is refused, and read-only means it. */
#include "frames.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/region.h>

enum { SIZE = 4 * SHUNT_PAGE_SIZE, SEALS = F_SEAL_SHRINK | F_SEAL_GROW, NOBODY = 65534 };

static bool fd_is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* A memfd of `size` bytes, `filled` of them with memory behind. */
static int foreign(size_t size, size_t filled, int seals)
{
	int fd = memfd_create("test-region", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	if (filled)
		assert_int_equal(fallocate(fd, 0, 0, (off_t)filled), 0);
	if (seals)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void assert_refused(int fd, size_t size, int prot, int err, const char *reason)
{
	struct shunt_region *region = NULL;
	const char *why = NULL;

	assert_int_equal(shunt_region_open(&region, fd, size, prot, &why), err);
	assert_null(region);
	assert_non_null(why);
	assert_string_equal(why, reason);
	assert_false(fd_is_open(fd));
}

static void test_create(void **state)
{
	struct shunt_region *region;
	struct stat st;
	uint8_t *bytes;
	int fd;

	(void)state;
	assert_int_equal(shunt_region_create(&region, "test-region", SIZE - 100, 0), 0);
	assert_int_equal(shunt_region_size(region), SIZE);
	bytes = shunt_region_addr(region);
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(bytes[i], 0);
	memset(bytes, 0x5a, SIZE);
	fd = shunt_region_fd(region);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_true(st.st_blocks * 512 >= SIZE);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GET_SEALS), SEALS | F_SEAL_SEAL);
	assert_int_equal(ftruncate(fd, SIZE / 2), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, (off_t)SIZE + SHUNT_PAGE_SIZE), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	shunt_region_put(region);
	assert_false(fd_is_open(fd));
	shunt_region_put(NULL);
}

static void test_create_refusals(void **state)
{
	struct shunt_region *region;

	(void)state;
	assert_int_equal(shunt_region_create(&region, "test-region", 0, 0), -EINVAL);
	assert_int_equal(
		shunt_region_create(&region, "test-region", ((size_t)1 << 30) + 1, 0), -EINVAL);
	assert_int_equal(shunt_region_create(&region, "test-region", SIZE_MAX, 0), -EINVAL);
	assert_int_equal(shunt_region_create(&region, "test-region", SIZE, 2), -EINVAL);
}

static void test_references(void **state)
{
	struct shunt_region *region;
	int fd;

	(void)state;
	assert_int_equal(shunt_region_create(&region, "test-region", SIZE, 0), 0);
	fd = shunt_region_fd(region);
	assert_ptr_equal(shunt_region_get(region), region);
	shunt_region_put(region);
	assert_true(fd_is_open(fd));
	memset(shunt_region_addr(region), 1, SIZE);
	shunt_region_put(region);
	assert_false(fd_is_open(fd));
}

/* Both sides see one memory; either may go first. */
static void test_open_shares(void **state)
{
	struct shunt_region *mine;
	struct shunt_region *theirs;
	const char *why = "unset";
	uint8_t *bytes;

	(void)state;
	assert_int_equal(shunt_region_create(&mine, "test-region", SIZE, 0), 0);
	assert_int_equal(shunt_region_open(&theirs, dup(shunt_region_fd(mine)), SIZE,
				 PROT_READ | PROT_WRITE, &why),
		0);
	assert_null(why);
	bytes = shunt_region_addr(theirs);
	bytes[SIZE - 1] = 0x77;
	assert_int_equal(((uint8_t *)shunt_region_addr(mine))[SIZE - 1], 0x77);
	shunt_region_put(mine);
	assert_int_equal(bytes[SIZE - 1], 0x77);
	shunt_region_put(theirs);
	/* Made by hand, seals in the other order, no reason asked for. */
	assert_int_equal(
		shunt_region_open(&theirs, foreign(SIZE, SIZE, SEALS), SIZE, PROT_READ, NULL), 0);
	shunt_region_put(theirs);
}

static void test_not_a_memfd(void **state)
{
	char path[] = "/tmp/test-region-XXXXXX";
	int pipes[2];
	int fd;

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_refused(pipes[0], SIZE, PROT_READ, -EINVAL, "not a memfd");
	assert_int_equal(close(pipes[1]), 0);
	assert_refused(open("/dev/zero", O_RDWR), SIZE, PROT_READ, -EINVAL, "not a memfd");
	assert_refused(-1, SIZE, PROT_READ, -EINVAL, "not a memfd");
	/* A file of the right size, on whatever /tmp is: a tmpfs file can carry no such seals. */
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(posix_fallocate(fd, 0, SIZE), 0);
	assert_int_equal(
		shunt_region_open(&(struct shunt_region *){NULL}, fd, SIZE, PROT_READ, NULL),
		-EINVAL);
	assert_false(fd_is_open(fd));
}

static void test_seals(void **state)
{
	(void)state;
	assert_refused(
		foreign(SIZE, SIZE, 0), SIZE, PROT_READ, -EINVAL, "not sealed against shrinking");
	assert_refused(foreign(SIZE, SIZE, F_SEAL_GROW), SIZE, PROT_READ, -EINVAL,
		"not sealed against shrinking");
	assert_refused(foreign(SIZE, SIZE, F_SEAL_SHRINK), SIZE, PROT_READ, -EINVAL,
		"not sealed against growing");
	assert_refused(foreign(SIZE, SIZE, F_SEAL_SEAL), SIZE, PROT_READ, -EINVAL,
		"not sealed against shrinking");
}

static void test_size(void **state)
{
	static const char pages[] = "size is not a number of pages within the limit";
	static const char other[] = "not of the size announced";

	(void)state;
	assert_refused(
		foreign(SIZE, SIZE, SEALS), SIZE - SHUNT_PAGE_SIZE, PROT_READ, -EINVAL, other);
	assert_refused(
		foreign(SIZE, SIZE, SEALS), SIZE + SHUNT_PAGE_SIZE, PROT_READ, -EINVAL, other);
	assert_refused(foreign(SIZE, SIZE, SEALS), 0, PROT_READ, -EINVAL, pages);
	assert_refused(foreign(SIZE, SIZE, SEALS), SIZE - 1, PROT_READ, -EINVAL, pages);
	assert_refused(foreign(SIZE, SIZE, SEALS), SIZE_MAX - 4095, PROT_READ, -EINVAL, pages);
	assert_refused(foreign(SIZE - 1, SIZE - 1, SEALS), SIZE - 1, PROT_READ, -EINVAL, pages);
	assert_refused(foreign(SIZE - 1, SIZE - 1, SEALS), SIZE, PROT_READ, -EINVAL, other);
}

static void test_sparse(void **state)
{
	int fd;

	(void)state;
	assert_refused(foreign(SIZE, 0, SEALS), SIZE, PROT_READ, -EINVAL, "sparse");
	assert_refused(
		foreign(SIZE, SIZE - SHUNT_PAGE_SIZE, SEALS), SIZE, PROT_READ, -EINVAL, "sparse");
	fd = foreign(SIZE, SIZE, SEALS);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, SHUNT_PAGE_SIZE,
				 SHUNT_PAGE_SIZE),
		0);
	assert_refused(fd, SIZE, PROT_READ, -EINVAL, "sparse");
}

static void test_huge_pages(void **state)
{
	size_t size = (size_t)2 << 20;
	int fd = memfd_create("test-region", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);

	(void)state;
	if (fd < 0 || ftruncate(fd, (off_t)size) || fcntl(fd, F_ADD_SEALS, SEALS)) {
		print_message("the kernel makes no memfd of huge pages\n");
		skip();
	}
	assert_refused(fd, size, PROT_READ, -EINVAL, "made of huge pages");
}

static void test_sealed_against_writing(void **state)
{
	struct shunt_region *region;
	int fd = foreign(SIZE, SIZE, SEALS | F_SEAL_WRITE);

	(void)state;
	assert_refused(
		dup(fd), SIZE, PROT_READ | PROT_WRITE, -EACCES, "cannot be mapped for writing");
	assert_int_equal(
		shunt_region_create(&region, "test-region", SIZE, SHUNT_REGION_READONLY), 0);
	assert_refused(dup(shunt_region_fd(region)), SIZE, PROT_READ | PROT_WRITE, -EACCES,
		"cannot be mapped for writing");
	shunt_region_put(region);
	assert_int_equal(close(fd), 0);
}

static bool can_map_for_writing(int fd)
{
	void *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return false;
	(void)munmap(map, SIZE);
	return true;
}

/* Everything that a holder of a read-only region's fd may try, as whoever runs this test. */
static void test_readonly(void **state)
{
	struct shunt_region *region;
	struct shunt_region *theirs;
	const uint8_t *seen;
	struct stat st;
	char path[64];
	uint8_t *mine;
	void *map;
	int fd;
	int again;

	(void)state;
	assert_int_equal(
		shunt_region_create(&region, "test-region", SIZE, SHUNT_REGION_READONLY), 0);
	fd = shunt_region_fd(region);
	mine = shunt_region_addr(region);
	assert_int_equal(shunt_region_open(&theirs, dup(fd), SIZE, PROT_READ, NULL), 0);
	seen = shunt_region_addr(theirs);
	mine[5] = 0x42; /* its maker still writes */
	assert_int_equal(seen[5], 0x42);
	assert_int_equal(mprotect(shunt_region_addr(theirs), SIZE, PROT_READ | PROT_WRITE), -1);

	assert_false(can_map_for_writing(fd));
	map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	assert_int_equal(mprotect(map, SIZE, PROT_READ | PROT_WRITE), -1);
	assert_int_equal(munmap(map, SIZE), 0);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), -1);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0400);

	/* Root may open it again; it gets no further. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	if (again >= 0) {
		assert_false(can_map_for_writing(again));
		assert_int_equal(pwrite(again, "x", 1, 0), -1);
		assert_int_equal(ftruncate(again, 0), -1);
		assert_int_equal(close(again), 0);
	} else {
		assert_int_equal(errno, EACCES);
	}
	assert_int_equal(mine[0], 0);
	shunt_region_put(theirs);
	shunt_region_put(region);
}

/* Opens fd again through /proc as another user; returns the errno, 0 if that worked. */
static int reopen_as_nobody(int fd)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		char path[64];

		/* /proc/self/fd is root's again once a process has changed its user, unless it stays dumpable. */
		if (setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY) ||
			prctl(PR_SET_DUMPABLE, 1))
			_exit(255);
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		_exit(open(path, O_RDWR) >= 0 ? 0 : errno);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_not_equal(WEXITSTATUS(status), 255);
	return WEXITSTATUS(status);
}

static void test_readonly_to_another_user(void **state)
{
	struct shunt_region *open_to_all;
	struct shunt_region *readonly;

	(void)state;
	if (getuid() != 0) {
		print_message("needs root, to become another user\n");
		skip();
	}
	assert_int_equal(shunt_region_create(&open_to_all, "test-region", SIZE, 0), 0);
	assert_int_equal(
		shunt_region_create(&readonly, "test-region", SIZE, SHUNT_REGION_READONLY), 0);
	assert_int_equal(reopen_as_nobody(shunt_region_fd(open_to_all)), 0);
	assert_int_equal(reopen_as_nobody(shunt_region_fd(readonly)), EACCES);
	shunt_region_put(open_to_all);
	shunt_region_put(readonly);
}

static void on_alarm(int sig)
{
	(void)sig;
}

/* fallocate(2) gives up at a signal, in older kernels: a region must be made all the same. */
static void test_create_under_signals(void **state)
{
	const struct sigaction action = {.sa_handler = on_alarm};
	const struct itimerval often = {{0, 1000}, {0, 1000}};
	const struct itimerval never = {{0, 0}, {0, 0}};
	struct shunt_region *region;
	int err;

	(void)state;
	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	err = shunt_region_create(&region, "test-region", (size_t)64 << 20, 0);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(err, 0);
	shunt_region_put(region);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_create_refusals),
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_open_shares),
		cmocka_unit_test(test_not_a_memfd),
		cmocka_unit_test(test_seals),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_sparse),
		cmocka_unit_test(test_huge_pages),
		cmocka_unit_test(test_sealed_against_writing),
		cmocka_unit_test(test_readonly),
		cmocka_unit_test(test_readonly_to_another_user),
		cmocka_unit_test(test_create_under_signals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
