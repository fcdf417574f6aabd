/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer: the store's wire protocol, as a guest and as domain 0 at the same time, while the host watches.
 *
 * The first byte picks how input is read: raw bytes, or records that always make whole messages (byte 0: bits 0-4 type,
 * bit 5 which peer, bits 6-7 what the peer takes; byte 1: transaction; byte 2: length; then the payload), so that the
 * fuzzer gets past the framing. At the end the store's books must be right.
 *
 * With -DFUZZ_STANDALONE a program that runs the files named on its command line.
 */
#include "base/util.h"
#include "platform/local/store.h"
#include "platform/local/store_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/xs_wire.h>

#define GUEST 5

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct peer {
	struct store_conn *conn;
	size_t take;
	struct xsd_sockmsg header; /* of what is being sent */
	size_t at;
};

/* Every message that leaves is well-formed, in whatever pieces. */
static ssize_t peer_send(void *arg, const void *bytes, size_t len)
{
	const char *b = bytes;
	struct peer *p = arg;
	size_t n = MIN(len, p->take);

	for (size_t i = 0; i < n;) {
		size_t step;

		if (p->at < sizeof(p->header)) {
			step = MIN(n - i, sizeof(p->header) - p->at);
			memcpy((char *)&p->header + p->at, b + i, step);
		} else {
			step = MIN(n - i, sizeof(p->header) + p->header.len - p->at);
		}
		i += step;
		p->at += step;
		if (p->at >= sizeof(p->header) && p->header.len > XENSTORE_PAYLOAD_MAX)
			abort();
		if (p->at == sizeof(p->header) + p->header.len)
			p->at = 0;
	}
	p->take -= n;
	return (ssize_t)n;
}

static const struct store_conn_ops ops = {.send = peer_send};

static void on_event(void *arg, const char *path, const char *token)
{
	unsigned *events = arg;

	*events += strlen(path) + strlen(token) > 0;
}

static void feed(struct peer *p, const void *bytes, size_t len)
{
	const char *b = bytes;

	while (len) {
		size_t n = MIN(len, store_conn_room(p->conn));

		if (n == 0) {
			p->take = SIZE_MAX;
			if (store_conn_flush(p->conn))
				return;
			continue;
		}
		if (store_conn_input(p->conn, b, n))
			return;
		b += n;
		len -= n;
	}
}

static void feed_records(
	struct peer peers[2], struct store *store, const uint8_t *data, size_t size)
{
	static const size_t takes[] = {SIZE_MAX, SIZE_MAX, 0, 21};
	char message[sizeof(struct xsd_sockmsg) + UINT8_MAX];

	while (size >= 3) {
		struct peer *p = &peers[data[0] >> 5 & 1];
		struct xsd_sockmsg h = {.type = data[0] & 31, .tx_id = data[1] & 7, .len = data[2]};

		p->take = takes[data[0] >> 6];
		data += 3;
		size -= 3;
		h.len = (uint32_t)MIN(h.len, size);
		memcpy(message, &h, sizeof(h));
		memcpy(message + sizeof(h), data, h.len);
		feed(p, message, sizeof(h) + h.len);
		data += h.len;
		size -= h.len;
		(void)store_process(store);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct store_perm home[] = {{GUEST, STORE_PERM_NONE}};
	struct store_limits limits = store_limits_default;
	struct peer peers[2] = {{.take = SIZE_MAX}, {.take = SIZE_MAX}};
	struct store_session *host;
	struct store *store;
	unsigned events = 0;

	if (size < 1)
		return 0;
	limits.nodes = 30;
	limits.events = 50;
	limits.transaction_nodes = 20;
	limits.transaction_bytes = 200;
	store = store_new(&limits);
	host = store_open(store, 0, NULL, NULL);
	(void)store_mkdir(host, 0, "/local/domain/5");
	(void)store_set_perms(host, 0, "/local/domain/5", home, 1);
	(void)store_watch(host, "/", "all", on_event, &events);
	peers[0].conn = store_conn_new(store, GUEST, &ops, &peers[0]);
	peers[1].conn = store_conn_new(store, 0, &ops, &peers[1]);
	if (data[0] & 1) {
		feed_records(peers, store, data + 1, size - 1);
	} else {
		feed(&peers[data[0] >> 1 & 1], data + 1, size - 1);
		(void)store_process(store);
	}
	if (store_check(store))
		abort();
	if (data[0] & 4) {
		store_domain_gone(store, GUEST);
		while (store_pending(store))
			(void)store_process(store);
		if (store_check(store))
			abort();
	}
	store_conn_free(peers[0].conn);
	store_conn_free(peers[1].conn);
	store_close(host);
	store_free(store);
	return 0;
}

#ifdef FUZZ_STANDALONE
int main(int argc, char **argv)
{
	static uint8_t data[1 << 20];

	for (int i = 1; i < argc; i++) {
		FILE *f = fopen(argv[i], "rb");
		size_t n;

		if (!f) {
			perror(argv[i]);
			return 2;
		}
		n = fread(data, 1, sizeof(data), f);
		(void)fclose(f);
		(void)LLVMFuzzerTestOneInput(data, n);
	}
	return 0;
}
#endif
