/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shunt-tap: a guest that shows its vif as an ordinary Linux network device.
 *
 * A TAP device in the namespace asked for, with the vif's MAC and MTU, and a loop that moves packets both ways. What the kernel sends is read straight into memory that the host can reach, so that it is sent without a copy here;
 * what the host delivers is written from where it was delivered. When the vif cannot take more, the TAP is not read: the
 * kernel's queue holds its senders back and nothing is lost here.
 *
 * It is a program on libshunt's public interface alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <shunt/context.h>
#include <shunt/pool.h>
#include <shunt/port.h>

#include "base/clock.h"
#include "base/util.h"
#include "base/wait.h"

enum { EXIT_USAGE = 2, CONTROL_EVERY_NS = 10000000 };

struct settings {
	const char *netns;
	const char *ifname;
	const char *socket;
	bool no_offload;
};

/* One direction. What the receiver did not take waits here, and nothing more is read meanwhile. */
struct flow {
	struct shunt_port *from;
	struct shunt_port *to;
	struct shunt_packet *held[SHUNT_BATCH];
	unsigned first;
	unsigned count;
};

static volatile sig_atomic_t stopping;

static void on_signal(int signal)
{
	(void)signal;
	stopping = 1;
}

static int complain(const char *what, const char *name, int err)
{
	(void)fprintf(stderr, "shunt-tap: %s %s: %s\n", what, name, strerror(-err));
	return err;
}

/* Enter a namespace by name (as ip-netns(8) keeps them) or by path. Returns an fd of the one before, or an error. */
static int enter(const char *netns)
{
	char path[256];
	int before = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int fd;

	if (before < 0)
		return -errno;
	(void)snprintf(path, sizeof(path), "%s%s", strchr(netns, '/') ? "" : "/run/netns/", netns);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET)) {
		int err = -errno;

		(void)close(before);
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	(void)close(fd);
	return before;
}

