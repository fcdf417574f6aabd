/* SPDX-License-Identifier: BSD-3-Clause */
#include "programs/shuntd/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum {
	CLAIM_TRIES =
		25, /* of 20 ms: a shuntd that was killed leaves an opener that is cleaning up */
};

/* The locked file is still the one with the name: its last holder removes it. */
static int still_there(int dir, int fd)
{
	struct stat mine;
	struct stat named;

	return !fstat(fd, &mine) && !fstatat(dir, PID_FILE, &named, AT_SYMLINK_NOFOLLOW) &&
	       mine.st_ino == named.st_ino;
}

static int claim(int dir)
{
	const struct timespec wait = {.tv_nsec = 20 * CLOCK_MS};

	for (unsigned i = 0; i < CLAIM_TRIES; i++) {
		int fd = openat(dir, PID_FILE, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);

		if (fd < 0)
			return -errno;
		if (!flock(fd, LOCK_EX | LOCK_NB)) {
			if (still_there(dir, fd))
				return fd;
		} else if (errno != EWOULDBLOCK) {
			int err = -errno;

			(void)close(fd);
			return err;
		}
		(void)close(fd);
		(void)nanosleep(&wait, NULL);
	}
	return -EBUSY;
}

int rundir_claim(const char *run, const char **what)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	int dir;
	int fd;

	*what = "cannot make the run directory";
	if (mkdir(run, 0755) && errno != EEXIST)
		return -errno;
	*what = "cannot open the run directory";
	dir = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	fd = claim(dir);
	(void)close(dir);
	*what = fd == -EBUSY ? "another shuntd uses the run directory" : "cannot lock " PID_FILE;
	if (fd < 0)
		return fd;
	if (ftruncate(fd, 0) || write(fd, text, (size_t)len) != len) {
		int err = -errno;

		*what = "cannot write " PID_FILE;
		(void)close(fd);
		return err;
	}
	return fd;
}
