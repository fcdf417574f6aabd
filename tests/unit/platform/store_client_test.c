/* SPDX-License-Identifier: BSD-3-Clause */
/* The store's client: against the real store on a thread, and against a server that sends what the test says. */
#include "platform/local/store_client.h"

#include "base/clock.h"
#include "base/util.h"
#include "platform/local/store_wire.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <xen/io/xs_wire.h>

#define SOON (clock_ns() + 10 * CLOCK_SECOND)

/* fd[0] is the client's. With a store, a thread serves fd[1] as domain 5 until the client closes. */
struct world {
	int fd[2];
	struct store_client *client;
	struct store *store;
	struct store_conn *conn;
	pthread_t thread;
};

static ssize_t conn_send(void *arg, const void *bytes, size_t len)
{
	struct world *w = arg;
	ssize_t n = send(w->fd[1], bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	return n >= 0 ? n : errno == EAGAIN ? 0 : -errno;
}

static const struct store_conn_ops ops = {.send = conn_send};

static void *serve(void *arg)
{
	struct world *w = arg;
	char buf[8192];
	ssize_t n;

	for (;;) {
		struct pollfd pfd = {.fd = w->fd[1], .events = POLLIN};

		if (store_conn_backlog(w->conn))
			pfd.events = POLLOUT;
		(void)poll(&pfd, 1, -1);
		if (pfd.events == POLLIN) {
			n = read(w->fd[1], buf, MIN(sizeof(buf), store_conn_room(w->conn)));
			if (n <= 0 || store_conn_input(w->conn, buf, (size_t)n))
				break;
		} else if (store_conn_flush(w->conn)) {
			break;
		}
		(void)store_process(w->store);
	}
	return NULL;
}

static int setup_rogue(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, w->fd), 0);
	w->client = store_client_new(w->fd[0], 4);
	*state = w;
	return 0;
}

static int setup_store(void **state)
{
	static const struct store_perm home[] = {{5, STORE_PERM_NONE}};
	static const struct store_perm shared[] = {{0, STORE_PERM_NONE}, {5, STORE_PERM_READ}};
	struct store_session *zero;
	struct world *w;
	char path[32];

	(void)setup_rogue(state);
	w = *state;
	w->store = store_new(NULL);
	w->conn = store_conn_new(w->store, 5, &ops, w);
	zero = store_open(w->store, 0, NULL, NULL);
	assert_int_equal(store_mkdir(zero, 0, "/local/domain/5"), 0);
	assert_int_equal(store_set_perms(zero, 0, "/local/domain/5", home, 1), 0);
	assert_int_equal(store_mkdir(zero, 0, "/many"), 0);
	assert_int_equal(store_set_perms(zero, 0, "/many", shared, 2), 0);
	for (unsigned i = 0; i < 2000; i++) {
		(void)snprintf(path, sizeof(path), "/many/name-%04u", i);
		assert_int_equal(store_mkdir(zero, 0, path), 0);
	}
	store_close(zero);
	return pthread_create(&w->thread, NULL, serve, w);
}

static int teardown(void **state)
{
	struct world *w = *state;

	store_client_free(w->client);
	if (w->store) {
		(void)pthread_join(w->thread, NULL);
		store_conn_free(w->conn);
		store_free(w->store);
	}
	(void)close(w->fd[1]);
	free(w);
	return 0;
}

