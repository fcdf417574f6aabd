/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client's next line is taken only when its last reply has left, so what is kept for it is one line in and one reply
 * out.
 */
#include "programs/shuntd/control.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "programs/shuntd/verbs.h"

struct client {
	LIST_ENTRY(client) link;
	struct control *control;
	struct bufferevent *io;
	bool last;  /* close when the reply is out */
	bool ended; /* it asks nothing more than what is here already */
};

struct control {
	struct event_base *base;
	struct daemon *d;
	int fd;
	struct event *accept;
	unsigned nclients;
	LIST_HEAD(, client) clients;
};

/* With a client that asked for the end of shuntd, and has its answer or is gone, the loop ends. */
static void client_free(struct client *client)
{
	struct control *control = client->control;

	LIST_REMOVE(client, link);
	control->nclients--;
	if (control->d->stop)
		(void)event_base_loopbreak(control->base);
	bufferevent_free(client->io);
	free(client);
}

static bool reply(struct client *client, json_t *answer)
{
	struct evbuffer *out = bufferevent_get_output(client->io);
	char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
	bool ok = text && !evbuffer_add(out, text, strlen(text)) && !evbuffer_add(out, "\n", 1);

	free(text);
	json_decref(answer);
	return ok;
}

/* The next request, if its line is complete and the last reply has left. False: the client is done for. */
static bool serve(struct client *client)
{
	struct daemon *d = client->control->d;
	struct evbuffer *in = bufferevent_get_input(client->io);
	size_t len;
	char *line;
	bool ok;

	if (client->last || evbuffer_get_length(bufferevent_get_output(client->io)))
		return true;
	line = evbuffer_readln(in, &len, EVBUFFER_EOL_LF);
	if (!line) {
		if (evbuffer_get_length(in) < CONTROL_LINE)
			return true;
		client->last = true;
		return reply(client, verbs_error("", "a request is longer than 65535 bytes"));
	}
	ok = reply(client, verbs_line(d, line, len));
	free(line);
	client->last = d->stop;
	return ok;
}

static void on_read(struct bufferevent *io, void *arg)
{
	struct client *client = arg;

	(void)io;
	if (!serve(client))
		client_free(client);
}

static bool answered(const struct client *client)
{
	return evbuffer_get_length(bufferevent_get_output(client->io)) == 0;
}

/* The reply is out. */
static void on_written(struct bufferevent *io, void *arg)
{
	struct client *client = arg;

	(void)io;
	if (client->last || !serve(client) || (client->ended && answered(client)))
		client_free(client);
}

static void on_event(struct bufferevent *io, short what, void *arg)
{
	struct client *client = arg;

	(void)io;
	/* A client may shut down its sending side and then read: what it asked is answered. */
	client->ended = what & BEV_EVENT_EOF;
	if (!client->ended || answered(client))
		client_free(client);
}

static bool may(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

static void on_accept(evutil_socket_t listening, short what, void *arg)
{
	const struct timeval patience = {.tv_sec = CONTROL_PATIENCE};
	struct control *control = arg;
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *client;

	(void)what;
	if (fd < 0)
		return;
	client = may(fd) && control->nclients < CONTROL_CLIENTS ? calloc(1, sizeof(*client)) : NULL;
	if (!client) {
		(void)close(fd);
		return;
	}
	client->io = bufferevent_socket_new(control->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!client->io) {
		(void)close(fd);
		free(client);
		return;
	}
	client->control = control;
	LIST_INSERT_HEAD(&control->clients, client, link);
	control->nclients++;
	bufferevent_setcb(client->io, on_read, on_written, on_event, client);
	bufferevent_setwatermark(client->io, EV_READ, 0, CONTROL_LINE);
	(void)bufferevent_set_timeouts(client->io, NULL, &patience);
	if (bufferevent_enable(client->io, EV_READ | EV_WRITE))
		client_free(client);
}

int control_new(struct control **out, struct event_base *base, struct daemon *d)
{
	struct control *control = calloc(1, sizeof(*control));

	if (!control)
		return -ENOMEM;
	control->base = base;
	control->d = d;
	control->fd = d->control_fd;
	LIST_INIT(&control->clients);
	control->accept = event_new(base, control->fd, EV_READ | EV_PERSIST, on_accept, control);
	if (!control->accept || event_add(control->accept, NULL)) {
		if (control->accept)
			event_free(control->accept);
		free(control);
		return -ENOMEM;
	}
	d->control_fd = -1;
	*out = control;
	return 0;
}

void control_free(struct control *control)
{
	struct client *next;

	if (!control)
		return;
	for (struct client *client = LIST_FIRST(&control->clients); client; client = next) {
		next = LIST_NEXT(client, link);
		client_free(client);
	}
	event_free(control->accept);
	(void)close(control->fd);
	free(control);
}
