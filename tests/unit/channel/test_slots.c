/* SPDX-License-Identifier: BSD-3-Clause */
/* The back end slot by slot: what it accepts, drops and breaks on, and that it answers every request exactly once. */
#include "raw.h"

#include <poll.h>
#include <string.h>

enum { GSO_FLAGS = NETTXF_csum_blank | NETTXF_extra_info };

static const uint32_t starts[] = {0, 0xffffff80u};

static struct netif_extra_info gso_extra(uint8_t type, uint16_t size, uint8_t flags)
{
	struct netif_extra_info extra = {.type = XEN_NETIF_EXTRA_TYPE_GSO, .flags = flags};

	extra.u.gso.type = type;
	extra.u.gso.size = size;
	return extra;
}

static struct shunt_packet *receive(struct raw *r)
{
	struct shunt_packet *packet = NULL;

	(void)raw_tx_publish(r);
	assert_int_equal(shunt_port_rx(r->port, 0, &packet, 1), 1);
	return packet;
}

/* Release, and have the answers published. */
static void give_back(struct raw *r, struct shunt_packet **packets, unsigned n)
{
	shunt_packets_release(packets, n);
	assert_int_equal(shunt_port_rx(r->port, 0, packets, 0), 0);
}

static void test_plain(void **state)
{
	struct shunt_packet *packet;
	struct raw r;

	(void)state;
	for (unsigned s = 0; s < ARRAY_SIZE(starts); s++) {
		raw_open(&r, starts[s]);
		for (unsigned i = 0; i < 300; i++) {
			uint16_t len = (uint16_t)(14 + i * 13);
			uint16_t offset = (uint16_t)(i % 2 ? SHUNT_PAGE_SIZE - len : 0);

			memset(raw_page(&r, RAW_DATA), (int)i, SHUNT_PAGE_SIZE);
			raw_tx_slot(&r, RAW_DATA, offset, 0, (uint16_t)(i * 7 % 256), len);
			packet = receive(&r);
			assert_int_equal(packet->len, len);
			assert_int_equal(packet->head_len, MIN(len, SHUNT_VIEW_HEAD));
			assert_int_equal(packet->flags, SHUNT_PKT_VIEW);
			assert_int_equal(packet->nsegs, len > SHUNT_VIEW_HEAD);
			assert_int_equal(packet->data[0], i & 0xff);
			raw_expect_no_tx(&r);
			give_back(&r, &packet, 1);
			raw_expect_tx(&r, (uint16_t)(i * 7 % 256), NETIF_RSP_OKAY);
			raw_expect_no_tx(&r);
		}
		raw_close(&r);
	}
}

/* The whole answer slot is written: nothing of an earlier request shows through. */
static void test_answers_are_whole(void **state)
{
	struct shunt_packet *packet;
	const uint32_t *slot;
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	raw_tx_slot(&r, RAW_DATA, 0x111, 0, 0x22, 0x333);
	packet = receive(&r);
	give_back(&r, &packet, 1);
	slot = (const uint32_t *)(const void *)netif_tx_slot(r.tx.shared, 0);
	assert_int_equal(slot[0], 0x22);
	assert_int_equal(slot[1], 0);
	assert_int_equal(slot[2], 0);
	raw_close(&r);
}

/* netif.h: bits 0 and 1 are csum_blank and data_validated here, and the other way round on the RX ring. */
static void test_csum_flags(void **state)
{
	static const struct {
		uint16_t tx;
		uint32_t flags;
		uint16_t rx;
	} maps[] = {
		{0, 0, 0},
		{1, SHUNT_PKT_CSUM_PARTIAL, 3},
		{2, SHUNT_PKT_CSUM_VALID, 1},
		{3, SHUNT_PKT_CSUM_PARTIAL, 3},
	};
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	raw_rx_post_n(&r, 64);
	for (unsigned slots = 1; slots < 3; slots++) {
		for (unsigned i = 0; i < ARRAY_SIZE(maps); i++) {
			struct netif_rx_response response;
			struct shunt_packet *packet;

			raw_tx_packet(&r, slots, 100, 0);
			netif_tx_slot(r.tx.shared, r.tx.req_prod - slots)->req.flags |= maps[i].tx;
			packet = receive(&r);
			assert_int_equal(packet->flags & ~(uint32_t)SHUNT_PKT_VIEW, maps[i].flags);
			assert_int_equal(shunt_port_tx(r.port, 0, &packet, 1), 1);
			assert_true(raw_rx_response(&r, &response));
			assert_int_equal(response.flags, maps[i].rx);
		}
	}
	raw_close(&r);
}