/* Give the device the vif's MAC and MTU and bring it up. */
static int set_device(const char *ifname, const struct shunt_port_info *vif)
{
	struct ifreq request = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = 0;

	if (fd < 0)
		return -errno;
	(void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", ifname);
	request.ifr_hwaddr.sa_family = 1; /* ARPHRD_ETHER */
	memcpy(request.ifr_hwaddr.sa_data, vif->mac, sizeof(vif->mac));
	if (ioctl(fd, SIOCSIFHWADDR, &request))
		err = -errno;
	request.ifr_mtu = (int)vif->mtu;
	if (!err && ioctl(fd, SIOCSIFMTU, &request))
		err = -errno;
	if (!err && ioctl(fd, SIOCGIFFLAGS, &request))
		err = -errno;
	request.ifr_flags |= IFF_UP;
	if (!err && ioctl(fd, SIOCSIFFLAGS, &request))
		err = -errno;
	(void)close(fd);
	return err;
}

static int open_tap(struct shunt_context *context, const struct settings *s,
	const struct shunt_port_info *vif, struct shunt_port **out)
{
	char name[64];
	int before = s->netns ? enter(s->netns) : -1;
	int err;

	if (s->netns && before < 0)
		return complain("cannot enter namespace", s->netns, before);
	(void)snprintf(name, sizeof(name), "tap:%s", s->ifname);
	err = shunt_open(context, name, NULL, out);
	if (err)
		(void)fprintf(stderr, "shunt-tap: %s\n", shunt_context_error(context));
	if (!err) {
		err = set_device(s->ifname, vif);
		if (err) {
			(void)complain("cannot set up", s->ifname, err);
			shunt_port_close(*out);
		}
	}
	if (before >= 0) {
		(void)setns(before, CLONE_NEWNET);
		(void)close(before);
	}
	return err;
}

/* Move one batch. Returns whether there was anything. */
static bool flow_move(struct flow *f)
{
	unsigned sent;

	if (f->count == 0) {
		f->first = 0;
		f->count = shunt_port_rx(f->from, 0, f->held, SHUNT_BATCH);
		if (f->count == 0)
			return false;
	}
	sent = shunt_port_tx(f->to, 0, f->held + f->first, f->count);
	f->first += sent;
	f->count -= sent;
	return sent > 0;
}

static void flow_drop(struct flow *f)
{
	shunt_packets_release(f->held + f->first, f->count);
	f->count = 0;
}

/* Sleep until something may have changed. */
static void rest(struct shunt_context *context, struct flow *up, struct flow *down)
{
	struct pollfd fds[3] = {{.fd = shunt_context_fd(context), .events = POLLIN},
		{.fd = shunt_port_fd(down->from, 0), .events = POLLIN},
		{.fd = shunt_port_fd(up->from, 0), .events = POLLIN}};
	uint64_t now = clock_ns();
	uint64_t until = MIN(shunt_context_deadline(context), shunt_port_deadline(up->from, 0));

	if (!shunt_port_arm(down->from, 0))
		return;
	/* While the vif is full its own event says when it is not. */
	if (up->count)
		fds[2].fd = -1;
	else if (!shunt_port_arm(up->from, 0))
		return;
	/* A TAP that does not take a frame says nothing when it would again. */
	if (down->count)
		until = MIN(until, now + CLOCK_MS);
	(void)poll(fds, ARRAY_SIZE(fds), clock_poll_ms(now, MIN(until, now + CLOCK_SECOND)));
}

static void run(struct shunt_context *context, struct shunt_port *vif, struct shunt_port *tap)
{
	struct flow up = {.from = tap, .to = vif};
	struct flow down = {.from = vif, .to = tap};
	struct shunt_pool *pool = NULL;
	struct adaptive_wait wait;
	uint64_t control = 0;

	wait_init(&wait);
	while (!stopping) {
		uint64_t now = clock_ns();
		bool moved;

		if (now >= control) {
			struct shunt_pool *fresh;

			shunt_context_process(context);
			fresh = shunt_vif_pool(vif, 0);
			if (fresh != pool && fresh)
				(void)shunt_port_use_pool(tap, 0, fresh);
			pool = fresh;
			control = now + CONTROL_EVERY_NS;
		}
		moved = flow_move(&up);
		moved = flow_move(&down) || moved;
		if (moved) {
			wait_work(&wait, now);
		} else if (wait_enough(&wait, now)) {
			rest(context, &up, &down);
			control = 0;
		}
	}
	flow_drop(&up);
	flow_drop(&down);
}

static void say(void *arg, int level, const char *line)
{
	(void)arg;
	if (level < 2)
		(void)fprintf(stderr, "shunt-tap: %s\n", line);
}

static int usage(const char *what)
{
	(void)fprintf(stderr,
		"shunt-tap: %s\n"
		"usage: shunt-tap [-n NETNS] [-i IFNAME] [--no-offload] SOCKET\n",
		what);
	return EXIT_USAGE;
}

static int parse(struct settings *s, int argc, char **argv)
{
	static const struct option options[] = {
		{"netns", required_argument, NULL, 'n'},
		{"ifname", required_argument, NULL, 'i'},
		{"no-offload", no_argument, NULL, 'o'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	int option;

	*s = (struct settings){.ifname = "shunt0"};
	while ((option = getopt_long(argc, argv, "n:i:V", options, NULL)) != -1) {
		if (option == 'n')
			s->netns = optarg;
		else if (option == 'i')
			s->ifname = optarg;
		else if (option == 'o')
			s->no_offload = true;
		else if (option == 'V')
			exit(printf("shunt-tap %s\n", SHUNT_VERSION) < 0);
		else
			return usage("unknown option");
	}
	if (optind + 1 != argc)
		return usage("exactly one vif socket is needed");
	if (strlen(s->ifname) >= IFNAMSIZ || strchr(s->ifname, '/'))
		return usage("not a device name");
	s->socket = argv[optind];
	return 0;
}

int main(int argc, char **argv)
{
	struct shunt_open_options options = {.size = sizeof(options), .wait_ms = 5000};
	struct sigaction action = {.sa_handler = on_signal};
	struct shunt_context *context;
	struct shunt_port_info info;
	struct shunt_port *vif;
	struct shunt_port *tap;
	struct settings s;
	char name[128];
	int err = parse(&s, argc, argv);

	if (err)
		return err;
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	shunt_log_to(say, NULL);
	err = shunt_context_new(&context);
	if (err)
		return complain("cannot start", "", err) != 0;
	options.no_offload = s.no_offload;
	(void)snprintf(name, sizeof(name), "vif:%s", s.socket);
	err = shunt_open(context, name, &options, &vif);
	if (err) {
		(void)fprintf(
			stderr, "shunt-tap: %s: %s\n", s.socket, shunt_context_error(context));
		shunt_context_free(context);
		return 1;
	}
	shunt_port_info(vif, &info);
	err = open_tap(context, &s, &info, &tap);
	if (!err) {
		/* Said when packets flow, for whoever waits for it. */
		(void)printf("%s up\n", s.ifname);
		(void)fflush(stdout);
		run(context, vif, tap);
		shunt_port_close(tap);
	}
	shunt_port_close(vif);
	shunt_context_free(context);
	return err != 0;
}
