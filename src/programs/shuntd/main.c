/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shuntd: the host side of Shunt. Reads its configuration, forks the opener, gives up its privileges (sandbox.h has the
 * stages), sets up what the configuration names, and runs the control thread's loop until a signal ends it.
 */
#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "programs/common/exit.h"
#include "programs/shuntd/control.h"
#include "programs/shuntd/notify.h"
#include "programs/shuntd/rundir.h"
#include "programs/shuntd/sandbox.h"

enum {
	AGEING_INTERVAL = 5, /* s */
	FDS_WANTED = 65536,  /* a connected vif takes about eight, one queue more three */
};

enum loop_source {
	ON_SERVER,
	ON_WORKERS,
	ON_PLATFORM,
	ON_AGEING,
	ON_TERM,
	ON_INT,
	ON_HUP,
	LOOP_SOURCES
};

static void usage(FILE *to)
{
	(void)fprintf(to, "usage: shuntd -c FILE [-t] [-v]\n"
			  "  -c FILE  the configuration, see shuntd.conf(5)\n"
			  "  -t       check the configuration and exit\n"
			  "  -v       log more\n"
			  "  -V       print the version\n");
}

/* Returns the program's exit code, 0 to go on. */
static int read_config(struct config *config, const char *path)
{
	struct config_fault fault;
	FILE *file = fopen(path, "re");
	int err;

	if (!file) {
		(void)fprintf(stderr, "shuntd: %s: %s\n", path, strerror(errno));
		return EXIT_BAD;
	}
	err = config_read(config, file, &fault);
	(void)fclose(file);
	if (err == -EINVAL)
		(void)fprintf(stderr, "%s:%u: %s\n", path, fault.line, fault.fault.text);
	else if (err)
		(void)fprintf(stderr, "shuntd: %s: %s\n", path, strerror(-err));
	return err ? EXIT_BAD : 0;
}

static void raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= FDS_WANTED)
		return;
	if (limit.rlim_max < FDS_WANTED) {
		const struct rlimit more = {FDS_WANTED, FDS_WANTED};

		if (!setrlimit(RLIMIT_NOFILE, &more))
			return;
		log_info("at most %llu open files: room for about %llu vifs",
			(unsigned long long)limit.rlim_max, (unsigned long long)limit.rlim_max / 8);
	}
	limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)FDS_WANTED);
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static bool add_configured(struct daemon *d, const struct config *config)
{
	struct fault fault;

	for (unsigned i = 0; i < config->nports; i++) {
		if (!daemon_port_add(d, &config->ports[i], &fault)) {
			log_error("port %s", fault.text);
			return false;
		}
	}
	for (unsigned i = 0; i < config->nvifs; i++) {
		if (!daemon_vif_add(d, &config->vifs[i], &fault)) {
			log_error("vif %s", fault.text);
			return false;
		}
	}
	return true;
}

/* ---- the loop ---- */

struct loop {
	struct event_base *base;
	struct daemon *d;
	struct event *events[LOOP_SOURCES];
};

static void on_server(evutil_socket_t fd, short what, void *arg)
{
	const struct loop *loop = arg;

	(void)fd, (void)what;
	hv_server_process(loop->d->server);
}

static void on_workers(evutil_socket_t fd, short what, void *arg)
{
	const struct loop *loop = arg;

	(void)fd, (void)what;
	workers_process(loop->d->workers);
}

static void on_platform(evutil_socket_t fd, short what, void *arg)
{
	const struct loop *loop = arg;

	(void)fd, (void)what;
	(void)loop->d->platform->ops->process(loop->d->platform);
}

static void on_ageing(evutil_socket_t fd, short what, void *arg)
{
	const struct loop *loop = arg;

	(void)fd, (void)what;
	(void)vswitch_age(loop->d->sw, clock_ns());
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	const struct loop *loop = arg;

	(void)what;
	log_info("signal %d: ending", (int)number);
	(void)event_base_loopbreak(loop->base);
}

