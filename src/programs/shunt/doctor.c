/* SPDX-License-Identifier: BSD-3-Clause */
#include "programs/shunt/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

enum {
	KERNEL_MAJOR = 5, /* 5.6: openat2; 5.1: F_SEAL_FUTURE_WRITE */
	KERNEL_MINOR = 6,
	FDS_USUAL = 1024,
};

void doctor_check(json_t *list, const char *status, const char *what, const char *value,
	const char *cause, const char *cure)
{
	(void)json_array_append_new(
		list, json_pack("{s:s, s:s, s:s, s:s*, s:s*}", "status", status, "what", what,
			      "value", value, "cause", cause, "cure", cure));
}

static void check_kernel(json_t *list)
{
	struct utsname name;
	unsigned major = 0;
	unsigned minor = 0;

	if (uname(&name))
		return;
	if (sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
		(major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR)))
		doctor_check(list, "ok", "kernel", name.release, NULL, NULL);
	else
		doctor_check(list, "fail", "kernel", name.release, "older than 5.6",
			"use Debian 11 or later");
}

static void check_sealing(json_t *list)
{
	int fd = memfd_create("doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && !ftruncate(fd, 4096) &&
		!fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE))
		doctor_check(list, "ok", "shared memory", "memfd with seals", NULL, NULL);
	else
		doctor_check(list, "fail", "shared memory", strerror(errno),
			"the kernel does not seal memfds",
			"a kernel of 5.1 or later, with CONFIG_MEMFD_CREATE");
	if (fd >= 0)
		(void)close(fd);
}

static void check_tun(json_t *list)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0) {
		doctor_check(list, "ok", "/dev/net/tun", "can be opened", NULL, NULL);
		(void)close(fd);
	} else if (errno == EACCES || errno == EPERM) {
		doctor_check(list, "note", "/dev/net/tun", strerror(errno), "not open to this user",
			"run doctor as root");
	} else {
		doctor_check(list, "note", "/dev/net/tun", strerror(errno),
			"the tun module is not loaded: no tap ports", "modprobe tun");
	}
}

static void check_limits(json_t *list)
{
	struct rlimit limit;
	char value[64];

	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		(void)snprintf(value, sizeof(value), "%llu, at most %llu",
			(unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
		if (limit.rlim_max > FDS_USUAL)
			doctor_check(
				list, "ok", "open files a process may have", value, NULL, NULL);
		else
			doctor_check(list, "note", "open files a process may have", value,
				"enough for about 120 vifs",
				"ulimit -Hn, or LimitNOFILE of the service");
	}
	doctor_check(list, "ok", "locked memory", "not needed", NULL, NULL);
	doctor_check(list, "ok", "huge pages", "not needed", NULL, NULL);
	(void)snprintf(value, sizeof(value), "%ld", sysconf(_SC_NPROCESSORS_ONLN));
	doctor_check(list, "ok", "CPUs", value, NULL, NULL);
}

static void check_run(json_t *list, const char *socket_path)
{
	char dir[256];
	char value[300];
	const char *slash = strrchr(socket_path, '/');
	size_t len = slash ? (size_t)(slash - socket_path) : 0;
	struct stat st;

	if (len == 0 || len >= sizeof(dir))
		return;
	memcpy(dir, socket_path, len);
	dir[len] = '\0';
	if (stat(dir, &st)) {
		(void)snprintf(value, sizeof(value), "%s: %s", dir, strerror(errno));
		doctor_check(list, "fail", "run directory", value, "no shuntd has run with it",
			"start shuntd, or see --socket");
	} else if (!S_ISDIR(st.st_mode) || (st.st_mode & 022)) {
		(void)snprintf(value, sizeof(value), "%s, mode %o", dir, st.st_mode & 07777);
		doctor_check(list, "fail", "run directory", value,
			"others can put sockets of their own there", "chmod go-w");
	} else {
		doctor_check(list, "ok", "run directory", dir, NULL, NULL);
	}
}

void doctor_machine(json_t *list, const char *socket_path)
{
	check_kernel(list);
	check_sealing(list);
	check_tun(list);
	check_limits(list);
	check_run(list, socket_path);
}
