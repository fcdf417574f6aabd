/* SPDX-License-Identifier: BSD-3-Clause */
/* References that are bad, revoked, read-only, somebody else's, and memory that goes away under them. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "world.h"

enum { SPARE = 4000, FAR_FRAME = 0x7fffffff };

struct entry {
	grant_ref_t ref;
	unsigned flags;
	int frame; /* of the region; FAR_FRAME, or negative: before it */
	domid_t to;
};

/* What an entry may be instead of a grant to the host. */
static const struct entry entries[] = {
	{SPARE, 0, RAW_PAGE_TX, 0},                 /* not granted */
	{SPARE, GTF_permit_access, RAW_PAGE_TX, 1}, /* to a guest */
	{SPARE, GTF_permit_access, RAW_PAGE_TX, DOMID_SELF},
	{SPARE, GTF_permit_access, FAR_FRAME, 0}, /* no such frame */
	{SPARE, GTF_permit_access, RAW_PAGES, 0}, /* the one after the last */
	{SPARE, GTF_accept_transfer, RAW_PAGE_TX, 0}, {SPARE, GTF_transitive, RAW_PAGE_TX, 0},
	{SPARE, GTF_permit_access | GTF_sub_page, RAW_PAGE_TX, 0},
	{UINT32_MAX, 0, 0, 0}, /* no such entry */
	{8192, 0, 0, 0},       /* likewise */
	{0, 0, 0, 0},          /* reserved */
};

static grant_ref_t make_entry(struct raw *r, unsigned i)
{
	const struct entry *e = &entries[i];

	if (e->ref < r->ngrants && e->ref >= RAW_REF)
		raw_grant(r, e->ref,
			raw_entry(e->frame == FAR_FRAME ? FAR_FRAME : r->frame + (uint32_t)e->frame,
				e->flags, e->to));
	return e->ref;
}

/* Each as a packet's only slot, its first and its second. */
static void send_bad(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < ARRAY_SIZE(entries); i++) {
		grant_ref_t bad = make_entry(r, i);

		raw_frame(r, raw_tx_page(r, 0), 200, i);
		raw_slot(r, bad, 0, 0, 1, 200);
		raw_slot(r, bad, 0, NETTXF_more_data, 2, 200);
		raw_slot(r, raw_tx_ref(0), 0, 0, 3, 100);
		raw_slot(r, raw_tx_ref(0), 0, NETTXF_more_data, 4, 200);
		raw_slot(r, bad, 0, 0, 5, 100);
		raw_push(r);
		raw_await(r, 5, NETIF_RSP_ERROR);
	}
	(void)raw_send(r, 100, 1);
}

/* For sending, reading is enough. */
static void send_readonly(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < RAW_TX_PAGES; i++)
		raw_grant(r, raw_tx_ref(i),
			raw_entry(r->frame + RAW_PAGE_TX + i, GTF_permit_access | GTF_readonly, 0));
	for (unsigned i = 0; i < 10; i++) {
		if (raw_send(r, 100, i) != NETIF_RSP_OKAY)
			raw_die("a read-only page was not read");
	}
}

/* RX responses must say error, and one for each request. */
static void receive_into(struct raw *r, grant_ref_t ref)
{
	uint32_t from = r->rx_prod;
	uint64_t end = raw_ms() + RAW_WAIT_MS;

	raw_post(r, 32, ref);
	while (atomic_load(&r->rx->rsp_prod) - from < 32 && raw_ms() < end)
		raw_sleep_ms(1);
	if (atomic_load(&r->rx->rsp_prod) - from < 32)
		raw_die("buffers were not used");
	for (uint32_t i = from; i != r->rx_prod; i++) {
		if (netif_rx_slot(r->rx, i)->rsp.status != NETIF_RSP_ERROR)
			raw_die("a buffer that was not granted was filled");
	}
}

static void receive_bad(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < ARRAY_SIZE(entries); i++)
		receive_into(r, make_entry(r, i) ? make_entry(r, i) : UINT32_MAX);
}

static void receive_readonly(struct raw *r, unsigned arg)
{
	raw_grant(r, SPARE, raw_entry(r->frame + RAW_PAGE_RX, GTF_permit_access | GTF_readonly, 0));
	memset(r->pages + (size_t)RAW_PAGE_RX * SHUNT_PAGE_SIZE, 0x5a, SHUNT_PAGE_SIZE);
	receive_into(r, SPARE);
	for (unsigned i = 0; i < SHUNT_PAGE_SIZE; i++) {
		if (r->pages[(size_t)RAW_PAGE_RX * SHUNT_PAGE_SIZE + i] != 0x5a)
			raw_die("a read-only page was written");
	}
}

/* Published, then revoked: as if it had been revoked before, or sent. */
static void revoke_late(struct raw *r, unsigned arg)
{
	raw_post(r, 200, 0);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < 32; i++) {
			raw_frame(r, raw_tx_page(r, i), 800, i);
			raw_slot(r, raw_tx_ref(i), 0, 0, i, 800);
		}
		raw_push(r);
		for (unsigned i = 0; i < RAW_PAGES; i++)
			raw_grant(r, RAW_REF + i, 0);
		raw_await(r, 32, RAW_ANY);
		for (unsigned i = 0; i < RAW_PAGES; i++)
			raw_grant(r, RAW_REF + i, raw_entry(r->frame + i, GTF_permit_access, 0));
	}
}

