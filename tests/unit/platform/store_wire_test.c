/* SPDX-License-Identifier: BSD-3-Clause */
/* The store's wire protocol, from raw bytes: each request, broken ones, pieces, a peer that does not read. */
#include "platform/local/store_wire.h"

#include "base/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xen/io/xs_wire.h>

#define GUEST 5

struct peer {
	struct store_conn *conn;
	size_t take; /* how many bytes it still takes */
	bool broken;
	unsigned closed;
	enum store_refusal why;
	size_t len, at;
	char got[1 << 20];
};

struct world {
	struct store *store;
	struct store_session *host;
	struct peer zero, guest;
};

static ssize_t peer_send(void *arg, const void *bytes, size_t len)
{
	struct peer *p = arg;

	if (p->broken)
		return -EPIPE;
	len = MIN(len, p->take);
	assert_true(len <= sizeof(p->got) - p->len);
	memcpy(p->got + p->len, bytes, len);
	p->len += len;
	p->take -= len;
	return (ssize_t)len;
}

static void peer_closed(void *arg, enum store_refusal why)
{
	struct peer *p = arg;

	p->closed++;
	p->why = why;
}

static const struct store_conn_ops ops = {.send = peer_send, .closed = peer_closed};

static int setup(void **state)
{
	static const struct store_perm home[] = {{GUEST, STORE_PERM_NONE}};
	struct store_limits limits = store_limits_default;
	struct world *w = calloc(1, sizeof(*w));

	limits.backlog = 8192;
	w->store = store_new(&limits);
	w->host = store_open(w->store, 0, NULL, NULL);
	w->zero.conn = store_conn_new(w->store, 0, &ops, &w->zero);
	w->guest.conn = store_conn_new(w->store, GUEST, &ops, &w->guest);
	w->zero.take = w->guest.take = SIZE_MAX;
	assert_int_equal(store_mkdir(w->host, 0, "/local/domain/5"), 0);
	assert_int_equal(store_set_perms(w->host, 0, "/local/domain/5", home, 1), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	store_conn_free(w->zero.conn);
	store_conn_free(w->guest.conn);
	store_close(w->host);
	store_free(w->store);
	free(w);
	return 0;
}

static size_t message(
	char *out, uint32_t type, uint32_t id, uint32_t tx, const void *payload, size_t len)
{
	struct xsd_sockmsg h = {.type = type, .req_id = id, .tx_id = tx, .len = (uint32_t)len};

	memcpy(out, &h, sizeof(h));
	memcpy(out + sizeof(h), payload, len);
	return sizeof(h) + len;
}

/* The next message the peer got: its header; the payload with a NUL behind goes to `payload`. */
static struct xsd_sockmsg next(struct peer *p, char payload[XENSTORE_PAYLOAD_MAX + 1])
{
	struct xsd_sockmsg h;

	assert_true(p->len - p->at >= sizeof(h));
	memcpy(&h, p->got + p->at, sizeof(h));
	assert_true(h.len <= XENSTORE_PAYLOAD_MAX);
	assert_true(p->len - p->at - sizeof(h) >= h.len);
	memcpy(payload, p->got + p->at + sizeof(h), h.len);
	payload[h.len] = '\0';
	p->at += sizeof(h) + h.len;
	return h;
}

/* Ask and compare: an answer of the same type with exactly these bytes. */
static void expect_bytes(struct peer *p, uint32_t type, uint32_t tx, const void *payload,
	size_t len, const void *answer, size_t answer_len)
{
	char out[sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX], got[XENSTORE_PAYLOAD_MAX + 1];
	struct xsd_sockmsg h;

	assert_int_equal(
		store_conn_input(p->conn, out, message(out, type, 77, tx, payload, len)), 0);
	h = next(p, got);
	assert_int_equal(h.req_id, 77);
	assert_int_equal(h.tx_id, tx);
	assert_int_equal(h.len, answer_len);
	assert_memory_equal(got, answer, answer_len);
	assert_int_equal(h.type, type);
	assert_int_equal(p->at, p->len);
}

static void expect_error(struct peer *p, uint32_t type, uint32_t tx, const void *payload,
	size_t len, const char *name)
{
	char out[sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX], got[XENSTORE_PAYLOAD_MAX + 1];
	struct xsd_sockmsg h;

	assert_int_equal(
		store_conn_input(p->conn, out, message(out, type, 78, tx, payload, len)), 0);
	h = next(p, got);
	assert_string_equal(got, name);
	assert_int_equal(h.type, XS_ERROR);
	assert_int_equal(h.req_id, 78);
	assert_int_equal(h.tx_id, tx);
	assert_int_equal(h.len, strlen(name) + 1);
	assert_int_equal(p->at, p->len);
}

/* String literals: their bytes with the last NUL, or without it. */
#define Z(s) s, sizeof(s)
#define B(s) s, sizeof(s) - 1

static void expect_event(struct world *w, struct peer *p, const char *path, const char *token)
{
	char got[XENSTORE_PAYLOAD_MAX + 1];
	struct xsd_sockmsg h;

	(void)store_process(w->store);
	h = next(p, got);
	assert_int_equal(h.type, XS_WATCH_EVENT);
	assert_int_equal(h.req_id, 0);
	assert_int_equal(h.tx_id, 0);
	assert_string_equal(got, path);
	assert_string_equal(got + strlen(path) + 1, token);
	assert_int_equal(h.len, strlen(path) + strlen(token) + 2);
}

static void test_requests(void **state)
{
	struct world *w = *state;
	struct peer *p = &w->guest;

	expect_bytes(p, XS_WRITE, 0, B("a/b\0value"), Z("OK"));
	expect_bytes(p, XS_READ, 0, Z("a/b"), B("value"));
	expect_bytes(p, XS_WRITE, 0, Z("empty"), Z("OK"));
	expect_bytes(p, XS_READ, 0, Z("empty"), "", 0);
	expect_bytes(p, XS_WRITE, 0, B("nul\0\0x\0"), Z("OK"));
	expect_bytes(p, XS_READ, 0, Z("nul"), B("\0x\0"));
	expect_bytes(p, XS_MKDIR, 0, Z("a/c"), Z("OK"));
	expect_bytes(p, XS_DIRECTORY, 0, Z("a"), Z("b\0c"));
	expect_bytes(p, XS_DIRECTORY, 0, Z("a/b"), "", 0);
	expect_bytes(p, XS_RM, 0, Z("a/c"), Z("OK"));
	expect_bytes(p, XS_DIRECTORY, 0, Z("/local/domain/5/a"), Z("b"));
	expect_bytes(p, XS_GET_PERMS, 0, Z("a"), Z("n5"));
	expect_bytes(p, XS_SET_PERMS, 0, Z("a\0n5\0r0\0b65535"), Z("OK"));
	expect_bytes(p, XS_GET_PERMS, 0, Z("a"), Z("n5\0r0\0b65535"));
	expect_bytes(p, XS_GET_DOMAIN_PATH, 0, Z("007"), Z("/local/domain/7"));
	expect_bytes(p, XS_IS_DOMAIN_INTRODUCED, 0, Z("5"), Z("F"));
	assert_int_equal(store_domain_introduce(w->store, GUEST), 0);
	expect_bytes(p, XS_IS_DOMAIN_INTRODUCED, 0, Z("5"), Z("T"));
	expect_bytes(p, XS_IS_DOMAIN_INTRODUCED, 0, Z("0"), Z("T"));

	expect_error(p, XS_READ, 0, Z("none"), "ENOENT");
	expect_error(p, XS_READ, 0, Z("/secret"), "EACCES");
	expect_error(p, XS_WRITE, 0, Z("/secret"), "EACCES");
	expect_error(p, XS_RM, 0, Z("none/none"), "ENOENT");
	expect_error(p, XS_SET_PERMS, 0, Z("a\0n6"), "EPERM");
	expect_bytes(&w->zero, XS_READ, 0, Z("/local/domain/5/a/b"), B("value"));
}

static void test_transactions(void **state)
{
	struct world *w = *state;
	struct peer *p = &w->guest;

	expect_bytes(p, XS_TRANSACTION_START, 0, Z(""), Z("1"));
	expect_error(p, XS_TRANSACTION_START, 1, Z(""), "EBUSY");
	expect_bytes(p, XS_WRITE, 1, B("a\0x"), Z("OK"));
	expect_bytes(p, XS_READ, 1, Z("a"), B("x"));
	expect_error(p, XS_READ, 0, Z("a"), "ENOENT");
	expect_error(p, XS_TRANSACTION_END, 1, Z("X"), "EINVAL");
	expect_error(p, XS_TRANSACTION_END, 1, B("T"), "EINVAL");
	expect_error(p, XS_TRANSACTION_END, 0, Z("T"), "ENOENT");
	expect_error(&w->zero, XS_TRANSACTION_END, 1, Z("T"), "ENOENT");
	expect_bytes(p, XS_TRANSACTION_END, 1, Z("T"), Z("OK"));
	expect_bytes(p, XS_READ, 0, Z("a"), B("x"));
	expect_error(p, XS_READ, 1, Z("a"), "ENOENT");
	expect_bytes(p, XS_TRANSACTION_START, 0, Z(""), Z("2"));
	expect_bytes(p, XS_READ, 2, Z("a"), B("x"));
	expect_bytes(p, XS_WRITE, 0, B("a\0y"), Z("OK"));
	expect_error(p, XS_TRANSACTION_END, 2, Z("T"), "EAGAIN");
	expect_bytes(p, XS_TRANSACTION_START, 0, Z(""), Z("3"));
	expect_bytes(p, XS_RM, 3, Z("a"), Z("OK"));
	expect_bytes(p, XS_TRANSACTION_END, 3, Z("F"), Z("OK"));
	expect_bytes(p, XS_READ, 0, Z("a"), B("y"));
	expect_bytes(p, XS_TRANSACTION_START, 0, Z(""), Z("4"));
	expect_bytes(p, XS_RESET_WATCHES, 0, Z(""), Z("OK"));
	expect_error(p, XS_TRANSACTION_END, 4, Z("F"), "ENOENT");
}

static void test_watches(void **state)
{
	struct world *w = *state;
	struct peer *p = &w->guest;

	expect_bytes(p, XS_WATCH, 0, Z("dev\0tok"), Z("OK"));
	expect_event(w, p, "dev", "tok");
	expect_error(p, XS_WATCH, 0, Z("dev\0tok"), "EEXIST");
	expect_bytes(p, XS_WATCH, 999, Z("/local/domain/5/dev\0\0"),
		Z("OK")); /* tx_id is ignored; reserved string */
	expect_event(w, p, "/local/domain/5/dev", "");
	expect_bytes(&w->zero, XS_WRITE, 0, B("/local/domain/5/dev/x\0v"), Z("OK"));
	expect_event(w, p, "/local/domain/5/dev/x", "");
	expect_event(w, p, "dev/x", "tok");
	expect_bytes(p, XS_UNWATCH, 0, Z("/local/domain/5/dev\0"), Z("OK"));
	expect_error(p, XS_UNWATCH, 0, Z("dev\0other"), "ENOENT");
	expect_bytes(&w->zero, XS_RM, 0, Z("/local/domain/5/dev"), Z("OK"));
	expect_event(w, p, "dev", "tok");
	expect_bytes(p, XS_RESET_WATCHES, 0, Z(""), Z("OK"));
	expect_error(p, XS_UNWATCH, 0, Z("dev\0tok"), "ENOENT");
	expect_bytes(&w->zero, XS_WATCH, 0, Z("@releaseDomain\0r"), Z("OK"));
	expect_event(w, &w->zero, "@releaseDomain", "r");
	assert_int_equal(store_domain_introduce(w->store, 9), 0);
	store_domain_gone(w->store, 9);
	expect_event(w, &w->zero, "@releaseDomain", "r");
	(void)store_process(w->store);
	assert_int_equal(p->at, p->len);
}

static void test_malformed(void **state)
{
	static const struct {
		uint32_t type;
		const char *bytes;
		size_t len;
	} bad[] = {
		{XS_READ, B("")},
		{XS_READ, B("a")},
		{XS_READ, Z("a\0b")},
		{XS_READ, Z("")},
		{XS_WRITE, B("")},
		{XS_WRITE, B("a")},
		{XS_WRITE, Z("a//b")},
		{XS_MKDIR, B("a")},
		{XS_MKDIR, B("a\0b")},
		{XS_RM, B("a")},
		{XS_RM, Z("/")},
		{XS_DIRECTORY, B("a")},
		{XS_DIRECTORY_PART, Z("a")},
		{XS_DIRECTORY_PART, Z("a\0x")},
		{XS_DIRECTORY_PART, Z("a\0-1")},
		{XS_DIRECTORY_PART, Z("a\0\0")},
		{XS_DIRECTORY_PART, Z("a\0"
				      "99999999999999999999")},
		{XS_DIRECTORY_PART, B("a\0"
				      "0")},
		{XS_DIRECTORY_PART, Z("a\0"
				      "0\0x")},
		{XS_GET_PERMS, B("a")},
		{XS_SET_PERMS, B("a")},
		{XS_SET_PERMS, Z("a")},
		{XS_SET_PERMS, B("a\0n5")},
		{XS_SET_PERMS, Z("a\0x5")},
		{XS_SET_PERMS, Z("a\0n")},
		{XS_SET_PERMS, Z("a\0n65536")},
		{XS_SET_PERMS, Z("a\0n-1")},
		{XS_SET_PERMS, Z("a\0")},
		{XS_SET_PERMS, Z("a\0n5\0 r0")},
		{XS_WATCH, B("")},
		{XS_WATCH, Z("a")},
		{XS_WATCH, B("a\0t")},
		{XS_WATCH, Z("a.b\0t")},
		{XS_UNWATCH, Z("a")},
		{XS_UNWATCH, B("a\0t")},
		{XS_TRANSACTION_END, B("")},
		{XS_GET_DOMAIN_PATH, B("5")},
		{XS_GET_DOMAIN_PATH, Z("")},
		{XS_GET_DOMAIN_PATH, Z("x")},
		{XS_IS_DOMAIN_INTRODUCED, Z("65536")},
		{XS_IS_DOMAIN_INTRODUCED, Z("5\0"
					    "5")},
	};
	static const uint32_t unsupported[] = {XS_INTRODUCE, XS_RELEASE, XS_RESUME, XS_SET_TARGET,
		XS_SET_TARGET + 1, XS_WATCH_EVENT, XS_ERROR, XS_TYPE_COUNT, XS_INVALID, UINT32_MAX};
	struct world *w = *state;
	uint64_t refused = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		expect_error(&w->guest, bad[i].type, 0, bad[i].bytes, bad[i].len, "EINVAL");
	for (unsigned i = 0; i < STORE_REFUSALS; i++)
		refused += store_session_refused(store_conn_session(w->guest.conn), i);
	assert_int_equal(refused, ARRAY_SIZE(bad));
	for (unsigned i = 0; i < ARRAY_SIZE(unsupported); i++) {
		expect_error(&w->guest, unsupported[i], 0, Z("5"), "ENOSYS");
		expect_error(&w->zero, unsupported[i], 0, Z("5"), "ENOSYS");
	}
	assert_int_equal(
		store_refused(w->store, STORE_REFUSED_UNSUPPORTED), 2 * ARRAY_SIZE(unsupported));
	expect_error(&w->guest, XS_CONTROL, 0, Z("help"), "ENOSYS");
	expect_bytes(&w->zero, XS_CONTROL, 0, Z("check"), Z("OK\n"));
	expect_error(&w->zero, XS_CONTROL, 0, Z("crash"), "EINVAL");
	assert_null(store_conn_reason(w->guest.conn));
}

static void test_control_stats(void **state)
{
	struct world *w = *state;
	char out[64], got[XENSTORE_PAYLOAD_MAX + 1];

	expect_error(&w->guest, XS_READ, 0, Z("/a"), "EACCES");
	assert_int_equal(
		store_conn_input(w->zero.conn, out, message(out, XS_CONTROL, 0, 0, Z("stats"))), 0);
	assert_int_equal(next(&w->zero, got).type, XS_CONTROL);
	assert_non_null(strstr(got, "\npermission 1\n"));
	assert_non_null(strstr(got, "\nended-memory 0\n"));
}

/* Names and sizes chosen so that parts end in the middle of the list. */
static void test_directory_parts(void **state)
{
	struct world *w = *state;
	char path[64], got[XENSTORE_PAYLOAD_MAX + 1], out[256], list[32768];
	size_t len = 0;
	bool last = false;
	unsigned parts = 0;
	char gen[24] = "";

	for (unsigned i = 0; i < 1000; i++) {
		(void)snprintf(path, sizeof(path), "/many/name-%u", i);
		assert_int_equal(store_mkdir(w->host, 0, path), 0);
	}
	expect_error(&w->zero, XS_DIRECTORY, 0, Z("/many"), "E2BIG");
	for (; !last; parts++) {
		int n = snprintf(path, sizeof(path), "/many%c%zu", 0, len);
		size_t names;

		assert_int_equal(
			store_conn_input(w->zero.conn, out,
				message(out, XS_DIRECTORY_PART, 0, 0, path, (size_t)n + 1)),
			0);
		struct xsd_sockmsg h = next(&w->zero, got);

		assert_int_equal(h.type, XS_DIRECTORY_PART);
		if (gen[0])
			assert_string_equal(got, gen);
		(void)snprintf(gen, sizeof(gen), "%.20s", got);
		names = h.len - strlen(gen) - 1;
		last = names == 1 || got[h.len - 2] == '\0';
		names -= last;
		assert_int_equal(got[strlen(gen) + names], '\0'); /* whole names */
		memcpy(list + len, got + strlen(gen) + 1, names);
		len += names;
	}
	assert_int_equal(parts, 3);
	for (size_t at = 0, i = 0; at < len; at += strlen(list + at) + 1, i++)
		assert_true(i < 1000 && strncmp(list + at, "name-", 5) == 0);
	assert_int_equal(len, 10 * 7 + 90 * 8 + 900 * 9);
	expect_bytes(&w->guest, XS_MKDIR, 0, Z("e"), Z("OK"));
	assert_int_equal(store_conn_input(w->guest.conn, out,
				 message(out, XS_DIRECTORY_PART, 0, 0,
					 Z("e\0"
					   "0"))),
		0);
	assert_int_equal(next(&w->guest, got).len, strlen(got) + 2);
	assert_int_equal(store_conn_input(w->guest.conn, out,
				 message(out, XS_DIRECTORY_PART, 0, 0,
					 Z("e\0"
					   "4000000000"))),
		0);
	assert_int_equal(next(&w->guest, got).len, strlen(got) + 2);
}

static void test_byte_by_byte_and_pipelined(void **state)
{
	struct world *w = *state;
	struct peer *p = &w->guest;
	char out[1024], got[XENSTORE_PAYLOAD_MAX + 1];
	size_t len = 0;

	len += message(out + len, XS_WRITE, 1, 0, B("a\0one"));
	len += message(out + len, XS_READ, 2, 0, Z("a"));
	len += message(out + len, XS_READ, 3, 0, Z("none"));
	len += message(out + len, XS_READ, 4, 0, "", 0);
	len += message(out + len, XS_RM, 5, 0, Z("a"));
	for (unsigned whole = 0; whole < 2; whole++) {
		if (whole)
			assert_int_equal(store_conn_input(p->conn, out, len), 0);
		for (size_t i = 0; !whole && i < len; i++)
			assert_int_equal(store_conn_input(p->conn, out + i, 1), 0);
		for (uint32_t id = 1; id <= 5; id++) {
			struct xsd_sockmsg h = next(p, got);

			assert_int_equal(h.req_id, id);
			assert_int_equal(h.type == XS_ERROR, id == 3 || id == 4);
		}
		assert_int_equal(p->at, p->len);
	}
}

static void test_largest_message(void **state)
{
	struct world *w = *state;
	char payload[XENSTORE_PAYLOAD_MAX], out[sizeof(struct xsd_sockmsg) + sizeof(payload)];
	size_t len;

	memset(payload, 'x', sizeof(payload));
	memcpy(payload, "/big", 5);
	len = message(out, XS_WRITE, 1, 0, payload, sizeof(payload));
	assert_int_equal(store_conn_room(w->zero.conn), len);
	expect_bytes(&w->zero, XS_WRITE, 0, payload, sizeof(payload), Z("OK"));
	expect_bytes(&w->zero, XS_READ, 0, Z("/big"), payload + 5, sizeof(payload) - 5);
	assert_int_equal(store_conn_input(w->zero.conn, out, 10), 0);
	assert_int_equal(store_conn_input(w->zero.conn, out, len), -ENOBUFS);
	assert_int_equal(store_conn_input(w->zero.conn, out + 10, len - 10), 0);
}

static void test_oversized(void **state)
{
	struct world *w = *state;
	struct xsd_sockmsg h = {.type = XS_READ, .len = XENSTORE_PAYLOAD_MAX + 1};

	assert_int_equal(store_conn_input(w->guest.conn, &h, sizeof(h) - 1), 0);
	assert_int_equal(store_conn_input(w->guest.conn, (char *)&h + sizeof(h) - 1, 1), -ENOTCONN);
	assert_string_equal(store_conn_reason(w->guest.conn), "ended-oversized");
	assert_int_equal(store_conn_input(w->guest.conn, &h, 1), -ENOTCONN);
	assert_int_equal(store_conn_flush(w->guest.conn), -ENOTCONN);
	assert_int_equal(w->guest.closed, 0);
	(void)store_process(w->store);
	(void)store_process(w->store);
	assert_int_equal(w->guest.closed, 1);
	assert_int_equal(w->guest.why, STORE_ENDED_OVERSIZED);
	assert_int_equal(store_refused(w->store, STORE_ENDED_OVERSIZED), 1);
}

/* A peer that does not take its answers is not read any further; nothing is lost when it takes them. */
static void test_slow_reader(void **state)
{
	struct world *w = *state;
	struct peer *p = &w->guest;
	char out[64], got[XENSTORE_PAYLOAD_MAX + 1];
	uint32_t asked = 0, answered = 0;
	size_t len;

	expect_bytes(p, XS_WRITE, 0,
		B("a\0"
		  "0123456789"),
		Z("OK"));
	p->take = 7;
	while ((len = message(out, XS_READ, asked, 0, Z("a"))) <= store_conn_room(p->conn)) {
		assert_int_equal(store_conn_input(p->conn, out, len), 0);
		asked++;
	}
	assert_int_equal(store_conn_backlog(p->conn), sizeof(struct xsd_sockmsg) + 10 - 7);
	assert_true(asked > 200);
	while (store_conn_backlog(p->conn)) {
		p->take = 11;
		assert_int_equal(store_conn_flush(p->conn), 0);
	}
	p->take = SIZE_MAX;
	assert_int_equal(store_conn_flush(p->conn), 0);
	for (; p->at < p->len; answered++)
		assert_int_equal(next(p, got).req_id, answered);
	assert_int_equal(asked, answered);
}

static void test_backlog_of_events(void **state)
{
	struct world *w = *state;
	char path[] = "/local/domain/5/x";

	expect_bytes(&w->guest, XS_WATCH, 0,
		Z("\x2f"
		  "local/domain/5\0t"),
		Z("OK"));
	w->guest.take = 0;
	for (unsigned i = 0; i < 1000 && !w->guest.closed; i++) {
		path[strlen(path) - 1] = i % 2 ? 'x' : 'y';
		assert_int_equal(store_write(w->host, 0, path, "", 0), 0);
		(void)store_process(w->store);
		assert_true(store_conn_backlog(w->guest.conn) <= 8192);
	}
	assert_int_equal(w->guest.closed, 1);
	assert_int_equal(w->guest.why, STORE_ENDED_BACKLOG);
	assert_string_equal(store_conn_reason(w->guest.conn), "ended-backlog");
	assert_int_equal(store_check(w->store), 0);
}

static void test_send_fails(void **state)
{
	struct world *w = *state;
	char out[64];

	w->guest.broken = true;
	assert_int_equal(store_conn_input(w->guest.conn, out, message(out, XS_READ, 0, 0, Z("a"))),
		-ENOTCONN);
	assert_string_equal(store_conn_reason(w->guest.conn), "ended-send");
	(void)store_process(w->store);
	assert_int_equal(w->guest.closed, 1);
}

static void test_domain_dies(void **state)
{
	struct world *w = *state;
	char out[64];

	expect_bytes(&w->guest, XS_WATCH, 0, Z("a\0t"), Z("OK"));
	store_domain_gone(w->store, GUEST);
	assert_int_equal(
		store_conn_input(w->guest.conn, out, message(out, XS_READ, 0, 0, Z("a"))), 0);
	assert_int_equal(w->guest.at, w->guest.len); /* no answer any more */
	(void)store_process(w->store);
	assert_int_equal(w->guest.closed, 1);
	assert_int_equal(w->guest.why, STORE_ENDED_DOMAIN);
	assert_string_equal(store_conn_reason(w->guest.conn), "ended-domain");
}

static void test_names(void **state)
{
	struct store_perm perm;
	char text[STORE_PERM_TEXT];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(xsd_errors); i++) {
		assert_string_equal(
			store_error_name(-xsd_errors[i].errnum), xsd_errors[i].errstring);
		assert_int_equal(store_error_value(xsd_errors[i].errstring), -xsd_errors[i].errnum);
	}
	assert_string_equal(store_error_name(-EPIPE), "EINVAL");
	assert_int_equal(store_error_value("EWHAT"), -EIO);
	for (unsigned access = 0; access < 4; access++) {
		perm = (struct store_perm){65535, (uint8_t)access};
		store_perm_format(&perm, text);
		perm = (struct store_perm){0};
		assert_int_equal(store_perm_parse(text, &perm), 0);
		assert_int_equal(perm.domid, 65535);
		assert_int_equal(perm.access, access);
	}
	assert_string_equal(text, "b65535");
	assert_int_equal(store_perm_parse("", &perm), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transactions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watches, setup, teardown),
		cmocka_unit_test_setup_teardown(test_malformed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_control_stats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directory_parts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_byte_by_byte_and_pipelined, setup, teardown),
		cmocka_unit_test_setup_teardown(test_largest_message, setup, teardown),
		cmocka_unit_test_setup_teardown(test_oversized, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_reader, setup, teardown),
		cmocka_unit_test_setup_teardown(test_backlog_of_events, setup, teardown),
		cmocka_unit_test_setup_teardown(test_send_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(test_domain_dies, setup, teardown),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