static void test_requests(void **state)
{
	static const struct store_perm perms[] = {{5, STORE_PERM_NONE}, {7, STORE_PERM_BOTH}};
	struct store_client *c = ((struct world *)*state)->client;
	struct store_perm got[2];
	char buf[64], big[5000] = "x", *names;
	size_t len;
	uint32_t tx;

	assert_int_equal(store_client_write(c, 0, "a/b", "value", 5, SOON), 0);
	assert_int_equal(store_client_read(c, 0, "a/b", buf, sizeof(buf), SOON), 5);
	assert_string_equal(buf, "value");
	assert_int_equal(store_client_read(c, 0, "a/b", buf, 5, SOON), -ENOBUFS);
	assert_int_equal(store_client_read(c, 0, "a/none", buf, sizeof(buf), SOON), -ENOENT);
	assert_int_equal(store_client_read(c, 0, "/other", buf, sizeof(buf), SOON), -EACCES);
	assert_int_equal(store_client_write(c, 0, "a/b", big, sizeof(big), SOON), -E2BIG);
	assert_int_equal(store_client_mkdir(c, 0, "a/c", SOON), 0);
	assert_int_equal(store_client_directory(c, 0, "a", &names, &len, SOON), 2);
	assert_int_equal(len, 4);
	assert_memory_equal(names, "b\0c", 4);
	free(names);
	assert_int_equal(store_client_directory(c, 0, "a/b", &names, &len, SOON), 0);
	free(names);
	assert_int_equal(store_client_directory(c, 0, "x", &names, &len, SOON), -ENOENT);
	assert_null(names);
	assert_int_equal(store_client_directory(c, 0, "/many", &names, &len, SOON), 2000);
	assert_int_equal(len, 2000 * 10);
	for (unsigned i = 0; i < 2000; i++) {
		(void)snprintf(buf, sizeof(buf), "name-%04u", i);
		assert_string_equal(names + (size_t)i * 10, buf);
	}
	free(names);
	assert_int_equal(store_client_set_perms(c, 0, "a", perms, 2, SOON), 0);
	assert_int_equal(store_client_get_perms(c, 0, "a", got, 2, SOON), 2);
	assert_memory_equal(&got[1], &perms[1], sizeof(got[1]));
	assert_int_equal(store_client_get_perms(c, 0, "a", got, 1, SOON), -ENOBUFS);
	assert_int_equal(store_client_tx_start(c, &tx, SOON), 0);
	assert_int_equal(store_client_rm(c, tx, "a", SOON), 0);
	assert_int_equal(store_client_read(c, tx, "a", buf, sizeof(buf), SOON), -ENOENT);
	assert_int_equal(store_client_write(c, 0, "a", "", 0, SOON), 0);
	assert_int_equal(store_client_tx_end(c, tx, true, SOON), -EAGAIN);
	assert_int_equal(store_client_tx_end(c, tx, true, SOON), -ENOENT);
	assert_int_equal(store_client_read(c, 0, "a", buf, sizeof(buf), SOON), 0);
}

static void expect_event(struct store_client *c, const char *path, const char *token)
{
	const char *got_path, *got_token;
	uint64_t deadline = SOON;
	int n;

	while ((n = store_client_next_event(c, &got_path, &got_token)) == 0 &&
		clock_ns() < deadline) {
		struct pollfd pfd = {.fd = store_client_fd(c), .events = POLLIN};

		(void)poll(&pfd, 1, 100);
		assert_true(store_client_process(c) >= 0);
	}
	assert_int_equal(n, 1);
	assert_string_equal(got_path, path);
	assert_string_equal(got_token, token);
}

static void test_events(void **state)
{
	struct store_client *c = ((struct world *)*state)->client;
	const char *path, *token;

	assert_int_equal(store_client_watch(c, "w", "tok", SOON), 0);
	expect_event(c, "w", "tok");
	assert_int_equal(store_client_write(c, 0, "w/x", "1", 1, SOON), 0);
	assert_int_equal(store_client_write(c, 0, "w/y", "1", 1, SOON),
		0); /* takes the event of w/x in, perhaps */
	expect_event(c, "w/x", "tok");
	expect_event(c, "w/y", "tok");
	assert_int_equal(store_client_unwatch(c, "w", "tok", SOON), 0);
	assert_int_equal(store_client_unwatch(c, "w", "tok", SOON), -ENOENT);
	assert_int_equal(store_client_reset(c, SOON), 0);
	assert_int_equal(store_client_next_event(c, &path, &token), 0);
}

/* What the rogue server says, before it is asked. The client's first request has id 1. */
static void say(
	struct world *w, uint32_t type, uint32_t id, uint32_t tx, const char *payload, size_t len)
{
	struct xsd_sockmsg h = {.type = type, .req_id = id, .tx_id = tx, .len = (uint32_t)len};

	assert_int_equal(write(w->fd[1], &h, sizeof(h)), sizeof(h));
	if (len)
		assert_int_equal(write(w->fd[1], payload, len), len);
}

static int ask(struct world *w)
{
	char buf[STORE_VALUE_MAX + 1];

	return store_client_read(w->client, 0, "a", buf, sizeof(buf), clock_ns() + 20 * CLOCK_MS);
}