/* The rings' own region may not go while it is mapped; another may, in the midst of traffic out of and into it. */
static void region_goes(struct raw *r, unsigned arg)
{
	enum { PAGES = 16 };
	struct wire_reply reply;
	uint64_t end = raw_ms() + 500;

	if (raw_call(r, WIRE_REGION_DEL, r->frame, 0, 0, NULL, NULL) != -EBUSY)
		raw_die("the rings' region could be taken away");
	while (raw_ms() < end) {
		int fd = raw_memfd(PAGES * SHUNT_PAGE_SIZE, F_SEAL_SHRINK | F_SEAL_GROW);
		const struct wire_request add = {.op = WIRE_REGION_ADD,
			.id = ++r->last_id,
			.arg = {PAGES * SHUNT_PAGE_SIZE}};

		if (raw_call_fds(r, &add, NULL, 0, &fd, 1, &reply, NULL))
			raw_die("REGION_ADD: %s", reply.why);
		(void)close(fd);
		for (unsigned i = 0; i < PAGES; i++)
			raw_grant(r, SPARE + i,
				raw_entry((uint32_t)reply.arg[0] + i, GTF_permit_access, 0));
		for (unsigned i = 0; i < 64; i++)
			raw_slot(r, SPARE + i % PAGES, 0, 0, i, 1000);
		raw_post(r, MIN(32u, NETIF_RX_RING - (r->rx_prod - atomic_load(&r->rx->rsp_prod))),
			SPARE);
		raw_push(r);
		if (raw_call(r, WIRE_REGION_DEL, reply.arg[0], 0, 0, NULL, NULL))
			raw_die("the region stayed");
		raw_await(r, 64, RAW_ANY);
	}
}

/* As a guest: copies and maps of what is not one's own. All are refused, with an errno. */
static void reach_for_others(struct raw *r, unsigned arg)
{
	for (domid_t domain = 0; domain < 8; domain++) {
		for (grant_ref_t ref = 0; ref < 64; ref++) {
			struct wire_request map = {
				.op = WIRE_GRANT_MAP, .id = ++r->last_id, .arg = {domain, 1, 0}};
			int fd;

			if (domain == r->domid)
				continue;
			if (raw_call(r, WIRE_GRANT_COPY, domain, ref | (uint64_t)64 << 48, r->frame,
				    NULL, NULL) >= 0)
				raw_die("domain %u's page %u could be copied", domain, ref);
			if (raw_call(r, WIRE_GRANT_COPY, domain | 1u << 16,
				    ref | (uint64_t)64 << 48, r->frame, NULL, NULL) >= 0)
				raw_die("domain %u's page %u could be written", domain, ref);
			if (raw_call_fds(r, &map, &ref, sizeof(ref), NULL, 0, NULL, &fd) >= 0 ||
				fd >= 0)
				raw_die("domain %u's page %u could be mapped", domain, ref);
		}
		if (raw_call(r, WIRE_EVTCHN_BIND, domain, domain, 0, NULL, NULL) >= 0)
			raw_die("domain %u's event channel could be bound", domain);
	}
}

/* Own pages, at the edges of frames and counts. */
static void odd_requests(struct raw *r, unsigned arg)
{
	static const uint64_t odd[] = {0, 1, 0x7fff, 0xffff, 0x10000, UINT32_MAX, UINT32_MAX + 1ull,
		INT64_MAX, UINT64_MAX};

	for (unsigned op = WIRE_REGION_DEL; op < WIRE_STORE; op++) {
		for (unsigned i = 0; i < ARRAY_SIZE(odd); i++) {
			for (unsigned j = 0; j < ARRAY_SIZE(odd); j++) {
				uint64_t second = op == WIRE_EVTCHN_BIND || op == WIRE_GRANT_COPY
							  ? odd[j]
							  : 0;
				uint64_t third =
					op == WIRE_GRANT_COPY ? odd[(i + j) % ARRAY_SIZE(odd)] : 0;
				int fd;

				/* Region 0 and port 1 are what the attack itself stands on. */
				if (op == WIRE_GRANT_MAP ||
					(op == WIRE_EVTCHN_CLOSE && odd[i] == r->port))
					continue;
				if (raw_call(r, (enum wire_op)op, odd[i], second, third, NULL,
					    &fd) == -EPIPE)
					raw_die("operation %u with odd arguments ended the connection",
						op);
				if (fd >= 0)
					(void)close(fd);
			}
		}
	}
}

static const struct hostile_case cases[] = {
	{.name = "send-bad", .attack = send_bad, .start = RAW_UP, .drop = "grant", .good = 1},
	{.name = "send-read-only", .attack = send_readonly, .start = RAW_UP, .good = 10},
	{.name = "receive-bad",
		.attack = receive_bad,
		.start = RAW_UP,
		.drop = "grant",
		.flood = 8},
	{.name = "receive-read-only",
		.attack = receive_readonly,
		.start = RAW_UP,
		.drop = "grant",
		.flood = 8},
	{.name = "revoke-late",
		.attack = revoke_late,
		.start = RAW_UP,
		.good = FRAMES_ANY,
		.flood = 8},
	{.name = "region-goes",
		.attack = region_goes,
		.start = RAW_UP,
		.good = FRAMES_ANY,
		.flood = 8,
		.garbled = true},
	{.name = "reach-for-others", .attack = reach_for_others, .start = RAW_UP},
	{.name = "odd-requests", .attack = odd_requests, .start = RAW_UP},
};

const struct hostile_group group_grants = {
	.name = "grants", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 2};
