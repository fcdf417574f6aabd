/* SPDX-License-Identifier: BSD-3-Clause */
/* The store's quotas, its permissions, its paths, and its wire. */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <xen/io/xs_wire.h>

#include "base/clock.h"
#include "world.h"

enum { TRIES = 20000 };

static uint64_t soon(void)
{
	return clock_ns() + RAW_WAIT_MS * CLOCK_MS;
}

static void still_there(struct raw *r)
{
	if (raw_write(r, "state", "1"))
		raw_die("an honest write failed afterwards");
}

/* Until refused; then the guest's own keys can still be changed. */
static void many_nodes(struct raw *r, unsigned arg)
{
	unsigned n = 0;
	int err = 0;

	for (; n < TRIES && !err; n++) {
		char key[24];

		(void)snprintf(key, sizeof(key), "n/%u", n);
		err = raw_write(r, key, "x");
	}
	if (err != -ENOSPC)
		raw_die("%u nodes: %d", n, err);
	still_there(r);
}

static void deep_nodes(struct raw *r, unsigned arg)
{
	char key[4000];
	size_t len = 0;
	int err = 0;

	while (!err && len + 2 < sizeof(key)) {
		memcpy(key + len, len ? "/a" : "a", len ? 3 : 2);
		len += len ? 2 : 1;
		err = raw_write(r, key, "x");
	}
	if (!err)
		raw_die("a path of %zu bytes", len);
	still_there(r);
}

static void big_values(struct raw *r, unsigned arg)
{
	static char value[5000];
	unsigned largest = 0;

	memset(value, 'v', sizeof(value) - 1);
	for (unsigned len = 1; len < sizeof(value); len = len * 5 / 4 + 1) {
		char path[128];

		(void)snprintf(path, sizeof(path), "%s/v", r->front);
		if (store_client_write(r->store, 0, path, value, len, soon()) == 0)
			largest = len;
	}
	if (largest > 4096)
		raw_die("a value of %u bytes was taken", largest);
	/* The keys that the host reads, as long as they may be. */
	value[MIN(largest, 2000u)] = '\0';
	for (unsigned i = 0; i < 3; i++)
		(void)raw_write(r,
			((const char *const[]){
				"tx-ring-ref", "multi-queue-num-queues", "event-channel"})[i],
			value);
	still_there(r);
}

static void many_watches(struct raw *r, unsigned arg)
{
	int err = 0;
	unsigned n = 0;

	for (; n < TRIES && !err; n++) {
		char token[24];

		(void)snprintf(token, sizeof(token), "%u", n);
		err = store_client_watch(r->store, r->front, token, soon());
	}
	if (err != -E2BIG)
		raw_die("%u watches: %d", n, err);
	still_there(r);
}

static void many_transactions(struct raw *r, unsigned arg)
{
	uint32_t last = 0;
	uint32_t tx;
	int err = 0;
	unsigned n = 0;

	for (; n < TRIES && !err; n++) {
		err = store_client_tx_start(r->store, &tx, soon());
		last = err ? last : tx;
	}
	if (err != -ENOSPC)
		raw_die("%u transactions: %d", n, err);
	/* One of them grows until it may not. */
	for (n = 0, err = 0; n < TRIES && !err; n++) {
		char path[128];

		(void)snprintf(path, sizeof(path), "%s/t/%u", r->front, n);
		err = store_client_write(r->store, last, path, "xxxxxxxxxxxxxxxx", 16, soon());
	}
	if (err != -ENOSPC)
		raw_die("%u nodes in a transaction: %d", n, err);
	if (store_client_tx_end(r->store, 12345678, true, soon()) >= 0)
		raw_die("a transaction that is none was ended");
	still_there(r);
}