static bool loop_open(struct loop *loop, struct daemon *d)
{
	const struct timeval ageing = {.tv_sec = AGEING_INTERVAL};
	const struct {
		int fd;
		short what;
		event_callback_fn fn;
	} sources[LOOP_SOURCES] = {
		[ON_SERVER] = {hv_server_fd(d->server), EV_READ | EV_PERSIST, on_server},
		[ON_WORKERS] = {workers_fd(d->workers), EV_READ | EV_PERSIST, on_workers},
		[ON_PLATFORM] = {d->platform->ops->fd(d->platform), EV_READ | EV_PERSIST,
			on_platform},
		[ON_AGEING] = {-1, EV_PERSIST, on_ageing},
		[ON_TERM] = {SIGTERM, EV_SIGNAL | EV_PERSIST, on_signal},
		[ON_INT] = {SIGINT, EV_SIGNAL | EV_PERSIST, on_signal},
		[ON_HUP] = {SIGHUP, EV_SIGNAL | EV_PERSIST, on_signal},
	};

	*loop = (struct loop){.base = event_base_new(), .d = d};
	if (!loop->base)
		return false;
	for (unsigned i = 0; i < LOOP_SOURCES; i++) {
		if (sources[i].fd < 0 && i != ON_AGEING)
			continue;
		loop->events[i] =
			event_new(loop->base, sources[i].fd, sources[i].what, sources[i].fn, loop);
		if (!loop->events[i] || event_add(loop->events[i], i == ON_AGEING ? &ageing : NULL))
			return false;
	}
	return true;
}

static void loop_close(struct loop *loop)
{
	for (unsigned i = 0; i < LOOP_SOURCES; i++) {
		if (loop->events[i])
			event_free(loop->events[i]);
	}
	if (loop->base)
		event_base_free(loop->base);
	libevent_global_shutdown();
}

/* With privileges given up and workers to be started. */
static int serve(const struct config *config, struct opener *opener)
{
	struct control *control = NULL;
	struct loop loop = {0};
	struct daemon d;
	int err = daemon_open(&d, &config->daemon, opener);
	bool ok = !err && loop_open(&loop, &d);

	if (ok) {
		err = control_new(&control, loop.base, &d);
		ok = !err && add_configured(&d, config);
	}
	if (ok) {
		err = sandbox_control(config->daemon.sandbox);
		if (err)
			log_error(
				"seccomp: %s; [shuntd] sandbox = no does without", strerror(-err));
		ok = !err;
	}
	if (ok) {
		log_info("ready: %s, %u worker%s", config->daemon.run, config->daemon.workers,
			config->daemon.workers == 1 ? "" : "s");
		notify("READY=1");
		(void)event_base_loop(loop.base, 0);
		notify("STOPPING=1");
	}
	control_free(control);
	loop_close(&loop);
	daemon_close(&d);
	return ok ? EXIT_OK : EXIT_REFUSED;
}

static int run(const struct config *config)
{
	const struct opener_config opening = {
		config->daemon.run, config->daemon.captures, PID_FILE};
	struct opener *opener = NULL;
	const char *what;
	int code = EXIT_REFUSED;
	int lock = rundir_claim(config->daemon.run, &what);
	int err;

	if (lock < 0) {
		log_error("%s: %s: %s", config->daemon.run, what, strerror(-lock));
		return EXIT_REFUSED;
	}
	raise_fd_limit();
	(void)signal(SIGPIPE, SIG_IGN);
	err = opener_start(&opener, &opening);
	if (err) {
		log_error("cannot start the opener: %s", strerror(-err));
		(void)close(lock);
		return EXIT_REFUSED;
	}
	err = sandbox_drop(config->daemon.user);
	if (err)
		log_error("cannot become user %s without capabilities: %s",
			config->daemon.user[0] ? config->daemon.user : "(the same)",
			strerror(-err));
	else
		code = serve(config, opener);
	opener_stop(opener);
	(void)close(lock);
	return code;
}

int main(int argc, char **argv)
{
	static char program[] = "shuntd";
	const char *path = NULL;
	struct config config;
	unsigned verbose = 0;
	bool test = false;
	int option;
	int code;

	while ((option = getopt(argc, argv, "c:tvVh")) != -1) {
		switch (option) {
		case 'c':
			path = optarg;
			break;
		case 't':
			test = true;
			break;
		case 'v':
			verbose++;
			break;
		case 'V':
			(void)puts("shuntd " SHUNT_VERSION);
			return EXIT_OK;
		case 'h':
			usage(stdout);
			return EXIT_OK;
		default:
			usage(stderr);
			return EXIT_BAD;
		}
	}
	if (!path || optind < argc) {
		(void)fprintf(stderr, "shuntd: %s\n",
			path ? "there is an argument too many" : "-c FILE is missing");
		return EXIT_BAD;
	}
	log_to(log_stderr, program, LOG_INFO);
	code = read_config(&config, path);
	if (code)
		return code;
	log_to(log_stderr, program, MIN(config.daemon.log + verbose, (unsigned)LOG_DEBUG));
	if (!test)
		code = run(&config);
	config_free(&config);
	return code;
}