static void test_slot_counts(void **state)
{
	(void)state;
	for (unsigned s = 0; s < ARRAY_SIZE(starts); s++) {
		struct raw r;

		raw_open(&r, starts[s]);
		for (unsigned slots = 2; slots <= NETIF_DROP_SLOTS; slots++) {
			struct shunt_packet *packet = NULL;
			bool good = slots <= NETIF_MAX_SLOTS;
			unsigned n;

			for (unsigned i = 0; i < slots; i++)
				memset(raw_page(&r, RAW_DATA + i), (int)i, SHUNT_PAGE_SIZE);
			raw_tx_packet(&r, slots, 200, 40);
			(void)raw_tx_publish(&r);
			n = shunt_port_rx(r.port, 0, &packet, 1);
			assert_int_equal(n, good);
			if (good) {
				uint8_t bytes[200 * NETIF_MAX_SLOTS];

				assert_int_equal(packet->len, 200 * slots);
				assert_int_equal(packet->head_len, SHUNT_VIEW_HEAD);
				assert_int_equal(
					shunt_packet_copy_out(packet, 0, bytes, sizeof(bytes)),
					200 * slots);
				for (unsigned i = 0; i < slots; i++) {
					assert_int_equal(bytes[i * 200], i);
					assert_int_equal(bytes[i * 200 + 199], i);
				}
			} else {
				assert_int_equal(raw_drops(&r, SHUNT_DROP_MALFORMED),
					slots - NETIF_MAX_SLOTS);
			}
			give_back(&r, &packet, n);
			for (unsigned i = 0; i < slots; i++)
				raw_expect_tx(&r, (uint16_t)(40 + i),
					good ? NETIF_RSP_OKAY : NETIF_RSP_ERROR);
			raw_expect_no_tx(&r);
			assert_int_equal(r.events[NETIF_BROKEN], 0);
		}
		raw_close(&r);
	}
}

/* The largest frame in the fewest slots, and slots of no bytes. */
static void test_sizes(void **state)
{
	struct shunt_packet *packet;
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	for (unsigned i = 0; i < 16; i++)
		raw_tx_slot(&r, RAW_DATA + i, 0, i < 15 ? NETTXF_more_data : 0, (uint16_t)i,
			i == 0    ? 65535
			: i == 15 ? 4095
				  : 4096);
	packet = receive(&r);
	assert_int_equal(packet->len, 65535);
	give_back(&r, &packet, 1);
	for (unsigned i = 0; i < 16; i++)
		raw_expect_tx(&r, (uint16_t)i, NETIF_RSP_OKAY);
	/* All of it in the second slot; then an empty one. */
	raw_tx_slot(&r, RAW_DATA, 4095, NETTXF_more_data, 1, 60);
	raw_tx_slot(&r, RAW_DATA, 0, NETTXF_more_data, 2, 60);
	raw_tx_slot(&r, RAW_DATA, 4096, 0, 3, 0);
	packet = receive(&r);
	assert_int_equal(packet->len, 60);
	assert_int_equal(packet->head_len, 60);
	give_back(&r, &packet, 1);
	raw_close(&r);
}

/* The head is private at any slot size: the guest cannot change what was looked at. */
static void test_head_is_private(void **state)
{
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	for (unsigned slots = 1; slots <= NETIF_MAX_SLOTS; slots++) {
		uint16_t each = (uint16_t)(slots < 3 ? 100 : 20);
		struct shunt_packet *packet;

		for (unsigned i = 0; i < slots; i++)
			memset(raw_page(&r, RAW_DATA + i), 0x55, SHUNT_PAGE_SIZE);
		raw_tx_packet(&r, slots, each, 0);
		packet = receive(&r);
		for (unsigned i = 0; i < slots; i++)
			memset(raw_page(&r, RAW_DATA + i), 0xaa, SHUNT_PAGE_SIZE);
		assert_int_equal(packet->head_len, MIN(packet->len, (uint32_t)SHUNT_VIEW_HEAD));
		for (unsigned i = 0; i < packet->head_len; i++)
			assert_int_equal(packet->data[i], 0x55);
		give_back(&r, &packet, 1);
	}
	raw_close(&r);
}

static void test_gso(void **state)
{
	(void)state;
	for (uint8_t type = 1; type <= 2; type++) {
		struct netif_extra_info extra = gso_extra(type, 1448, 0);
		struct shunt_packet *packet;
		struct raw r;

		raw_open(&r, 0xfffffffeu);
		raw_tx_slot(&r, RAW_DATA, 0, GSO_FLAGS | NETTXF_more_data, 9, 5000);
		raw_tx_extra(&r, &extra);
		raw_tx_slot(&r, RAW_DATA + 1, 0, NETTXF_more_data, 8, 2000);
		raw_tx_slot(&r, RAW_DATA + 2, 0, 0, 7, 1000);
		packet = receive(&r);
		assert_int_equal(packet->gso_type, type);
		assert_int_equal(packet->gso_size, 1448);
		assert_true(packet->flags & SHUNT_PKT_CSUM_PARTIAL);
		give_back(&r, &packet, 1);
		raw_expect_tx(&r, 9, NETIF_RSP_OKAY);
		raw_expect_tx(&r, 0, NETIF_RSP_NULL);
		raw_expect_tx(&r, 8, NETIF_RSP_OKAY);
		raw_expect_tx(&r, 7, NETIF_RSP_OKAY);
		raw_expect_no_tx(&r);
		raw_close(&r);
	}
}