/* Paths that are none, and other domains' nodes. */
static void paths(struct raw *r, unsigned arg)
{
	static const char *const bad[] = {"", "//", "/local//domain", "/a/", "a b",
		"/local/domain/../domain/0", "\x01", "/\xff", "@releaseDomain",
		"/local/domain/0/\n", "."};
	static const char *const others[] = {"/", "/local", "/local/domain", "/local/domain/0",
		"/local/domain/0/backend", "/local/domain/1", "/local/domain/1/device",
		"/local/domain/1/device/vif/0/state", "/tool", "/vm",
		"/local/domain/0/backend/vif/1/0/state"};
	char value[STORE_VALUE_MAX + 1];
	const struct store_perm mine = {.domid = r->domid, .access = STORE_PERM_BOTH};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		if (store_client_write(r->store, 0, bad[i], "x", 1, soon()) >= 0 &&
			bad[i][0] == '/')
			raw_die("'%s' was written", bad[i]);
		(void)store_client_read(r->store, 0, bad[i], value, sizeof(value), soon());
		(void)store_client_watch(r->store, bad[i], "t", soon());
	}
	for (unsigned i = 0; i < ARRAY_SIZE(others); i++) {
		if (!strncmp(others[i], r->front, strlen(others[i])) && others[i][1] == 'l' &&
			strstr(others[i], "domain/1"))
			continue;
		if (store_client_write(r->store, 0, others[i], "x", 1, soon()) >= 0)
			raw_die("%s was written", others[i]);
		if (store_client_rm(r->store, 0, others[i], soon()) >= 0)
			raw_die("%s was removed", others[i]);
		if (store_client_set_perms(r->store, 0, others[i], &mine, 1, soon()) >= 0)
			raw_die("%s was taken over", others[i]);
	}
	if (raw_write(r, r->back, "x") >= 0 || raw_write(r, "/local/domain/0/x", "x") >= 0)
		raw_die("the host's directory was written");
	still_there(r);
}

/* The front end's directory given away, and opened for all: the guest's own loss. */
static void give_away(struct raw *r, unsigned arg)
{
	struct store_perm perms[2] = {{.domid = r->domid, .access = STORE_PERM_NONE},
		{.domid = 0, .access = STORE_PERM_NONE}};
	char path[96];

	(void)store_client_set_perms(r->store, 0, r->front, perms, 2, soon());
	(void)snprintf(path, sizeof(path), "%s/state", r->front);
	(void)store_client_set_perms(r->store, 0, path, perms, 2, soon());
	perms[0].domid = 0;
	(void)store_client_set_perms(r->store, 0, path, perms, 1, soon());
	(void)raw_send(r, 100, 1);
}

/* ---- raw bytes ---- */

static int stream(struct raw *r)
{
	int err = -EDQUOT;
	int fd;

	/* One that was closed counts until the host has noticed. */
	for (unsigned i = 0; i < RAW_WAIT_MS && err == -EDQUOT; i++) {
		err = raw_call(r, WIRE_STORE, 0, 0, 0, NULL, &fd);
		if (err == -EDQUOT)
			raw_sleep_ms(1);
	}
	if (err)
		raw_die("no store stream: %s", strerror(-err));
	return fd;
}

static bool ended(int fd, unsigned ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	uint64_t end = raw_ms() + ms;
	char bytes[4096];

	while (raw_ms() < end && poll(&pfd, 1, (int)(end - raw_ms())) == 1) {
		if (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) <= 0)
			return true;
	}
	return false;
}

static void say(int fd, uint32_t type, uint32_t tx, uint32_t len, const void *bytes, size_t n)
{
	const struct xsd_sockmsg head = {.type = type, .req_id = 1, .tx_id = tx, .len = len};

	(void)send(fd, &head, sizeof(head), MSG_NOSIGNAL);
	if (n)
		(void)send(fd, bytes, n, MSG_NOSIGNAL);
}

