/* SPDX-License-Identifier: BSD-3-Clause */
/* Packets going home, further holders, and reading across segments. */
#include "frames.h"

#include <stdio.h>

#include "base/util.h"
#include "packet/packet.h"

enum { PACKETS = 8 };

struct home {
	struct shunt_packet_owner owner;
	char id;
	unsigned calls;
};

/* "a0 a1 |b0 |": who came home to whom, calls ended by a bar. */
static char events[256];

static void home_release(
	struct shunt_packet_owner *owner, struct shunt_packet **packets, unsigned n)
{
	struct home *home = CONTAINER_OF(owner, struct home, owner);
	size_t used = strlen(events);

	assert_true(n > 0);
	for (unsigned i = 0; i < n; i++) {
		assert_ptr_equal(packets[i]->owner, owner);
		assert_int_equal(packets[i]->refs, 0);
		assert_int_equal(packets[i]->nsegs, 0);
		used += (size_t)snprintf(
			events + used, sizeof(events) - used, "%c%u ", home->id, packets[i]->hash);
	}
	(void)snprintf(events + used, sizeof(events) - used, "|");
	home->calls++;
}

static struct home a = {{home_release}, 'a', 0};
static struct home b = {{home_release}, 'b', 0};

static _Alignas(struct shunt_packet)
	uint8_t space[PACKETS][sizeof(struct shunt_packet) + 4 * sizeof(struct shunt_seg)];

static struct shunt_packet *nth(unsigned i)
{
	return (struct shunt_packet *)(void *)space[i];
}

static struct shunt_packet *fresh(unsigned i, struct home *home)
{
	struct shunt_packet *packet = nth(i);

	memset(space[i], 0, sizeof(space[i]));
	packet->owner = &home->owner;
	packet->hash = i;
	return packet;
}

static int setup(void **state)
{
	(void)state;
	events[0] = 0;
	a.calls = b.calls = 0;
	return 0;
}

static void test_runs(void **state)
{
	struct shunt_packet *packets[] = {
		fresh(0, &a), fresh(1, &a), fresh(2, &b), fresh(3, &a), fresh(4, &a), fresh(5, &a)};

	(void)state;
	shunt_packets_release(packets, 6);
	assert_string_equal(events, "a0 a1 |b2 |a3 a4 a5 |");
	shunt_packets_release(packets, 0);
	assert_int_equal(a.calls, 2);
	assert_int_equal(b.calls, 1);
}

/* A packet with other holders stays, wherever in the list it is. */
static void test_holders(void **state)
{
	static const char *const others[] = {
		"a1 a2 a3 |", "a0 |a2 a3 |", "a0 a1 |a3 |", "a0 a1 a2 |"};
	static const char *const last[] = {"a0 |", "a1 |", "a2 |", "a3 |"};

	(void)state;
	for (unsigned held = 0; held < 4; held++) {
		struct shunt_packet *packets[] = {
			fresh(0, &a), fresh(1, &a), fresh(2, &a), fresh(3, &a)};

		events[0] = 0;
		packet_hold(packets[held]);
		shunt_packets_release(packets, 4);
		assert_int_equal(packets[held]->refs, 0);
		assert_string_equal(events, others[held]);
		events[0] = 0;
		shunt_packets_release(&packets[held], 1);
		assert_string_equal(events, last[held]);
	}
}

/* One holder's list may name a packet as often as it holds it. */
static void test_held_twice(void **state)
{
	struct shunt_packet *packets[] = {fresh(0, &a), fresh(1, &a), nth(0), fresh(2, &b)};

	(void)state;
	packet_hold(packets[0]);
	shunt_packets_release(packets, 4);
	assert_string_equal(events, "a1 a0 |b2 |");
}

/* Segments' packets go home before their list does; borrowed ones do not; a held packet keeps its segments. */
static void test_segments(void **state)
{
	struct shunt_packet *packets[] = {fresh(0, &a), fresh(1, &a)};

	(void)state;
	packets[1]->nsegs = 3;
	packets[1]->segs[0] = (struct shunt_seg){.packet = fresh(2, &a)};
	packets[1]->segs[1] = (struct shunt_seg){.packet = NULL};
	packets[1]->segs[2] = (struct shunt_seg){.packet = fresh(3, &b)};
	packet_hold(packets[1]);
	shunt_packets_release(packets, 2);
	assert_string_equal(events, "a0 |");
	assert_int_equal(packets[1]->nsegs, 3);
	shunt_packets_release(&packets[1], 1);
	assert_string_equal(events, "a0 |a2 |b3 |a1 |");
}

static struct shunt_packet *three_pieces(uint8_t *bytes)
{
	struct shunt_packet *packet = fresh(0, &a);

	for (unsigned i = 0; i < 30; i++)
		bytes[i] = (uint8_t)i;
	packet->data = bytes;
	packet->head_len = 10;
	packet->len = 30;
	packet->nsegs = 3;
	packet->segs[0] = (struct shunt_seg){bytes + 10, NULL, 1};
	packet->segs[1] = (struct shunt_seg){bytes + 11, NULL, 0};
	packet->segs[2] = (struct shunt_seg){bytes + 11, NULL, 19};
	return packet;
}

static void test_copy_out(void **state)
{
	uint8_t bytes[30];
	const struct shunt_packet *packet = three_pieces(bytes);

	(void)state;
	for (uint32_t offset = 0; offset <= 32; offset++) {
		for (uint32_t len = 0; len <= 33; len++) {
			uint32_t there = offset < 30 ? MIN(len, 30 - offset) : 0;
			uint8_t to[40];

			memset(to, 0xee, sizeof(to));
			assert_int_equal(shunt_packet_copy_out(packet, offset, to, len), there);
			assert_memory_equal(to, bytes + MIN(offset, 30u), there);
			assert_int_equal(to[there], 0xee);
		}
	}
}

static void test_iov(void **state)
{
	struct iovec iov[1 + SHUNT_MAX_SEGS] = {{0}};
	uint8_t bytes[30];
	const struct shunt_packet *packet = three_pieces(bytes);

	(void)state;
	assert_int_equal(packet_iov(packet, iov), 4);
	assert_ptr_equal(iov[0].iov_base, bytes);
	assert_int_equal(iov[0].iov_len, 10);
	assert_ptr_equal(iov[3].iov_base, bytes + 11);
	assert_int_equal(iov[3].iov_len, 19);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_runs, setup),
		cmocka_unit_test_setup(test_holders, setup),
		cmocka_unit_test_setup(test_held_twice, setup),
		cmocka_unit_test_setup(test_segments, setup),
		cmocka_unit_test_setup(test_copy_out, setup),
		cmocka_unit_test_setup(test_iov, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
