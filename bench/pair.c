/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two guests in one process that send to each other as fast as they can, for slow-64B and slow-1500B.
 *
 * Each turn of a guest receives a batch, checks it and gives it back, then writes a batch and sends it. What the port
 * did not take is kept and goes first in the next turn. A frame names its flow and its place in it (the tag) and
 * carries a pattern; the receiver compares the first 64 bytes whole, and of a longer frame the tag at the beginning of
 * every further 64 bytes and in the last 8. Frames begin at different multiples of 64 in their buffers, which are
 * pages: otherwise all of them would share a sixty-fourth of the first-level cache.
 *
 * After the measured time nothing more is sent, and what is under way is received, so that what was sent can be
 * compared with what arrived and with the host's counters. The result is one JSON object on stdout.
 */
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <shunt/context.h>
#include <shunt/pool.h>

#include "base/prefetch.h"

enum {
	LINE = 64,
	OFFSETS = 8,      /* of a frame in its buffer, LINE apart */
	AHEAD = 10,       /* frames whose first line is asked for before it is written */
	FRAME_MIN = LINE, /* bytes, without FCS */
	FRAME_MAX = 1514,
	CLOCK_TURNS = 16,
	LINK_WAIT = 5000,   /* ms */
	ETHERTYPE = 0x88b5, /* IEEE 802, local experimental 1 */
};

#define SECOND     1000000000ull
#define WARM_UP    (SECOND / 2)
#define QUIET      (SECOND / 10)
#define CONTROL    (SECOND / 200)
#define TAG_FLOW   56
#define PATTERN(i) (0x9e3779b97f4a7c15ull * ((i) + 1))

struct frame {
	uint8_t dst[6];
	uint8_t src[6];
	uint8_t type[2];
	uint8_t zero[2];
	uint64_t tag; /* flow << TAG_FLOW | place in it */
	uint64_t pattern[5];
};
_Static_assert(sizeof(struct frame) == LINE, "one cache line");

struct counts {
	uint64_t sent;
	uint64_t good;
	uint64_t bad;     /* not what was written */
	uint64_t skipped; /* places passed over */
	uint64_t late;    /* places gone back to: repeated or out of order */
};

struct guest {
	struct shunt_port *port;
	struct shunt_pool *pool;
	struct frame send; /* what it sends, but for the tag */
	struct frame want; /* what it receives */
	uint64_t place;    /* of the frame written next */
	uint64_t expected; /* place of the frame received next */
	unsigned count;    /* written and not yet sent */
	uint32_t size;
	struct counts counts;
	struct shunt_packet *written[SHUNT_BATCH];
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

static void store_tag(uint8_t *at, uint64_t tag)
{
	memcpy(at, &tag, sizeof(tag));
}

static uint64_t load_tag(const uint8_t *at)
{
	uint64_t tag;

	memcpy(&tag, at, sizeof(tag));
	return tag;
}

/* Where in its buffer a frame begins: for each page another line, always the same one. */
static size_t place_in(const uint8_t *buf)
{
	return ((uintptr_t)buf / 4096 % OFFSETS) * LINE;
}

static void frame_write(struct guest *guest, struct shunt_packet *packet)
{
	uint8_t *data = packet->data;

	uint64_t tag = guest->send.tag | guest->place++;

	memcpy(data, &guest->send, sizeof(guest->send));
	store_tag(data + offsetof(struct frame, tag), tag);
	packet->len = guest->size;
	packet->head_len = guest->size;
	if (guest->size <= FRAME_MIN)
		return;
	for (uint32_t at = LINE; at + sizeof(uint64_t) <= guest->size; at += LINE)
		store_tag(data + at, tag);
	store_tag(data + guest->size - sizeof(uint64_t), tag);
}

static bool frame_right(const struct guest *guest, const struct shunt_packet *packet, uint64_t *tag)
{
	const uint8_t *want = (const uint8_t *)&guest->want;
	const uint8_t *data = packet->data;
	uint64_t wrong = 0;

	if (packet->len != guest->size || packet->head_len != guest->size)
		return false;
	*tag = load_tag(data + offsetof(struct frame, tag));
	for (size_t at = 0; at < LINE; at += sizeof(uint64_t)) {
		if (at != offsetof(struct frame, tag))
			wrong |= load_tag(data + at) ^ load_tag(want + at);
	}
	wrong |= (*tag ^ guest->want.tag) >> TAG_FLOW;
	if (guest->size > FRAME_MIN) {
		for (uint32_t at = LINE; at + sizeof(uint64_t) <= guest->size; at += LINE)
			wrong |= load_tag(data + at) ^ *tag;
		wrong |= load_tag(data + guest->size - sizeof(uint64_t)) ^ *tag;
	}
	return wrong == 0;
}

static unsigned guest_receive(struct guest *guest)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned n = shunt_port_rx(guest->port, 0, packets, SHUNT_BATCH);
	struct counts *counts = &guest->counts;