static void test_other_extras(void **state)
{
	struct netif_extra_info hash = {
		.type = XEN_NETIF_EXTRA_TYPE_HASH, .flags = XEN_NETIF_EXTRA_FLAG_MORE};
	struct netif_extra_info xdp = {.type = NETIF_EXTRA_XDP, .flags = XEN_NETIF_EXTRA_FLAG_MORE};
	struct netif_extra_info gso = gso_extra(1, 100, 0);
	struct shunt_packet *packet;
	struct raw r;

	(void)state;
	hash.u.hash.type = 1;
	memcpy(hash.u.hash.value, &(uint32_t){0x51ccc178}, 4);
	raw_open(&r, 0);
	raw_tx_slot(&r, RAW_DATA, 0, GSO_FLAGS, 3, 500);
	raw_tx_extra(&r, &hash);
	raw_tx_extra(&r, &xdp);
	raw_tx_extra(&r, &gso);
	packet = receive(&r);
	assert_true(packet->flags & SHUNT_PKT_HASH);
	assert_int_equal(packet->hash, 0x51ccc178);
	assert_int_equal(packet->hash_type, 1);
	assert_int_equal(packet->gso_size, 100);
	give_back(&r, &packet, 1);
	raw_expect_tx(&r, 3, NETIF_RSP_OKAY);
	for (unsigned i = 0; i < 3; i++)
		raw_expect_tx(&r, 0, NETIF_RSP_NULL);
	raw_expect_no_tx(&r);
	raw_close(&r);
}

static void test_multicast(void **state)
{
	struct netif_extra_info add = {.type = XEN_NETIF_EXTRA_TYPE_MCAST_ADD};
	struct netif_extra_info del = {.type = XEN_NETIF_EXTRA_TYPE_MCAST_DEL};
	struct shunt_packet *packet;
	struct raw r;

	(void)state;
	memcpy(add.u.mcast.addr, "\x01\x00\x5e\x01\x02\x03", 6);
	memcpy(del.u.mcast.addr, "\x33\x33\x00\x00\x00\x01", 6);
	raw_open(&r, 0);
	/* Neither size nor page of the dummy slot count. */
	raw_tx_slot(&r, RAW_DATA, 0xffff, NETTXF_extra_info, 77, 0);
	raw_tx_extra(&r, &add);
	(void)raw_tx_publish(&r);
	assert_int_equal(shunt_port_rx(r.port, 0, &packet, 1), 0);
	assert_int_equal(r.events[NETIF_MCAST_ADD], 1);
	assert_memory_equal(r.mac, add.u.mcast.addr, 6);
	(void)shunt_port_rx(r.port, 0, &packet, 1);
	raw_expect_tx(&r, 77, NETIF_RSP_OKAY);
	raw_expect_tx(&r, 0, NETIF_RSP_NULL);
	r.refuse = true;
	raw_tx_slot(&r, RAW_DATA, 0, NETTXF_extra_info, 78, 0);
	raw_tx_extra(&r, &del);
	(void)raw_tx_publish(&r);
	assert_int_equal(shunt_port_rx(r.port, 0, &packet, 1), 0);
	assert_int_equal(r.events[NETIF_MCAST_DEL], 1);
	assert_memory_equal(r.mac, del.u.mcast.addr, 6);
	(void)shunt_port_rx(r.port, 0, &packet, 1);
	raw_expect_tx(&r, 78, NETIF_RSP_ERROR);
	raw_expect_tx(&r, 0, NETIF_RSP_NULL);
	raw_expect_no_tx(&r);
	raw_close(&r);
}

/* ---- dropped: counted by name, every slot answered ERROR, the next packet comes through ---- */

static void dropped(struct raw *r, enum shunt_drop why, unsigned slots, unsigned extras)
{
	struct shunt_port_stats before, after;
	struct shunt_packet *packet;

	raw_tx_slot(r, RAW_DATA, 0, 0, 200, 60);
	(void)raw_tx_publish(r);
	shunt_port_stats(r->port, &before);
	packet = NULL;
	while (shunt_port_rx(r->port, 0, &packet, 1) == 0)
		assert_true(r->q->running);
	assert_int_equal(packet->len, 60);
	shunt_port_stats(r->port, &after);
	assert_int_equal(after.drops[why] - before.drops[why], 1);
	assert_int_equal(after.rx_packets - before.rx_packets, 2);
	give_back(r, &packet, 1);
	for (unsigned i = 0; i < slots; i++) {
		raw_expect_tx(r, (uint16_t)(i + 1), NETIF_RSP_ERROR);
		for (unsigned e = 0; i == 0 && e < extras; e++)
			raw_expect_tx(r, 0, NETIF_RSP_NULL);
	}
	raw_expect_tx(r, 200, NETIF_RSP_OKAY);
	raw_expect_no_tx(r);
}

