/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The opener as a process: what it opens, what it refuses, and that it removes what it made when its parent is gone. No
 * privileges needed.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "programs/shuntd/opener.h"

struct place {
	char dir[64];
	char captures[80];
	struct opener *opener;
};

static void path_in(const struct place *place, const char *name, char *path, size_t size)
{
	(void)snprintf(path, size, "%s/%s", place->dir, name);
}

static bool exists(const struct place *place, const char *name)
{
	char path[128];
	struct stat st;

	path_in(place, name, path, sizeof(path));
	return !lstat(path, &st);
}

static int setup(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	char path[128];
	int fd;

	assert_non_null(place);
	(void)snprintf(place->dir, sizeof(place->dir), "/tmp/shunt-opener-XXXXXX");
	assert_non_null(mkdtemp(place->dir));
	path_in(place, "captures", place->captures, sizeof(place->captures));
	assert_int_equal(mkdir(place->captures, 0700), 0);
	path_in(place, "test.pid", path, sizeof(path));
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	const struct opener_config config = {place->dir, place->captures, "test.pid"};
	assert_int_equal(opener_start(&place->opener, &config), 0);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;
	char command[128];

	opener_stop(place->opener);
	/* The sockets and the pid file are gone; what else is there the test made. */
	assert_false(exists(place, "a.sock"));
	assert_false(exists(place, "b.sock"));
	assert_false(exists(place, "test.pid"));
	(void)snprintf(command, sizeof(command), "rm -rf %s", place->dir);
	assert_int_equal(system(command), 0);
	free(place);
	return 0;
}

static void test_listen(void **state)
{
	struct place *place = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[128];
	struct stat st;
	int client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int fd = opener_listen(place->opener, "a.sock", SOCK_SEQPACKET, geteuid(), 0600);

	assert_true(fd >= 0);
	path_in(place, "a.sock", path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	memcpy(address.sun_path, path, strlen(path));
	assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(
		opener_listen(place->opener, "a.sock", SOCK_SEQPACKET, geteuid(), 0600), -EEXIST);
	assert_int_equal(opener_chown(place->opener, "a.sock", geteuid()), 0);
	assert_int_equal(opener_unlink(place->opener, "a.sock"), 0);
	assert_false(exists(place, "a.sock"));
	assert_int_equal(opener_unlink(place->opener, "a.sock"), -ENOENT);
	assert_int_equal(opener_chown(place->opener, "a.sock", geteuid()), -ENOENT);
	(void)close(client);
	(void)close(fd);
	/* This one is left for it to remove. */
	fd = opener_listen(place->opener, "b.sock", SOCK_STREAM, geteuid(), 0660);
	assert_true(fd >= 0);
	(void)close(fd);
}

static void test_listen_refused(void **state)
{
	static const char *const bad[] = {"", ".sock", "a", "../a.sock", "a/b.sock", "/tmp/a.sock",
		".a.sock", "a.sockx", "a.sock ", "abcdefghijklmnopqrstuvwxyz0123456789.sock"};
	struct place *place = *state;
	char path[128];
	int fd;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(opener_listen(place->opener, bad[i], SOCK_STREAM, geteuid(), 0600),
			-EINVAL);
		assert_int_equal(opener_unlink(place->opener, bad[i]), -EINVAL);
		assert_int_equal(opener_chown(place->opener, bad[i], geteuid()), -EINVAL);
	}
	assert_int_equal(
		opener_listen(place->opener, "a.sock", SOCK_DGRAM, geteuid(), 0600), -EINVAL);
	assert_int_equal(
		opener_listen(place->opener, "a.sock", SOCK_STREAM, geteuid(), 0666), -EINVAL);
	assert_int_equal(
		opener_listen(place->opener, "a.sock", SOCK_STREAM, geteuid(), 04600), -EINVAL);
	/* What it did not make it does not touch. */
	path_in(place, "file.sock", path, sizeof(path));
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(
		opener_listen(place->opener, "file.sock", SOCK_STREAM, geteuid(), 0600), -EEXIST);
	assert_int_equal(opener_unlink(place->opener, "file.sock"), -ENOENT);
	assert_true(exists(place, "file.sock"));
}

/* A socket that a killed predecessor left. */
static void test_stale(void **state)
{
	struct place *place = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int old = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd;

	path_in(place, "a.sock", address.sun_path, sizeof(address.sun_path));
	assert_int_equal(bind(old, (struct sockaddr *)&address, sizeof(address)), 0);
	(void)close(old);
	fd = opener_listen(place->opener, "a.sock", SOCK_STREAM, geteuid(), 0600);
	assert_true(fd >= 0);
	(void)close(fd);
}

static void test_capture(void **state)
{
	struct place *place = *state;
	char path[128];
	int fd = opener_capture(place->opener, "new.pcap", true);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
	(void)close(fd);
	fd = opener_capture(place->opener, "new.pcap", false);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), -1);
	(void)close(fd);
	assert_int_equal(opener_capture(place->opener, "none.pcap", false), -ENOENT);
	assert_int_equal(opener_capture(place->opener, "", false), -EINVAL);
	assert_int_equal(opener_capture(place->opener, "/etc/passwd", false), -EINVAL);
	assert_int_equal(opener_capture(place->opener, "../test.pid", false), -EXDEV);
	(void)snprintf(path, sizeof(path), "%s/out", place->captures);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(opener_capture(place->opener, "out", false), -EXDEV);
	assert_int_equal(opener_capture(place->opener, "out", true), -EXDEV);
}

static void test_devices_refused(void **state)
{
	struct place *place = *state;
	char device[TAP_NAME];
	int fds[OPENER_QUEUES];

	assert_int_equal(
		opener_tap(place->opener, "", "a-name-of-16-chr", 1, fds, device), -EINVAL);
	assert_int_equal(opener_tap(place->opener, "", "a/b", 1, fds, device), -EINVAL);
	assert_int_equal(opener_tap(place->opener, "", "x", 0, fds, device), -EINVAL);
	assert_int_equal(
		opener_tap(place->opener, "", "x", OPENER_QUEUES + 1, fds, device), -EINVAL);
	assert_int_equal(opener_tap(place->opener, "/etc/passwd", "x", 1, fds, device), -EINVAL);
	assert_int_equal(opener_tap(place->opener, "/no/such/netns", "x", 1, fds, device), -ENOENT);
	assert_int_equal(opener_packet(place->opener, "/etc/passwd", "lo"), -EINVAL);
	assert_int_equal(opener_packet(place->opener, "", "a/b"), -EINVAL);
	/* It still serves. */
	assert_int_equal(opener_unlink(place->opener, "a.sock"), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_listen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_listen_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stale, setup, teardown),
		cmocka_unit_test_setup_teardown(test_capture, setup, teardown),
		cmocka_unit_test_setup_teardown(test_devices_refused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
