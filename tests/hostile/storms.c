/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Noise without work: event channels, requests, store writes, connections, as fast as one process can. The bystanders
 * lose nothing, shuntd answers its operator, and an event storm costs little of a CPU (XSA-332).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "world.h"

enum { STORM_MS = 1500 };

static void event_storm(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + STORM_MS;

	while (raw_ms() < end) {
		for (unsigned i = 0; i < 100; i++)
			raw_ring(r);
	}
}

/* As event_storm, but each event comes with a request, which is nothing: work that is none. */
static void empty_work_storm(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + STORM_MS;

	while (raw_ms() < end) {
		if (r->tx_prod - atomic_load(&r->tx->rsp_prod) > NETIF_TX_RING / 2)
			continue;
		raw_slot(r, raw_tx_ref(0), 0, 0, 0, 0);
		raw_push(r);
	}
}

static void request_storm(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + STORM_MS;

	while (raw_ms() < end)
		(void)raw_call(r, WIRE_GRANT_UNMAP, 12345, 0, 0, NULL, NULL);
}

/* Many requests, no reply read: the connection ends. */
static void deaf_requests(struct raw *r, unsigned arg)
{
	const struct wire_request request = {.op = WIRE_GRANT_UNMAP, .arg = {12345}};

	for (unsigned i = 0; i < 100000; i++) {
		if (send(r->socket, &request, sizeof(request), MSG_NOSIGNAL) < 0)
			return;
	}
	raw_die("a guest that reads no replies is still served");
}

static void store_storm(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + STORM_MS;

	for (unsigned i = 0; raw_ms() < end; i++) {
		char value[16];

		(void)snprintf(value, sizeof(value), "%u", i);
		if (raw_write(r, "noise", value))
			raw_die("the store stopped");
	}
}

/* The switch to filter or not, watched by the host. */
static void watched_key_storm(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + STORM_MS;

	for (unsigned i = 0; raw_ms() < end; i++) {
		if (raw_write(r, "request-multicast-control", i & 1 ? "1" : "0"))
			raw_die("the store stopped");
	}
}

static void connection_storm(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + STORM_MS;

	while (raw_ms() < end) {
		int fd = raw_connect(r->path);

		if (fd >= 0)
			(void)close(fd);
	}
}

static void region_storm(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + STORM_MS;
	int fd = raw_memfd(SHUNT_PAGE_SIZE, F_SEAL_SHRINK | F_SEAL_GROW);

	while (raw_ms() < end) {
		const struct wire_request add = {
			.op = WIRE_REGION_ADD, .id = ++r->last_id, .arg = {SHUNT_PAGE_SIZE}};
		struct wire_reply reply;

		if (raw_call_fds(r, &add, NULL, 0, &fd, 1, &reply, NULL) ||
			raw_call(r, WIRE_REGION_DEL, reply.arg[0], 0, 0, NULL, NULL))
			raw_die("a region could not come and go");
	}
}

static double storm_cpu;
static uint64_t storm_began;
static uint64_t slowest;

static void watch_storm(struct world *w, unsigned arg)
{
	uint64_t now = raw_ms();

	if (storm_began == 0) {
		storm_began = now;
		storm_cpu = world_cpu(w);
	}
	json_decref(world_ask(w, "vif.list", NULL));
	slowest = MAX(slowest, raw_ms() - now);
	world_pump(w, 20);
}

/* arg: the percentage of a CPU that the storm may cost beyond what there was before. */
static void judge_storm(struct world *w, unsigned arg)
{
	double seconds = (double)(raw_ms() - storm_began) / 1000;
	double cpu = (world_cpu(w) - storm_cpu) / seconds;

	if (getenv("HOSTILE_VERBOSE"))
		(void)printf("     cpu %.2f, quiet %.2f, slowest answer %lu ms\n", cpu,
			w->quiet_cpu, (unsigned long)slowest);
	if (arg && !w->sanitized && cpu > w->quiet_cpu + arg / 100.0)
		hostile_fail(w, "shuntd used %.2f of a CPU, %.2f before", cpu, w->quiet_cpu);
	if (slowest > 2000)
		hostile_fail(
			w, "shuntd answered its operator after %lu ms", (unsigned long)slowest);
	storm_began = 0;
	slowest = 0;
}

#define STORM(text, fn, percent)                                                                   \
	{                                                                                          \
		.name = text, .attack = fn, .arg = percent, .start = RAW_UP, .judge = judge_storm, \
		.meanwhile = watch_storm                                                           \
	}

static const struct hostile_case cases[] = {
	STORM("events", event_storm, 30),
	STORM("empty-work", empty_work_storm, 0),
	STORM("requests", request_storm, 0),
	{.name = "requests-unread",
		.attack = deaf_requests,
		.start = RAW_UP,
		.refusal = "replies-not-read",
		.gone = true},
	STORM("store", store_storm, 0),
	STORM("watched-key", watched_key_storm, 0),
	STORM("connections", connection_storm, 0),
	STORM("regions", region_storm, 0),
};

const struct hostile_group group_storms = {
	.name = "storms", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 1};