static void test_drops(void **state)
{
	struct netif_extra_info gso = gso_extra(1, 1000, 0);
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	for (uint16_t len = 0; len < NETIF_MIN_FRAME; len++) {
		raw_tx_slot(&r, RAW_DATA, 0, 0, 1, len);
		dropped(&r, SHUNT_DROP_RUNT, 1, 0);
	}
	raw_tx_packet(&r, 2, 6, 1);
	dropped(&r, SHUNT_DROP_RUNT, 2, 0);
	/* Slots that hold more than the packet. */
	raw_tx_slot(&r, RAW_DATA, 0, NETTXF_more_data, 1, 1000);
	raw_tx_slot(&r, RAW_DATA, 0, 0, 2, 1001);
	dropped(&r, SHUNT_DROP_MALFORMED, 2, 0);
	/* Not granted, granted to somebody else, granted no memory. */
	raw_tx_slot(&r, 8000, 0, 0, 1, 100);
	dropped(&r, SHUNT_DROP_GRANT, 1, 0);
	twin_flip_grant(r.twin, 1, raw_ref(&r, RAW_DATA + 1), 1 << 16);
	raw_tx_packet(&r, 2, 100, 1);
	dropped(&r, SHUNT_DROP_GRANT, 2, 0);
	twin_flip_grant(r.twin, 1, raw_ref(&r, RAW_DATA + 1), 1 << 16 | 1ull << 62);
	raw_tx_packet(&r, 3, 100, 1);
	dropped(&r, SHUNT_DROP_GRANT, 3, 0);
	/* GSO with its checksum finished. */
	raw_tx_slot(&r, RAW_DATA, 0, NETTXF_extra_info, 1, 3000);
	raw_tx_extra(&r, &gso);
	dropped(&r, SHUNT_DROP_GSO, 1, 1);
	assert_int_equal(r.events[NETIF_BROKEN], 0);
	raw_close(&r);
}

/* Sending from a page that is granted for reading only is right; receiving into it is not. */
static void test_read_only_page(void **state)
{
	struct netif_rx_response response;
	struct shunt_packet *packet;
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	twin_flip_grant(r.twin, 1, raw_ref(&r, RAW_DATA), GTF_readonly);
	raw_tx_slot(&r, RAW_DATA, 0, 0, 1, 100);
	packet = receive(&r);
	(void)raw_rx_post(&r, 5, raw_ref(&r, RAW_DATA));
	memset(raw_page(&r, RAW_DATA), 0x77, SHUNT_PAGE_SIZE);
	assert_int_equal(shunt_port_tx(r.port, 0, &packet, 1), 1);
	assert_true(raw_rx_response(&r, &response));
	assert_int_equal(response.status, NETIF_RSP_ERROR);
	assert_int_equal(response.id, 5);
	assert_int_equal(raw_drops(&r, SHUNT_DROP_GRANT), 1);
	for (unsigned i = 0; i < SHUNT_PAGE_SIZE; i++)
		assert_int_equal(raw_page(&r, RAW_DATA)[i], 0x77);
	raw_close(&r);
}

/* ---- broken: reported once, not touched again ---- */

static void broken(void (*lie)(struct raw *r), const char *why)
{
	/* Alone, behind others in a batch, and where the ring's end is. */
	static const unsigned before[] = {0, 1, 40, 63, 200};

	for (unsigned i = 0; i < ARRAY_SIZE(before); i++) {
		struct shunt_packet *packets[SHUNT_BATCH];
		unsigned got = 0;
		uint32_t answered;
		struct raw r;

		raw_open(&r, 0xffffff00u);
		for (unsigned k = 0; k < before[i]; k++)
			raw_tx_slot(&r, RAW_DATA, 0, 0, (uint16_t)k, 60);
		lie(&r);
		(void)raw_tx_publish(&r);
		for (unsigned tries = 0; tries < 10; tries++) {
			unsigned n = shunt_port_rx(r.port, 0, packets, SHUNT_BATCH);

			got += n;
			shunt_packets_release(packets, n);
		}
		if (!strstr(r.q->broken, why))
			fail_msg("\"%s\", not \"%s\"", r.q->broken, why);
		assert_int_equal(r.events[NETIF_BROKEN], 1);
		assert_int_equal(got, strstr(why, "producer") ? 0 : before[i]);
		assert_false(r.q->running);
		answered = atomic_load(&r.tx.shared->rsp_prod);
		memset(r.port->stats, 0, sizeof(*r.port->stats));
		packets[0] = raw_packet(&r, 100, 1);
		assert_int_equal(shunt_port_tx(r.port, 0, packets, 1), 1);
		assert_int_equal(raw_drops(&r, SHUNT_DROP_LINK_DOWN), 1);
		assert_true(shunt_port_arm(r.port, 0));
		assert_true(netif_back_queue_stop(r.q));
		assert_int_equal(atomic_load(&r.tx.shared->rsp_prod), answered);
		raw_close(&r);
	}
}

static void lie_producer(struct raw *r)
{
	r->tx.req_prod += 257;
}

static void lie_producer_back(struct raw *r)
{
	atomic_store(&r->tx.shared->req_prod, r->tx.req_published - 1);
	r->tx.req_prod = r->tx.req_published;
}

static void lie_cross(struct raw *r)
{
	raw_tx_slot(r, RAW_DATA, 4000, 0, 1, 97);
}