static void test_late_answers(void **state)
{
	struct world *w = *state;
	char buf[64];

	assert_int_equal(ask(w), -ETIMEDOUT);
	assert_int_equal(ask(w), -ETIMEDOUT);
	say(w, XS_READ, 1, 0, "late", 4);
	say(w, XS_ERROR, 2, 0, "ENOENT", 7);
	say(w, XS_READ, 3, 0, "now", 3);
	assert_int_equal(store_client_read(w->client, 0, "a", buf, sizeof(buf), SOON), 3);
	assert_string_equal(buf, "now");
	say(w, XS_READ, 2, 0, "again", 5); /* none is overdue any more */
	assert_int_equal(ask(w), -EPROTO);
	assert_int_equal(ask(w), -ENOTCONN);
}

static void test_too_many_late(void **state)
{
	struct world *w = *state;

	for (unsigned i = 0; i < STORE_CLIENT_LATE_MAX; i++)
		assert_int_equal(store_client_mkdir(w->client, 0, "a", clock_ns()), -ETIMEDOUT);
	assert_int_equal(ask(w), -ENOTCONN);
}

/* A server that does not read: the request that did not fit goes out first when there is room. */
static void test_request_sent_in_part(void **state)
{
	struct world *w = *state;
	static char value[4000], sink[1 << 20];
	struct xsd_sockmsg h;
	unsigned asked = 0;
	uint32_t id = 0;
	size_t at = 0, len = 0;
	ssize_t n;
	int size = 4096;

	(void)setsockopt(w->fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	for (; asked < 20; asked++)
		assert_int_equal(
			store_client_write(w->client, 0, "a", value, sizeof(value), clock_ns()),
			-ETIMEDOUT);
	do {
		n = recv(w->fd[1], sink + len, sizeof(sink) - len, MSG_DONTWAIT);
		len += n > 0 ? (size_t)n : 0;
		assert_true(store_client_process(w->client) >= 0);
	} while (n > 0);
	assert_int_equal(ask(w), -ETIMEDOUT);
	n = recv(w->fd[1], sink + len, sizeof(sink) - len, MSG_DONTWAIT);
	assert_true(n > 0);
	len += (size_t)n;
	for (; at < len; at += sizeof(h) + h.len) {
		memcpy(&h, sink + at, sizeof(h));
		assert_int_equal(h.req_id, ++id);
		assert_true(
			h.type == XS_WRITE || (h.type == XS_READ && at + sizeof(h) + h.len == len));
	}
	assert_int_equal(at, len);
}

static void test_broken_servers(void **state)
{
	static const struct {
		uint32_t type, id, tx;
		const char *payload;
		size_t len;
	} lies[] = {
		{XS_READ, 2, 0, "", 0},                    /* an id of the future */
		{XS_READ, 0, 0, "", 0},                    /* of nobody */
		{XS_WRITE, 1, 0, "", 0},                   /* another type */
		{XS_READ, 1, 9, "", 0},                    /* another transaction */
		{XS_WATCH_EVENT, 0, 0, "", 0},             /* no strings */
		{XS_WATCH_EVENT, 0, 0, "path", 5},         /* one */
		{XS_WATCH_EVENT, 0, 0, "path\0token", 10}, /* the second without an end */
		{XS_WATCH_EVENT, 0, 0, "a\0b\0c", 6},      /* three */
	};
	struct xsd_sockmsg oversized = {
		.type = XS_READ, .req_id = 1, .len = XENSTORE_PAYLOAD_MAX + 1};
	struct world *w;

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		(void)setup_rogue(state);
		w = *state;
		say(w, lies[i].type, lies[i].id, lies[i].tx, lies[i].payload, lies[i].len);
		assert_int_equal(ask(w), -EPROTO);
		assert_int_equal(store_client_process(w->client), -ENOTCONN);
		(void)teardown(state);
	}
	(void)setup_rogue(state);
	w = *state;
	assert_int_equal(write(w->fd[1], &oversized, sizeof(oversized)), sizeof(oversized));
	assert_int_equal(ask(w), -EPROTO);
	(void)teardown(state);

	(void)setup_rogue(state);
	w = *state;
	say(w, XS_ERROR, 1, 0, "EWHAT", 6);
	assert_int_equal(ask(w), -EIO);
	say(w, XS_ERROR, 2, 0, "", 0);
	assert_int_equal(ask(w), -EIO);
	(void)shutdown(w->fd[1], SHUT_RDWR);
	assert_int_equal(ask(w), -ENOTCONN);
	(void)teardown(state);
}