	for (unsigned i = 0; i < n; i++) {
		uint64_t place;
		uint64_t tag;

		if (!frame_right(guest, packets[i], &tag)) {
			counts->bad++;
			continue;
		}
		place = tag & ((1ull << TAG_FLOW) - 1);
		if (place < guest->expected) {
			counts->late++;
			continue;
		}
		counts->skipped += place - guest->expected;
		counts->good++;
		guest->expected = place + 1;
	}
	if (n)
		shunt_packets_release(packets, n);
	return n;
}

static void guest_send(struct guest *guest)
{
	struct shunt_packet **fresh = guest->written + guest->count;
	unsigned n = shunt_pool_take(guest->pool, fresh, SHUNT_BATCH - guest->count);

	for (unsigned i = 0, ahead = 0; i < n; i++) {
		for (; ahead < n && ahead < i + AHEAD; ahead++) {
			fresh[ahead]->data = fresh[ahead]->buf + place_in(fresh[ahead]->buf);
			prefetch_write(fresh[ahead]->data);
		}
		frame_write(guest, fresh[i]);
	}
	guest->count += n;
	n = shunt_port_tx(guest->port, 0, guest->written, guest->count);
	guest->counts.sent += n;
	guest->count -= n;
	memmove(guest->written, guest->written + n, guest->count * sizeof(*guest->written));
}

static void guest_init(
	struct guest *guest, uint8_t flow, const uint8_t *mac, const uint8_t *peer, uint32_t size)
{
	struct frame *send = &guest->send;

	memcpy(send->dst, peer, 6);
	memcpy(send->src, mac, 6);
	send->type[0] = ETHERTYPE >> 8;
	send->type[1] = ETHERTYPE & 0xff;
	send->tag = (uint64_t)flow << TAG_FLOW;
	for (unsigned i = 0; i < sizeof(send->pattern) / sizeof(*send->pattern); i++)
		send->pattern[i] = PATTERN(i);
	guest->size = size;
}

/* Send and receive until `end`, in turns. Returns the time. */
static uint64_t run(struct shunt_context *context, struct guest *guests, uint64_t end)
{
	uint64_t control = 0;
	uint64_t now;

	while ((now = now_ns()) < end) {
		if (now >= control) {
			shunt_context_process(context);
			control = now + CONTROL;
		}
		for (unsigned turn = 0; turn < CLOCK_TURNS; turn++) {
			for (unsigned i = 0; i < 2; i++) {
				(void)guest_receive(&guests[i]);
				guest_send(&guests[i]);
			}
		}
	}
	return now;
}

/* Receive until nothing came for a while; the frames that were written and not sent are never sent. */
static void drain(struct shunt_context *context, struct guest *guests)
{
	uint64_t last = now_ns();
	uint64_t limit = last + 50 * QUIET;
	uint64_t now;

	for (unsigned i = 0; i < 2; i++) {
		if (guests[i].count)
			shunt_packets_release(guests[i].written, guests[i].count);
		guests[i].count = 0;
	}
	while ((now = now_ns()) < last + QUIET && now < limit) {
		shunt_context_process(context);
		if (guest_receive(&guests[0]) + guest_receive(&guests[1]))
			last = now;
	}
}

static struct counts both(const struct guest *guests)
{
	struct counts sum = guests[0].counts;

	sum.sent += guests[1].counts.sent;
	sum.good += guests[1].counts.good;
	sum.bad += guests[1].counts.bad;
	sum.skipped += guests[1].counts.skipped;
	sum.late += guests[1].counts.late;
	return sum;
}