static void lie_cross_far(struct raw *r)
{
	raw_tx_slot(r, RAW_DATA, 65535, 0, 1, 65535);
}

static void lie_cross_first(struct raw *r)
{
	raw_tx_slot(r, RAW_DATA, 4000, NETTXF_more_data, 1, 1097);
	raw_tx_slot(r, RAW_DATA, 0, 0, 2, 1000);
}

static void lie_cross_further(struct raw *r)
{
	raw_tx_slot(r, RAW_DATA, 0, NETTXF_more_data, 1, 1000);
	raw_tx_slot(r, RAW_DATA, 3600, 0, 2, 497);
}

static void lie_no_extra(struct raw *r)
{
	raw_tx_slot(r, RAW_DATA, 0, NETTXF_extra_info, 1, 100);
}

static void lie_no_second_extra(struct raw *r)
{
	struct netif_extra_info extra = gso_extra(1, 1, XEN_NETIF_EXTRA_FLAG_MORE);

	raw_tx_slot(r, RAW_DATA, 0, GSO_FLAGS, 1, 100);
	raw_tx_extra(r, &extra);
}

static void lie_extra(struct raw *r, uint8_t type)
{
	struct netif_extra_info extra = {.type = type};

	raw_tx_slot(r, RAW_DATA, 0, GSO_FLAGS, 1, 100);
	raw_tx_extra(r, &extra);
}

static void lie_extra_none(struct raw *r)
{
	lie_extra(r, 0);
}

static void lie_extra_unknown(struct raw *r)
{
	lie_extra(r, NETIF_EXTRA_XDP + 1);
}

static void lie_many_extras(struct raw *r)
{
	struct netif_extra_info extra = gso_extra(1, 1, XEN_NETIF_EXTRA_FLAG_MORE);

	raw_tx_slot(r, RAW_DATA, 0, GSO_FLAGS, 1, 100);
	for (unsigned i = 0; i < 30; i++)
		raw_tx_extra(r, &extra);
}

static void lie_gso(struct raw *r, uint8_t type, uint16_t size)
{
	struct netif_extra_info extra = gso_extra(type, size, 0);

	raw_tx_slot(r, RAW_DATA, 0, GSO_FLAGS, 1, 100);
	raw_tx_extra(r, &extra);
}

static void lie_gso_size(struct raw *r)
{
	lie_gso(r, 1, 0);
}

static void lie_gso_none(struct raw *r)
{
	lie_gso(r, 0, 100);
}

static void lie_gso_type(struct raw *r)
{
	lie_gso(r, 3, 100);
}

static void lie_many_slots(struct raw *r)
{
	raw_tx_packet(r, NETIF_DROP_SLOTS + 1, 100, 0);
}

static void lie_endless(struct raw *r)
{
	for (unsigned i = 0; i < 50; i++)
		raw_tx_slot(r, RAW_DATA, 0, NETTXF_more_data, 1, 100);
}

static void lie_unfinished(struct raw *r)
{
	raw_tx_slot(r, RAW_DATA, 0, NETTXF_more_data, 1, 100);
	raw_tx_slot(r, RAW_DATA, 0, NETTXF_more_data, 1, 10);
}

static void test_broken(void **state)
{
	(void)state;
	broken(lie_producer, "TX request producer is impossible");
	broken(lie_cross, "first slot crosses its page: offset 4000 size 97");
	broken(lie_cross_far, "first slot crosses its page");
	broken(lie_cross_first, "first slot crosses its page: offset 4000 size 97");
	broken(lie_cross_further, "slot crosses its page: offset 3600 size 497");
	broken(lie_no_extra, "an extra is announced and not on the ring");
	broken(lie_no_second_extra, "an extra is announced and not on the ring");
	broken(lie_extra_none, "extra of type 0");
	broken(lie_extra_unknown, "extra of type 6");
	broken(lie_many_extras, "more than 5 extras");
	broken(lie_gso_size, "GSO of type 1 size 0");
	broken(lie_gso_none, "GSO of type 0");
	broken(lie_gso_type, "GSO of type 3");
	broken(lie_many_slots, "a packet of more than 21 slots");
	broken(lie_endless, "a packet of more than 21 slots");
	broken(lie_unfinished, "a packet of more than 2 slots is not all on the ring");
}

static void test_producer_goes_back(void **state)
{
	struct shunt_packet *packet;
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	raw_tx_slot(&r, RAW_DATA, 0, 0, 1, 60);
	packet = receive(&r);
	lie_producer_back(&r);
	assert_false(shunt_port_arm(r.port, 0) && r.q->running);
	assert_int_equal(r.events[NETIF_BROKEN], 1);
	/* The view is still good, and goes home though nobody hears of it. */
	assert_int_equal(packet->len, 60);
	assert_false(netif_back_queue_stop(r.q));
	shunt_packets_release(&packet, 1);
	raw_close(&r);
}

static void test_rx_producer(void **state)
{
	struct shunt_packet *packets[2];
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	atomic_store(&r.rx.shared->req_prod, 257);
	packets[0] = raw_packet(&r, 100, 1);
	assert_int_equal(shunt_port_tx(r.port, 0, packets, 1), 0);
	assert_int_equal(r.events[NETIF_BROKEN], 1);
	assert_non_null(strstr(r.q->broken, "RX request producer is impossible"));
	shunt_packets_release(packets, 1);
	raw_close(&r);
}