static void wire(struct raw *r, unsigned arg)
{
	static const uint8_t zeros[4096];
	int fd = stream(r);

	/* Every type with every kind of nothing in it. */
	for (uint32_t type = 0; type < 40; type++) {
		say(fd, type, 0, 0, NULL, 0);
		say(fd, type, 99, 4, "/\0/\0", 4);
		say(fd, type, 0, 3, "abc", 3);
		say(fd, type, UINT32_MAX, 4096, zeros, sizeof(zeros));
		if (ended(fd, 1)) {
			(void)close(fd);
			fd = stream(r);
		}
	}
	(void)close(fd);
	/* Longer than a message may be. */
	fd = stream(r);
	say(fd, XS_WRITE, 0, 4097, NULL, 0);
	if (!ended(fd, RAW_WAIT_MS))
		raw_die("a message of 4097 bytes was waited for");
	(void)close(fd);
	fd = stream(r);
	say(fd, XS_READ, 0, UINT32_MAX, NULL, 0);
	if (!ended(fd, RAW_WAIT_MS))
		raw_die("a message of 4 GiB was waited for");
	(void)close(fd);
	/* Half a head, half a body, and then nothing. */
	fd = stream(r);
	(void)send(fd, zeros, 7, MSG_NOSIGNAL);
	(void)close(fd);
	fd = stream(r);
	say(fd, XS_READ, 0, 100, zeros, 50);
	(void)shutdown(fd, SHUT_WR);
	if (!ended(fd, RAW_WAIT_MS))
		raw_die("half a message is waited for after its end");
	(void)close(fd);
	still_there(r);
}

static void noise(struct raw *r, unsigned seed)
{
	for (unsigned round = 0; round < 200; round++) {
		int fd = stream(r);
		uint8_t bytes[512];

		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)(rand_r(&seed) & (i % 4 && i % 16 < 16 ? 0 : 0x1f));
		for (unsigned i = 16 + (unsigned)rand_r(&seed) % 64; i < sizeof(bytes); i += 7)
			bytes[i] = (uint8_t)rand_r(&seed);
		(void)send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
		(void)ended(fd, 0);
		(void)close(fd);
	}
	still_there(r);
}

static void too_many_streams(struct raw *r, unsigned arg)
{
	struct wire_reply reply;
	unsigned n = 0;
	int fd;

	while (raw_call(r, WIRE_STORE, 0, 0, 0, &reply, &fd) == 0 && n++ < 100)
		;
	if (n > 8 || !strstr(reply.why, "too-many-store-streams"))
		raw_die("%u streams: %s", n, reply.why);
	still_there(r);
}

/* Watch everything, change much, read nothing: that stream ends, the guest does not. */
static void deaf(struct raw *r, unsigned arg)
{
	int fd = stream(r);
	char text[256];

	for (unsigned i = 0; i < 100; i++) {
		int n = snprintf(text, sizeof(text), "%s%c%0100u%c", r->front, 0, i, 0);

		say(fd, XS_WATCH, 0, (uint32_t)n, text, (size_t)n);
	}
	for (unsigned i = 0; i < 5000; i++) {
		(void)snprintf(text, sizeof(text), "d%u", i % 50);
		if (raw_write(r, text, "x"))
			raw_die("the other stream stopped too");
	}
	/* Requests whose answers are not read either. */
	for (unsigned i = 0; i < 5000; i++) {
		const struct xsd_sockmsg head = {.type = XS_DIRECTORY, .req_id = i, .len = 2};

		if (send(fd, &head, sizeof(head), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ||
			send(fd, "/", 2, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			break;
	}
	still_there(r);
}

#define STORE(text, fn)                                                                            \
	{                                                                                          \
		.name = text, .attack = fn, .start = RAW_STORE                                     \
	}

static const struct hostile_case cases[] = {
	STORE("nodes", many_nodes),
	STORE("depth", deep_nodes),
	STORE("values", big_values),
	STORE("watches", many_watches),
	STORE("transactions", many_transactions),
	STORE("paths", paths),
	{.name = "give-away",
		.attack = give_away,
		.start = RAW_UP,
		.good = 1,
		.may_quarantine = true},
	STORE("wire", wire),
	{.name = "noise", .attack = noise, .arg = 1, .start = RAW_STORE},
	STORE("streams", too_many_streams),
	STORE("deaf", deaf),
};

const struct hostile_group group_store = {
	.name = "store", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 1};