static void test_broken_answers(void **state)
{
	struct store_perm perms[4];
	struct world *w;
	char *names;
	size_t len;
	uint32_t tx;
	static const struct {
		const char *payload;
		size_t len;
	} lists[] = {{"a", 1}, {"\0", 1}, {"a\0\0b", 5}, {"a/b", 4}},
	  parts[] = {{"", 0}, {"5", 1}, {"5", 2}, {"\0a", 3}, {"5\0a", 3},
		  {"123456789012345678901234567890\0a", 33}},
	  numbers[] = {{"", 0}, {"x", 2}, {"0", 2}, {"4294967296", 11}, {"1 ", 3}};

	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++) {
		(void)setup_rogue(state);
		w = *state;
		say(w, XS_DIRECTORY, 1, 0, lists[i].payload, lists[i].len);
		assert_int_equal(
			store_client_directory(w->client, 0, "a", &names, &len, SOON), -EPROTO);
		assert_null(names);
		(void)teardown(state);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(parts); i++) {
		(void)setup_rogue(state);
		w = *state;
		say(w, XS_ERROR, 1, 0, "E2BIG", 6);
		say(w, XS_DIRECTORY_PART, 2, 0, parts[i].payload, parts[i].len);
		assert_int_equal(
			store_client_directory(w->client, 0, "a", &names, &len, SOON), -EPROTO);
		(void)teardown(state);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
		(void)setup_rogue(state);
		w = *state;
		say(w, XS_TRANSACTION_START, 1, 0, numbers[i].payload, numbers[i].len);
		assert_int_equal(store_client_tx_start(w->client, &tx, SOON), -EPROTO);
		(void)teardown(state);
	}
	(void)setup_rogue(state);
	w = *state;
	say(w, XS_GET_PERMS, 1, 0, "n5\0q6", 6);
	assert_int_equal(store_client_get_perms(w->client, 0, "a", perms, 4, SOON), -EPROTO);
	(void)teardown(state);
}

/* A server whose list is another one at every question. */
static void *serve_restless(void *arg)
{
	struct world *w = arg;
	struct xsd_sockmsg h;
	char payload[XENSTORE_PAYLOAD_MAX];

	while (recv(w->fd[1], &h, sizeof(h), MSG_WAITALL) == sizeof(h) &&
		recv(w->fd[1], payload, h.len, MSG_WAITALL) == (ssize_t)h.len) {
		if (h.type == XS_DIRECTORY)
			say(w, XS_ERROR, h.req_id, 0, "E2BIG", 6);
		else
			say(w, h.type, h.req_id, 0, h.req_id % 2 ? "1\0a" : "2\0a", 4);
	}
	return NULL;
}

static void test_restless_list(void **state)
{
	struct world *w = *state;
	pthread_t thread;
	char *names;
	size_t len;

	assert_int_equal(pthread_create(&thread, NULL, serve_restless, w), 0);
	assert_int_equal(store_client_directory(w->client, 0, "a", &names, &len, SOON), -EAGAIN);
	assert_null(names);
	(void)shutdown(w->fd[1], SHUT_RDWR);
	(void)pthread_join(thread, NULL);
}

static void test_too_many_events(void **state)
{
	struct world *w = *state;
	const char *path, *token;

	for (unsigned i = 0; i < 50; i++)
		say(w, XS_WATCH_EVENT, 0, 0, "p\0t", 4);
	assert_int_equal(store_client_process(w->client), 4);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(store_client_next_event(w->client, &path, &token), 1);
	say(w, XS_WATCH_EVENT, 0, 0, "q\0t", 4);
	assert_int_equal(store_client_process(w->client), 3);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(store_client_next_event(w->client, &path, &token), 1);
	assert_int_equal(store_client_next_event(w->client, &path, &token), -EOVERFLOW);
	assert_int_equal(store_client_next_event(w->client, &path, &token), 1);
	assert_string_equal(path, "q");
	assert_int_equal(store_client_next_event(w->client, &path, &token), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests, setup_store, teardown),
		cmocka_unit_test_setup_teardown(test_events, setup_store, teardown),
		cmocka_unit_test_setup_teardown(test_late_answers, setup_rogue, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_late, setup_rogue, teardown),
		cmocka_unit_test_setup_teardown(test_request_sent_in_part, setup_rogue, teardown),
		cmocka_unit_test(test_broken_servers),
		cmocka_unit_test(test_broken_answers),
		cmocka_unit_test_setup_teardown(test_restless_list, setup_rogue, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_events, setup_rogue, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