/* ---- batches ---- */

/* A long packet anywhere in a batch, asked for in batches of any size. */
static void test_long_packet_anywhere(void **state)
{
	static const unsigned asked[] = {1, 2, 25, 26, 27, 63, 64};
	struct raw r;

	(void)state;
	raw_open(&r, 0xfffffff0u);
	for (unsigned a = 0; a < ARRAY_SIZE(asked); a++) {
		for (unsigned before = 0; before < 90; before++) {
			struct shunt_packet *packets[SHUNT_BATCH];
			unsigned got = 0;

			for (unsigned i = 0; i < before; i++)
				raw_tx_slot(&r, RAW_DATA, 0, 0, (uint16_t)i, 60);
			raw_tx_packet(&r, NETIF_MAX_SLOTS, 100, 1000);
			raw_tx_packet(&r, NETIF_DROP_SLOTS, 100, 2000);
			raw_tx_packet(&r, 2, 500, 3000);
			(void)raw_tx_publish(&r);
			for (unsigned tries = 0; got < before + 2; tries++) {
				unsigned n = shunt_port_rx(r.port, 0, packets, asked[a]);

				assert_true(tries < 200);
				assert_true(n <= asked[a]);
				for (unsigned i = 0; i < n; i++, got++)
					assert_int_equal(packets[i]->len, got < before    ? 60
									  : got == before ? 1900
											  : 1000);
				shunt_packets_release(packets, n);
			}
			(void)shunt_port_rx(r.port, 0, packets, 0);
			for (unsigned i = 0; i < before + NETIF_MAX_SLOTS + NETIF_DROP_SLOTS + 2;
				i++) {
				uint16_t id;
				int16_t status;

				assert_true(raw_tx_response(&r, &id, &status));
			}
			raw_expect_no_tx(&r);
		}
	}
	assert_int_equal(r.events[NETIF_BROKEN], 0);
	raw_close(&r);
}

/* Several in flight, released in any order: every id once, the slots of a packet together. */
static void test_out_of_order(void **state)
{
	struct netif_extra_info gso = gso_extra(1, 100, 0);
	struct shunt_packet *packets[12];
	unsigned answered[256] = {0};
	unsigned total = 0, nulls = 0;
	uint16_t id, last = 0;
	int16_t status;
	struct raw r;

	(void)state;
	raw_open(&r, 0xffffffe0u);
	for (unsigned i = 0; i < 12; i++) {
		unsigned slots = 1 + i % 4;

		raw_tx_packet(&r, slots, 300, (uint16_t)(i * 16));
		if (i % 4 == 3) {
			/* An extra behind the first of four slots. */
			r.tx.req_prod -= 3;
			netif_tx_slot(r.tx.shared, r.tx.req_prod - 1)->req.flags |= GSO_FLAGS;
			raw_tx_extra(&r, &gso);
			for (unsigned k = 1; k < 4; k++)
				raw_tx_slot(&r, RAW_DATA + k, 0, k < 3 ? NETTXF_more_data : 0,
					(uint16_t)(i * 16 + k), 300);
		}
	}
	(void)raw_tx_publish(&r);
	for (unsigned got = 0; got < 12;) {
		unsigned n = shunt_port_rx(r.port, 0, packets + got, 12 - got);

		assert_true(n > 0);
		got += n;
	}
	assert_int_equal(r.q->outstanding, 12);
	for (unsigned i = 0; i < 12; i++)
		shunt_packets_release(&packets[i * 5 % 12], 1);
	assert_int_equal(r.q->outstanding, 0);
	(void)shunt_port_rx(r.port, 0, packets, 0);
	while (raw_tx_response(&r, &id, &status)) {
		total++;
		if (status == NETIF_RSP_NULL) {
			nulls++;
			assert_int_equal(last % 64, 48);
			continue;
		}
		assert_int_equal(status, NETIF_RSP_OKAY);
		assert_true(id < 256);
		answered[id]++;
		if (id % 16)
			assert_int_equal(id, last + 1);
		last = id;
	}
	assert_int_equal(total, 3 * (1 + 2 + 3 + 5));
	assert_int_equal(nulls, 3);
	for (unsigned i = 0; i < 12; i++) {
		for (unsigned k = 0; k < 16; k++)
			assert_int_equal(answered[i * 16 + k], k < 1 + i % 4);
	}
	raw_close(&r);
}

