/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A request goes to the out buffer and the socket; then messages are taken in until the answer is there or the
 * deadline has passed. Input gathers in a buffer of one largest message, so no length from the server is ever trusted
 * with more than that.
 */
#include "platform/local/store_client.h"

#include "base/clock.h"
#include "base/util.h"
#include "platform/local/store_wire.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xen/io/xs_wire.h>

#define MESSAGE_MAX        (sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX)
#define PROCESS_READS      64 /* receive calls of one store_client_process() */
#define DIRECTORY_RESTARTS 8

struct event {
	TAILQ_ENTRY(event) link;
	const char *token; /* in path[]; NULL: events were lost here */
	char path[];
};
TAILQ_HEAD(event_list, event);

struct store_client {
	int fd;
	bool dead;
	uint32_t id;   /* of the latest request */
	unsigned late; /* requests that were given up and may still be answered */
	bool waiting;  /* for the answer to `id` */
	struct xsd_sockmsg request;
	size_t in_len, out_len;
	size_t reply_len;
	int reply_error;
	unsigned n_events, max_events;
	struct event_list events;
	struct event *given; /* to the caller */
	char in[MESSAGE_MAX];
	char out[MESSAGE_MAX];
	char reply[XENSTORE_PAYLOAD_MAX + 1]; /* and a NUL */
};

static int die(struct store_client *c, int error)
{
	c->dead = true;
	return error;
}

static int event_add(struct store_client *c, const char *payload, size_t len)
{
	const char *nul = memchr(payload, '\0', len);
	size_t path_size = nul ? (size_t)(nul - payload) + 1 : len;
	bool lost = c->n_events >= c->max_events;
	struct event *e;

	if (path_size == len || memchr(nul + 1, '\0', len - path_size) != payload + len - 1)
		return -EPROTO;
	if (lost && !TAILQ_EMPTY(&c->events) && !TAILQ_LAST(&c->events, event_list)->token)
		return 0;
	if (lost)
		len = 0;
	e = malloc(sizeof(*e) + len);
	if (!e)
		return -ENOMEM;
	memcpy(e->path, payload, len);
	e->token = lost ? NULL : e->path + path_size;
	TAILQ_INSERT_TAIL(&c->events, e, link);
	c->n_events += !lost;
	return 0;
}

/* One whole message: an event, the answer, or one that comes late. */
static int message(struct store_client *c, const struct xsd_sockmsg *h, const char *payload)
{
	if (h->type == XS_WATCH_EVENT)
		return event_add(c, payload, h->len);
	if (c->waiting && h->req_id == c->id) {
		if ((h->type != c->request.type && h->type != XS_ERROR) ||
			h->tx_id != c->request.tx_id)
			return -EPROTO;
		c->waiting = false;
		memcpy(c->reply, payload, h->len);
		c->reply[h->len] = '\0';
		c->reply_len = h->len;
		c->reply_error = h->type == XS_ERROR ? store_error_value(c->reply) : 0;
		return 0;
	}
	if (c->late == 0 || (uint32_t)(c->id - h->req_id) > STORE_CLIENT_LATE_MAX)
		return -EPROTO;
	c->late--;
	return 0;
}

/* Receive once and handle the whole messages. 1: some bytes came; 0: none; negative: dead. */
static int take_in(struct store_client *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
	struct xsd_sockmsg h;
	size_t at = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return die(c, -ENOTCONN);
	c->in_len += (size_t)n;
	while (c->in_len - at >= sizeof(h)) {
		int err;

		memcpy(&h, c->in + at, sizeof(h));
		if (h.len > XENSTORE_PAYLOAD_MAX)
			return die(c, -EPROTO);
		if (c->in_len - at - sizeof(h) < h.len)
			break;
		err = message(c, &h, c->in + at + sizeof(h));
		if (err)
			return die(c, err);
		at += sizeof(h) + h.len;
	}
	c->in_len -= at;
	memmove(c->in, c->in + at, c->in_len);
	return 1;
}

