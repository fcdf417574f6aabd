/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A store on a UNIX socket, for tests with foreign clients:
 *
 *   store_server [--domain N] PATH
 *
 * Every connection acts as domain N (0 if not given), which is introduced and owns /local/domain/N. Writes "ready" and a
 * newline to standard output when it listens; ends on SIGTERM or SIGINT and removes the socket.
 */
#include "base/util.h"
#include "platform/local/store.h"
#include "platform/local/store_wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PEERS_MAX 64

struct peer {
	int fd; /* -1: free */
	struct store_conn *conn;
};

static ssize_t peer_send(void *arg, const void *bytes, size_t len)
{
	struct peer *p = arg;
	ssize_t n = send(p->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	return n >= 0 ? n : errno == EAGAIN ? 0 : -errno;
}

static void peer_drop(struct peer *p)
{
	store_conn_free(p->conn);
	(void)close(p->fd);
	p->fd = -1;
}

static void peer_closed(void *arg, enum store_refusal why)
{
	(void)fprintf(stderr, "store_server: connection closed: %s\n", store_refusal_names[why]);
	peer_drop(arg);
}

static const struct store_conn_ops ops = {.send = peer_send, .closed = peer_closed};

/* False: the peer has hung up. */
static bool peer_input(struct peer *p)
{
	char buf[8192];
	ssize_t n = recv(p->fd, buf, MIN(sizeof(buf), store_conn_room(p->conn)), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n > 0)
		(void)store_conn_input(
			p->conn, buf, (size_t)n); /* an error comes to peer_closed() */
	return n > 0;
}

static void peer_accept(struct peer *peers, struct store *store, uint16_t domid, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	for (unsigned i = 0; fd >= 0 && i < PEERS_MAX; i++) {
		if (peers[i].fd >= 0)
			continue;
		peers[i].conn = store_conn_new(store, domid, &ops, &peers[i]);
		if (!peers[i].conn)
			break;
		peers[i].fd = fd;
		return;
	}
	if (fd >= 0)
		(void)close(fd);
}

static void serve(struct store *store, uint16_t domid, int listener, int signals)
{
	struct pollfd pfds[PEERS_MAX + 2];
	struct peer peers[PEERS_MAX];

	for (unsigned i = 0; i < PEERS_MAX; i++)
		peers[i].fd = -1;
	for (;;) {
		for (unsigned i = 0; i < PEERS_MAX; i++) {
			pfds[i] = (struct pollfd){.fd = peers[i].fd};
			if (peers[i].fd >= 0)
				pfds[i].events =
					store_conn_backlog(peers[i].conn) ? POLLOUT : POLLIN;
		}
		pfds[PEERS_MAX] = (struct pollfd){.fd = listener, .events = POLLIN};
		pfds[PEERS_MAX + 1] = (struct pollfd){.fd = signals, .events = POLLIN};
		if (poll(pfds, ARRAY_SIZE(pfds), -1) < 0 && errno != EINTR)
			break;
		if (pfds[PEERS_MAX + 1].revents)
			break;
		for (unsigned i = 0; i < PEERS_MAX; i++) {
			if (!pfds[i].revents)
				continue;
			if (pfds[i].events == POLLOUT)
				(void)store_conn_flush(peers[i].conn);
			else if (!peer_input(&peers[i]))
				peer_drop(&peers[i]);
		}
		if (pfds[PEERS_MAX].revents)
			peer_accept(peers, store, domid, listener);
		(void)store_process(store);
	}
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		if (peers[i].fd >= 0)
			peer_drop(&peers[i]);
	}
}

static int make_home(struct store *store, uint16_t domid)
{
	struct store_perm home = {domid, STORE_PERM_NONE};
	struct store_session *zero = store_open(store, 0, NULL, NULL);
	char path[32];
	int err;

	(void)snprintf(path, sizeof(path), "/local/domain/%u", domid);
	err = store_mkdir(zero, 0, path);
	if (!err)
		err = store_set_perms(zero, 0, path, &home, 1);
	if (!err && domid)
		err = store_domain_introduce(store, domid);
	store_close(zero);
	return err;
}

int main(int argc, char **argv)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	unsigned long domid = 0;
	struct store *store;
	int listener, signals;
	sigset_t set;

	if (argc == 4 && strcmp(argv[1], "--domain") == 0) {
		domid = strtoul(argv[2], NULL, 10);
		argv += 2;
		argc -= 2;
	}
	if (argc != 2 || domid > UINT16_MAX || strlen(argv[1]) >= sizeof(addr.sun_path)) {
		(void)fprintf(stderr, "usage: store_server [--domain N] PATH\n");
		return 2;
	}
	memcpy(addr.sun_path, argv[1], strlen(argv[1]) + 1);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	store = store_new(NULL);
	if (signals < 0 || listener < 0 || !store || make_home(store, (uint16_t)domid) ||
		bind(listener, (struct sockaddr *)&addr, sizeof(addr)) ||
		listen(listener, PEERS_MAX)) {
		perror("store_server");
		return 1;
	}
	(void)puts("ready");
	(void)fflush(stdout);
	serve(store, (uint16_t)domid, listener, signals);
	(void)unlink(argv[1]);
	(void)close(listener);
	(void)close(signals);
	store_free(store);
	return 0;
}