/* No more views than there are: the rest stays on the ring. */
static void test_views_run_out(void **state)
{
	struct shunt_packet *packets[3 * SHUNT_BATCH];
	unsigned got = 0, n;
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	r.views.nfree = 100;
	for (unsigned i = 0; i < 200; i++)
		raw_tx_slot(&r, RAW_DATA, 0, 0, (uint16_t)i, 60);
	(void)raw_tx_publish(&r);
	while ((n = shunt_port_rx(r.port, 0, packets + got, SHUNT_BATCH)) > 0)
		got += n;
	assert_int_equal(got, 100);
	assert_false(shunt_port_arm(r.port, 0));
	shunt_packets_release(packets, got);
	got = 0;
	while ((n = shunt_port_rx(r.port, 0, packets + got, SHUNT_BATCH)) > 0)
		got += n;
	assert_int_equal(got, 100);
	shunt_packets_release(packets, got);
	r.views.nfree = RAW_VIEWS;
	raw_close(&r);
}

static void test_stop_waits(void **state)
{
	struct shunt_packet *packets[3];
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	for (unsigned i = 0; i < 3; i++)
		raw_tx_packet(&r, 2, 100, (uint16_t)(i * 2));
	(void)raw_tx_publish(&r);
	assert_int_equal(shunt_port_rx(r.port, 0, packets, 2), 2);
	assert_false(netif_back_queue_stop(r.q));
	shunt_packets_release(packets, 1);
	assert_false(netif_back_queue_stop(r.q));
	shunt_packets_release(packets + 1, 1);
	raw_expect_no_tx(&r);
	assert_true(netif_back_queue_stop(r.q));
	for (unsigned i = 0; i < 4; i++)
		raw_expect_tx(&r, (uint16_t)i, NETIF_RSP_OKAY);
	raw_expect_no_tx(&r);
	/* What was not fetched is the next one's. */
	assert_int_equal(netif_back_queue_start(r.q, &r.views, r.pool), 0);
	assert_int_equal(shunt_port_rx(r.port, 0, packets, 2), 1);
	give_back(&r, packets, 1);
	raw_expect_tx(&r, 4, NETIF_RSP_OKAY);
	raw_close(&r);
}

static bool readable(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static void test_events(void **state)
{
	struct shunt_packet *packet;
	struct raw r;

	(void)state;
	raw_open(&r, 0xffffffffu);
	assert_true(shunt_port_arm(r.port, 0));
	raw_tx_slot(&r, RAW_DATA, 0, 0, 1, 60);
	assert_true(raw_tx_publish(&r));
	evtchn_notify(r.event);
	assert_true(readable(shunt_port_fd(r.port, 0)));
	assert_false(shunt_port_arm(r.port, 0));
	raw_tx_slot(&r, RAW_DATA, 0, 0, 2, 60);
	(void)raw_tx_publish(&r);
	assert_int_equal(shunt_port_rx(r.port, 0, &packet, 1), 1);
	assert_false(readable(r.event->fd));
	/* The answer is published by the next rx, and rings because it was asked for. */
	give_back(&r, &packet, 1);
	assert_true(readable(r.event->fd));
	assert_int_equal(evtchn_consume(r.event), 1);
	raw_expect_tx(&r, 1, NETIF_RSP_OKAY);
	assert_int_equal(shunt_port_rx(r.port, 0, &packet, 1), 1);
	give_back(&r, &packet, 1);
	assert_false(readable(r.event->fd));
	raw_expect_tx(&r, 2, NETIF_RSP_OKAY);
	/* And arm publishes too. */
	raw_tx_slot(&r, RAW_DATA, 0, 0, 3, 60);
	packet = receive(&r);
	assert_int_equal(ring_front_ask(&r.tx, 1), 0);
	shunt_packets_release(&packet, 1);
	assert_true(shunt_port_arm(r.port, 0));
	assert_true(readable(r.event->fd));
	raw_expect_tx(&r, 3, NETIF_RSP_OKAY);
	raw_close(&r);
}

/* ---- host to guest ---- */

static void check_bytes(struct raw *r, unsigned page, uint8_t seed, uint32_t at, uint32_t len)
{
	const uint8_t *bytes = raw_page(r, page);

	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(bytes[i], raw_byte(seed, at + i));
}

static void test_rx_layout(void **state)
{
	static const uint32_t lens[] = {14, 60, 4095, 4096, 4097, 8192, 8193, 65535};
	struct raw r;

	(void)state;
	raw_open(&r, 0xffffffa0u);
	raw_rx_post_n(&r, NETIF_RX_RING);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
			bool gso = round & 1;
			unsigned slots = (lens[i] + 4095) / 4096 + gso;
			struct shunt_packet *packet = raw_packet(&r, lens[i], (uint8_t)i);
			uint32_t at = 0;

			if (gso) {
				packet->gso_type = 1;
				packet->gso_size = 1400;
				packet->flags = SHUNT_PKT_CSUM_PARTIAL;
			}
			assert_int_equal(shunt_port_tx(r.port, 0, &packet, 1), 1);
			for (unsigned s = 0; s < slots; s++) {
				uint32_t n = MIN(lens[i] - at, 4096u);
				uint16_t slot = (uint16_t)(r.rx.rsp_cons & 255);
				struct netif_rx_response response;
				bool last;

				assert_true(raw_rx_response(&r, &response));
				if (gso && s == 1) {
					struct netif_extra_info extra;

					memcpy(&extra, &response, sizeof(extra));
					assert_int_equal(extra.type, XEN_NETIF_EXTRA_TYPE_GSO);
					assert_int_equal(extra.flags, 0);
					assert_int_equal(extra.u.gso.type, 1);
					assert_int_equal(extra.u.gso.size, 1400);
					continue;
				}
				last = at + n == lens[i];
				assert_int_equal(response.id, slot);
				assert_int_equal(response.offset, 0);
				assert_int_equal(response.status, n);
				assert_int_equal(response.flags,
					(last ? 0 : NETRXF_more_data) |
						(gso && s == 0 ? NETRXF_extra_info |
									 NETRXF_csum_blank |
									 NETRXF_data_validated
							       : 0));
				check_bytes(&r, RAW_DATA + slot, (uint8_t)i, at, n);
				at += n;
			}
			assert_int_equal(at, lens[i]);
			raw_rx_post_n(&r, slots);
		}
	}
	raw_close(&r);
}

