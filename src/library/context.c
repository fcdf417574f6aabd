/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The table that opens a port by name, and the loop behind vifs. The context's fd is an epoll of what its ports wait on;
 * a vif's is put in again after each process, because a reconnected one has a new one.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <shunt/context.h>

#include "base/clock.h"
#include "base/log.h"
#include "vif/guest.h"

struct entry {
	struct entry *next;
	struct vif_guest *guest;
	int fd;
};

struct shunt_context {
	int epoll;
	struct entry *guests;
	char error[192];
};

/* The public face of base/log.h. The one thing here that a whole process shares. */
static void (*public_sink)(void *arg, int level, const char *line);

static void pass_on(void *arg, enum log_level level, const char *line)
{
	public_sink(arg, (int)level, line);
}

void shunt_log_to(void (*sink)(void *arg, int level, const char *line), void *arg)
{
	public_sink = sink;
	log_to(sink ? pass_on : NULL, arg, LOG_INFO);
}

int shunt_context_new(struct shunt_context **out)
{
	struct shunt_context *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (c->epoll < 0) {
		free(c);
		return -EMFILE;
	}
	*out = c;
	return 0;
}

void shunt_context_free(struct shunt_context *c)
{
	if (!c)
		return;
	while (c->guests)
		shunt_port_close(vif_guest_port(c->guests->guest));
	(void)close(c->epoll);
	free(c);
}

static void entry_watch(struct shunt_context *c, struct entry *e)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = e};
	int fd = vif_guest_fd(e->guest);

	if (fd == e->fd)
		return;
	/* A closed fd has left the set by itself. */
	e->fd = fd >= 0 && !epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &event) ? fd : -1;
}

int shunt_context_fd(struct shunt_context *c)
{
	return c->epoll;
}

uint64_t shunt_context_deadline(struct shunt_context *c)
{
	uint64_t first = CLOCK_NEVER;

	for (struct entry *e = c->guests; e; e = e->next)
		first = MIN(first, vif_guest_deadline(e->guest));
	return first;
}

void shunt_context_process(struct shunt_context *c)
{
	for (struct entry *e = c->guests; e; e = e->next) {
		int fd = vif_guest_fd(e->guest);

		vif_guest_process(e->guest);
		if (vif_guest_fd(e->guest) < 0 || fd < 0)
			e->fd = -1;
		entry_watch(c, e);
	}
}

static void guest_closed(void *arg, struct vif_guest *guest)
{
	struct shunt_context *c = arg;
	struct entry **at = &c->guests;
	struct entry *e;

	while ((*at)->guest != guest)
		at = &(*at)->next;
	e = *at;
	*at = e->next;
	free(e);
}

static int wait_link(struct shunt_context *c, struct shunt_port *port, unsigned wait_ms)
{
	uint64_t deadline = clock_ns() + wait_ms * CLOCK_MS;
	struct shunt_port_info info;

	for (;;) {
		struct pollfd fd = {.fd = c->epoll, .events = POLLIN};
		uint64_t now = clock_ns();

		shunt_context_process(c);
		shunt_port_info(port, &info);
		if (info.link_up)
			return 0;
		if (now >= deadline)
			return -ETIMEDOUT;
		(void)poll(&fd, 1, clock_poll_ms(now, MIN(deadline, shunt_context_deadline(c))));
	}
}

static int vif_open(struct shunt_context *c, const char *socket, const struct shunt_open_options *o,
	struct shunt_port **out)
{
	struct vif_guest_config config = {
		.socket = socket,
		.front = {.max_queues = o->queues,
			.split = !o->no_split,
			.no_csum = o->no_offload,
			.no_gso = o->no_offload,
			.multicast_filter = o->filter_multicast},
	};
	struct entry *e = calloc(1, sizeof(*e));
	int err;

	if (!e)
		return -ENOMEM;
	err = vif_guest_open(&e->guest, &config, c->error, sizeof(c->error));
	if (err) {
		free(e);
		return err;
	}
	e->fd = -1;
	e->next = c->guests;
	c->guests = e;
	vif_guest_on_close(e->guest, guest_closed, c);
	entry_watch(c, e);
	*out = vif_guest_port(e->guest);
	if (o->wait_ms && (err = wait_link(c, *out, o->wait_ms)) != 0) {
		(void)snprintf(c->error, sizeof(c->error), "the link did not come up within %u ms",
			o->wait_ms);
		shunt_port_close(*out);
	}
	return err;
}

int shunt_open(struct shunt_context *c, const char *name, const struct shunt_open_options *options,
	struct shunt_port **out)
{
	static const struct {
		const char *kind;
		int (*open)(struct shunt_port **out, const char *name);
	} kinds[] = {{"null", port_null_open}, {"tap", port_tap_open},
		{"packet", port_af_packet_open}, {"pcap", port_pcap_open}};
	struct shunt_open_options o = {0};
	const char *colon = strchr(name, ':');
	int err;

	if (options)
		memcpy(&o, options, MIN(options->size, sizeof(o)));
	c->error[0] = 0;
	if (colon && !strncmp(name, "vif:", 4)) {
		err = vif_open(c, colon + 1, &o, out);
		if (err && !c->error[0])
			(void)snprintf(c->error, sizeof(c->error), "%s: %s", name, strerror(-err));
		return err;
	}
	for (unsigned i = 0; colon && i < ARRAY_SIZE(kinds); i++) {
		if (strlen(kinds[i].kind) != (size_t)(colon - name) ||
			strncmp(name, kinds[i].kind, (size_t)(colon - name)) != 0)
			continue;
		err = kinds[i].open(out, colon + 1);
		if (err)
			(void)snprintf(c->error, sizeof(c->error), "%s: %s", name, strerror(-err));
		return err;
	}
	(void)snprintf(c->error, sizeof(c->error),
		"%s: ports are null:, tap:, packet:, pcap: or vif:", name);
	return -EINVAL;
}

const char *shunt_context_error(const struct shunt_context *c)
{
	return c->error;
}

struct shunt_pool *shunt_vif_pool(struct shunt_port *port, unsigned queue)
{
	struct vif_guest *guest = vif_guest_of(port);
	struct netif_frontend *front = guest ? vif_guest_frontend(guest) : NULL;

	return front && queue < front->front.nqueues ? front->front.queues[queue].tx_pool : NULL;
}

int shunt_vif_multicast(struct shunt_port *port, const uint8_t mac[6], bool add)
{
	struct vif_guest *guest = vif_guest_of(port);
	struct netif_frontend *front = guest ? vif_guest_frontend(guest) : NULL;

	if (!guest)
		return -EOPNOTSUPP;
	return front ? netif_frontend_multicast(front, mac, add) : -ENOTCONN;
}
