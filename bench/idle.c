/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest with many vifs that does nothing with them, for idle-vifs. It connects to COUNT sockets, whose names are
 * PREFIX, a number from 0 and ".sock", writes "ready" when all links are up, and sleeps on its context until stdin
 * ends.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <shunt/context.h>

enum { FDS_A_VIF = 16, FDS_MORE = 64, COUNT_MAX = 16384, PATIENCE = 120 /* s */ };

#define MS 1000000ull

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 * MS + (uint64_t)ts.tv_nsec;
}

/* The time left until `deadline` as poll(2) wants it. */
static int left_ms(uint64_t deadline)
{
	uint64_t now = now_ns();

	if (deadline <= now)
		return 0;
	deadline = (deadline - now + MS - 1) / MS;
	return deadline < 1000 ? (int)deadline : 1000;
}

static unsigned count_up(struct shunt_port **ports, unsigned count)
{
	struct shunt_port_info info;
	unsigned up = 0;

	for (unsigned i = 0; i < count; i++) {
		shunt_port_info(ports[i], &info);
		up += info.link_up;
	}
	return up;
}

/* One sleep and what there was to do. Returns false when stdin ended. */
static bool turn(struct shunt_context *context)
{
	struct pollfd fds[] = {{.fd = shunt_context_fd(context), .events = POLLIN},
		{.fd = STDIN_FILENO, .events = POLLIN}};

	(void)poll(fds, 2, left_ms(shunt_context_deadline(context)));
	if (fds[1].revents)
		return false;
	if (fds[0].revents || shunt_context_deadline(context) <= now_ns())
		shunt_context_process(context);
	return true;
}

static bool connect_all(struct shunt_context *context, const char *prefix,
	struct shunt_port **ports, unsigned count)
{
	uint64_t limit = now_ns() + PATIENCE * 1000 * MS;
	char name[256];

	for (unsigned i = 0; i < count; i++) {
		(void)snprintf(name, sizeof(name), "vif:%s%u.sock", prefix, i);
		if (shunt_open(context, name, NULL, &ports[i])) {
			(void)fprintf(stderr, "idle: %s: %s\n", name, shunt_context_error(context));
			return false;
		}
		/* Each as soon as it is there: a loop over all of them costs as much for one as for all. */
		for (struct shunt_port_info info = {0}; !info.link_up && now_ns() < limit;) {
			if (!turn(context))
				return false;
			shunt_port_info(ports[i], &info);
		}
	}
	if (count_up(ports, count) == count)
		return true;
	(void)fprintf(stderr, "idle: %u of %u links came up\n", count_up(ports, count), count);
	return false;
}

/* As many as the system gives, if that is less. */
static void allow_fds(rlim_t count)
{
	struct rlimit limit = {0, 0};

	(void)getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = count < limit.rlim_max ? count : limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		perror("idle: RLIMIT_NOFILE");
}

int main(int argc, char **argv)
{
	unsigned long count = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	struct shunt_context *context;
	struct shunt_port **ports;
	int code = EXIT_FAILURE;

	if (count == 0 || count > COUNT_MAX) {
		(void)fprintf(stderr, "usage: idle PREFIX COUNT\n");
		return 2;
	}
	allow_fds(count * FDS_A_VIF + FDS_MORE);
	ports = calloc(count, sizeof(*ports));
	if (!ports || shunt_context_new(&context)) {
		perror("idle");
		free(ports);
		return EXIT_FAILURE;
	}
	if (connect_all(context, argv[1], ports, (unsigned)count)) {
		(void)puts("ready");
		(void)fflush(stdout);
		while (turn(context))
			;
		code = EXIT_SUCCESS;
	}
	shunt_context_free(context);
	free(ports);
	return code;
}