static bool open_guests(
	struct shunt_context *context, struct guest *guests, char **names, uint32_t size)
{
	const struct shunt_open_options options = {.size = sizeof(options), .wait_ms = LINK_WAIT};
	struct shunt_port_info info[2];

	for (unsigned i = 0; i < 2; i++) {
		if (shunt_open(context, names[i], &options, &guests[i].port)) {
			(void)fprintf(
				stderr, "pair: %s: %s\n", names[i], shunt_context_error(context));
			return false;
		}
		shunt_port_info(guests[i].port, &info[i]);
		guests[i].pool = shunt_vif_pool(guests[i].port, 0);
		if (!guests[i].pool) {
			(void)fprintf(stderr, "pair: %s: not a vif\n", names[i]);
			return false;
		}
	}
	for (unsigned i = 0; i < 2; i++)
		guest_init(&guests[i], (uint8_t)(i + 1), info[i].mac, info[!i].mac, size);
	guests[0].want = guests[1].send;
	guests[1].want = guests[0].send;
	return true;
}

static void measure(struct shunt_context *context, struct guest *guests, double seconds)
{
	uint64_t start = run(context, guests, now_ns() + WARM_UP);
	struct counts before = both(guests);
	uint64_t end = run(context, guests, start + (uint64_t)(seconds * (double)SECOND));
	struct counts after = both(guests);
	struct counts all;

	drain(context, guests);
	all = both(guests);
	seconds = (double)(end - start) / (double)SECOND;
	(void)printf("{\"size\": %" PRIu32
		     ", \"seconds\": %.6f, \"rate\": %.0f, \"send_rate\": %.0f, \"sent\": %" PRIu64
		     ", \"good\": %" PRIu64 ", \"bad\": %" PRIu64 ", \"skipped\": %" PRIu64
		     ", \"late\": %" PRIu64 ", \"lost\": %" PRIu64 "}\n",
		guests[0].size, seconds, (double)(after.good - before.good) / seconds,
		(double)(after.sent - before.sent) / seconds, all.sent, all.good, all.bad,
		all.skipped, all.late, all.sent - all.good - all.bad - all.late);
}

static bool links_up(const struct guest *guests)
{
	struct shunt_port_info info[2];

	shunt_port_info(guests[0].port, &info[0]);
	shunt_port_info(guests[1].port, &info[1]);
	return info[0].link_up && info[1].link_up;
}

static int usage(void)
{
	(void)fprintf(stderr,
		"usage: pair [-s SIZE] [-t SECONDS] [-c CPU] vif:SOCKET vif:SOCKET\n"
		"  -s  bytes in a frame, without FCS: %d to %d\n",
		FRAME_MIN, FRAME_MAX);
	return 2;
}

int main(int argc, char **argv)
{
	static struct guest guests[2];
	struct shunt_context *context;
	unsigned long size = FRAME_MIN;
	double seconds = 2;
	cpu_set_t cpus;
	int option;
	int code = EXIT_FAILURE;

	while ((option = getopt(argc, argv, "s:t:c:")) != -1) {
		if (option == 's') {
			size = strtoul(optarg, NULL, 10);
		} else if (option == 't') {
			seconds = strtod(optarg, NULL);
		} else if (option == 'c') {
			CPU_ZERO(&cpus);
			CPU_SET(strtoul(optarg, NULL, 10), &cpus);
			if (sched_setaffinity(0, sizeof(cpus), &cpus)) {
				perror("pair: -c");
				return EXIT_FAILURE;
			}
		} else {
			return usage();
		}
	}
	if (argc - optind != 2 || size < FRAME_MIN || size > FRAME_MAX || !(seconds > 0))
		return usage();
	if (shunt_context_new(&context)) {
		perror("pair");
		return EXIT_FAILURE;
	}
	if (open_guests(context, guests, argv + optind, (uint32_t)size)) {
		measure(context, guests, seconds);
		if (links_up(guests))
			code = EXIT_SUCCESS;
		else
			(void)fprintf(stderr, "pair: a link went down\n");
	}
	shunt_context_free(context);
	return code;
}