static int push_out(struct store_client *c)
{
	ssize_t n;

	if (!c->out_len)
		return 0;
	n = send(c->fd, c->out, c->out_len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : die(c, -ENOTCONN);
	c->out_len -= (size_t)n;
	memmove(c->out, c->out + n, c->out_len);
	return 0;
}

/* Exchange bytes until there is neither output nor an answer to wait for. */
static int settle(struct store_client *c, uint64_t deadline)
{
	for (;;) {
		struct pollfd pfd = {.fd = c->fd};
		int err = push_out(c);
		uint64_t now;

		if (!err)
			err = take_in(c);
		if (err < 0)
			return err;
		if (!c->out_len && !c->waiting)
			return 0;
		now = clock_ns();
		if (now >= deadline)
			return -ETIMEDOUT;
		pfd.events = (short)(POLLIN | (c->out_len ? POLLOUT : 0));
		(void)poll(&pfd, 1, clock_poll_ms(now, deadline));
	}
}

/* One request of up to two pieces of payload. Afterwards the answer is in c->reply. */
static int call(struct store_client *c, uint32_t type, uint32_t tx, const void *a, size_t a_len,
	const void *b, size_t b_len, uint64_t deadline)
{
	int err;

	if (c->dead)
		return -ENOTCONN;
	if (a_len > XENSTORE_PAYLOAD_MAX || b_len > XENSTORE_PAYLOAD_MAX - a_len)
		return -E2BIG;
	if (c->out_len) {
		err = settle(c, deadline);
		if (err)
			return err;
	}
	if (c->late == STORE_CLIENT_LATE_MAX)
		return die(c, -ENOTCONN);
	c->id++;
	c->request = (struct xsd_sockmsg){
		.type = type, .req_id = c->id, .tx_id = tx, .len = (uint32_t)(a_len + b_len)};
	memcpy(c->out, &c->request, sizeof(c->request));
	if (a_len)
		memcpy(c->out + sizeof(c->request), a, a_len);
	if (b_len)
		memcpy(c->out + sizeof(c->request) + a_len, b, b_len);
	c->out_len = sizeof(c->request) + a_len + b_len;
	c->waiting = true;
	err = settle(c, deadline);
	if (err == -ETIMEDOUT) {
		c->waiting = false;
		c->late++;
	}
	return err ? err : c->reply_error;
}

/* A request whose payload is one or two strings. */
static int call_strings(struct store_client *c, uint32_t type, uint32_t tx, const char *a,
	const char *b, uint64_t deadline)
{
	return call(c, type, tx, a, strlen(a) + 1, b, b ? strlen(b) + 1 : 0, deadline);
}

struct store_client *store_client_new(int fd, unsigned max_events)
{
	struct store_client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->fd = fd;
	c->max_events = max_events;
	TAILQ_INIT(&c->events);
	return c;
}

void store_client_free(struct store_client *c)
{
	struct event *e;

	if (!c)
		return;
	while ((e = TAILQ_FIRST(&c->events))) {
		TAILQ_REMOVE(&c->events, e, link);
		free(e);
	}
	free(c->given);
	(void)close(c->fd);
	free(c);
}

int store_client_fd(const struct store_client *c)
{
	return c->fd;
}

int store_client_read(struct store_client *c, uint32_t tx, const char *path, void *buf, size_t size,
	uint64_t deadline)
{
	int err = call_strings(c, XS_READ, tx, path, NULL, deadline);

	if (err)
		return err;
	if (size <= c->reply_len)
		return -ENOBUFS;
	memcpy(buf, c->reply, c->reply_len + 1);
	return (int)c->reply_len;
}

int store_client_write(struct store_client *c, uint32_t tx, const char *path, const void *value,
	size_t len, uint64_t deadline)
{
	return call(c, XS_WRITE, tx, path, strlen(path) + 1, value, len, deadline);
}

int store_client_mkdir(struct store_client *c, uint32_t tx, const char *path, uint64_t deadline)
{
	return call_strings(c, XS_MKDIR, tx, path, NULL, deadline);
}

int store_client_rm(struct store_client *c, uint32_t tx, const char *path, uint64_t deadline)
{
	return call_strings(c, XS_RM, tx, path, NULL, deadline);
}

int store_client_get_perms(struct store_client *c, uint32_t tx, const char *path,
	struct store_perm *perms, unsigned max, uint64_t deadline)
{
	int err = call_strings(c, XS_GET_PERMS, tx, path, NULL, deadline);
	unsigned n = 0;

	if (err)
		return err;
	for (size_t at = 0; at < c->reply_len; at += strlen(c->reply + at) + 1) {
		if (n == max)
			return -ENOBUFS;
		if (store_perm_parse(c->reply + at, &perms[n]))
			return die(c, -EPROTO);
		n++;
	}
	return n ? (int)n : die(c, -EPROTO);
}

int store_client_set_perms(struct store_client *c, uint32_t tx, const char *path,
	const struct store_perm *perms, unsigned n, uint64_t deadline)
{
	char text[(size_t)STORE_PERMS_MAX * STORE_PERM_TEXT];
	size_t at = 0;

	if (n > STORE_PERMS_MAX)
		return -E2BIG;
	for (unsigned i = 0; i < n; i++) {
		store_perm_format(&perms[i], text + at);
		at += strlen(text + at) + 1;
	}
	return call(c, XS_SET_PERMS, tx, path, strlen(path) + 1, text, at, deadline);
}

int store_client_tx_start(struct store_client *c, uint32_t *tx, uint64_t deadline)
{
	int err = call_strings(c, XS_TRANSACTION_START, 0, "", NULL, deadline);
	unsigned long long id;
	char *end;

	if (err)
		return err;
	errno = 0;
	id = strtoull(c->reply, &end, 10);
	if (errno || end == c->reply || *end || id == 0 || id > UINT32_MAX)
		return die(c, -EPROTO);
	*tx = (uint32_t)id;
	return 0;
}

int store_client_tx_end(struct store_client *c, uint32_t tx, bool commit, uint64_t deadline)
{
	return call_strings(c, XS_TRANSACTION_END, tx, commit ? "T" : "F", NULL, deadline);
}

int store_client_watch(
	struct store_client *c, const char *path, const char *token, uint64_t deadline)
{
	return call_strings(c, XS_WATCH, 0, path, token, deadline);
}

int store_client_unwatch(
	struct store_client *c, const char *path, const char *token, uint64_t deadline)
{
	return call_strings(c, XS_UNWATCH, 0, path, token, deadline);
}

int store_client_reset(struct store_client *c, uint64_t deadline)
{
	return call_strings(c, XS_RESET_WATCHES, 0, "", NULL, deadline);
}

/* Whole names only, none empty, none with a slash: their number, or -EPROTO. */
static int names_check(const char *names, size_t len)
{
	int n = 0;

	for (size_t at = 0; at < len; n++) {
		size_t size = strnlen(names + at, len - at);

		if (size == 0 || size == len - at || memchr(names + at, '/', size))
			return -EPROTO;
		at += size + 1;
	}
	return n;
}

/* The answer to DIRECTORY_PART: `names` grows by it. 1: that was the last part; 0: go on; -EAGAIN: the list is not the
 * one whose generation is in `gen`, which is empty for the first part. */
static int part_add(struct store_client *c, char *gen, size_t gen_size, char **names, size_t *len)
{
	size_t gen_len = strlen(c->reply), part = gen_len + 1, add;
	bool last;
	char *all;

	if (gen_len == 0 || gen_len >= gen_size || part >= c->reply_len ||
		c->reply[c->reply_len - 1] != '\0')
		return -EPROTO;
	if (!gen[0])
		memcpy(gen, c->reply, gen_len + 1);
	else if (strcmp(gen, c->reply) != 0)
		return -EAGAIN;
	add = c->reply_len - part;
	last = add == 1 || c->reply[c->reply_len - 2] == '\0';
	add -= last;
	if (*len + add > STORE_CLIENT_DIRECTORY_MAX)
		return -EPROTO;
	all = realloc(*names, *len + add + 1);
	if (!all)
		return -ENOMEM;
	*names = all;
	memcpy(all + *len, c->reply + part, add);
	*len += add;
	return last;
}

static int directory_parts(struct store_client *c, uint32_t tx, const char *path, char **names,
	size_t *len, uint64_t deadline)
{
	char offset[24], gen[24] = "";
	unsigned restarts = 0;
	int done = 0;

	while (!done) {
		(void)snprintf(offset, sizeof(offset), "%zu", *len);
		done = call_strings(c, XS_DIRECTORY_PART, tx, path, offset, deadline);
		if (done < 0)
			break;
		done = part_add(c, gen, sizeof(gen), names, len);
		if (done == -EPROTO)
			(void)die(c, done);
		if (done == -EAGAIN && restarts++ < DIRECTORY_RESTARTS) {
			gen[0] = '\0';
			*len = 0;
			done = 0;
		}
	}
	return done < 0 ? done : 0;
}

int store_client_directory(struct store_client *c, uint32_t tx, const char *path, char **names,
	size_t *len, uint64_t deadline)
{
	int err = call_strings(c, XS_DIRECTORY, tx, path, NULL, deadline);

	*names = NULL;
	*len = 0;
	if (err == -E2BIG && !c->dead) {
		err = directory_parts(c, tx, path, names, len, deadline);
	} else if (!err) {
		*names = malloc(c->reply_len + 1);
		if (!*names)
			return -ENOMEM;
		*len = c->reply_len;
		memcpy(*names, c->reply, c->reply_len);
	}
	if (!err) {
		err = names_check(*names, *len);
		if (err < 0)
			(void)die(c, err);
	}
	if (err < 0) {
		free(*names);
		*names = NULL;
	}
	return err;
}

int store_client_process(struct store_client *c)
{
	if (c->dead)
		return -ENOTCONN;
	for (unsigned i = 0; i < PROCESS_READS; i++) {
		int n = push_out(c);

		if (!n)
			n = take_in(c);
		if (n < 0)
			return n;
		if (n == 0)
			break;
	}
	return (int)c->n_events;
}

int store_client_next_event(struct store_client *c, const char **path, const char **token)
{
	struct event *e = TAILQ_FIRST(&c->events);

	free(c->given);
	c->given = e;
	if (!e)
		return 0;
	TAILQ_REMOVE(&c->events, e, link);
	if (!e->token)
		return -EOVERFLOW;
	c->n_events--;
	*path = e->path;
	*token = e->token;
	return 1;
}