/* A tag goes behind the addresses, wherever the frame's parts begin and end. */
static void test_rx_vlan(void **state)
{
	static const uint32_t lens[] = {14, 60, 1514, 4092, 4093, 4096, 9000};
	struct raw r;

	(void)state;
	raw_open(&r, 0);
	raw_rx_post_n(&r, 200);
	for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
		struct shunt_packet *packet = raw_packet(&r, lens[i], 9);
		uint8_t bytes[12288];
		uint32_t at = 0;
		struct netif_rx_response response;

		packet->flags = SHUNT_PKT_VLAN;
		packet->vlan = 0xa123;
		assert_int_equal(shunt_port_tx(r.port, 0, &packet, 1), 1);
		do {
			uint16_t slot = (uint16_t)(r.rx.rsp_cons & 255);

			assert_true(raw_rx_response(&r, &response));
			assert_true(response.status > 0);
			memcpy(bytes + at, raw_page(&r, RAW_DATA + slot), (size_t)response.status);
			at += (uint32_t)response.status;
		} while (response.flags & NETRXF_more_data);
		assert_int_equal(at, lens[i] + 4);
		assert_memory_equal(bytes + 12, "\x81\x00\xa1\x23", 4);
		for (uint32_t k = 0; k < lens[i]; k++)
			assert_int_equal(bytes[k < 12 ? k : k + 4], raw_byte(9, k));
	}
	raw_close(&r);
}

static void test_rx_grant_fails(void **state)
{
	struct netif_rx_response response;
	struct shunt_packet *packets[4];
	struct raw r;

	(void)state;
	/* A run of plain packets, the second into nowhere. */
	raw_open(&r, 0);
	raw_rx_post_n(&r, 1);
	(void)raw_rx_post(&r, 1, 8000);
	raw_rx_post_n(&r, 1);
	for (unsigned i = 0; i < 3; i++)
		packets[i] = raw_packet(&r, 100 + i, (uint8_t)i);
	assert_int_equal(shunt_port_tx(r.port, 0, packets, 3), 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(raw_rx_response(&r, &response));
		assert_int_equal(response.id, i);
		assert_int_equal(response.status, i == 1 ? NETIF_RSP_ERROR : (int)(100 + i));
	}
	assert_int_equal(raw_drops(&r, SHUNT_DROP_GRANT), 1);
	raw_close(&r);

	/* A long one with its k-th page missing: all its slots say so, but for the GSO extra. */
	for (unsigned k = 0; k < 5; k++) {
		raw_open(&r, 0);
		for (unsigned i = 0; i < 5; i++)
			(void)raw_rx_post(
				&r, (uint16_t)i, i == k ? 8000 : raw_ref(&r, RAW_DATA + i));
		packets[0] = raw_packet(&r, 4 * 4096, 1);
		packets[0]->gso_type = 2;
		packets[0]->gso_size = 1000;
		assert_int_equal(shunt_port_tx(r.port, 0, packets, 1), 1);
		for (unsigned i = 0; i < 5; i++) {
			assert_true(raw_rx_response(&r, &response));
			if (i == 1)
				assert_int_equal(response.id, XEN_NETIF_EXTRA_TYPE_GSO);
			else
				assert_int_equal(response.status, k == 1 ? 4096 : NETIF_RSP_ERROR);
		}
		/* The page of the extra's slot is not used. */
		assert_int_equal(raw_drops(&r, SHUNT_DROP_GRANT), k != 1);
		raw_close(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_answers_are_whole),
		cmocka_unit_test(test_csum_flags),
		cmocka_unit_test(test_slot_counts),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_head_is_private),
		cmocka_unit_test(test_gso),
		cmocka_unit_test(test_other_extras),
		cmocka_unit_test(test_multicast),
		cmocka_unit_test(test_drops),
		cmocka_unit_test(test_read_only_page),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_producer_goes_back),
		cmocka_unit_test(test_rx_producer),
		cmocka_unit_test(test_long_packet_anywhere),
		cmocka_unit_test(test_out_of_order),
		cmocka_unit_test(test_views_run_out),
		cmocka_unit_test(test_stop_waits),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_rx_layout),
		cmocka_unit_test(test_rx_vlan),
		cmocka_unit_test(test_rx_grant_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
