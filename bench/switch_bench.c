/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What forwarding costs: TSC cycles for each 64-byte packet in batches of 64, rings and copies excluded. Every case is
 * the median of 15 runs.
 *
 * Usage: switch_bench [case]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

#include "packet/headers.h"
#include "switch/switch.h"

enum { BATCHES = 20000, RUNS = 15, GUESTS = 256, FRAME = 64, SETS = 8 };

struct bench {
	struct vswitch *sw;
	struct vswitch_worker *worker;
	struct shunt_pool *pool;
	struct port_queue_stats stats;
	uint64_t sent;
	struct shunt_packet *packets[SETS][SHUNT_BATCH];
};

static void output(void *arg, unsigned port, struct shunt_packet **packets, unsigned n)
{
	struct bench *bench = arg;

	(void)port;
	(void)packets;
	bench->sent += n;
}

static uint64_t guest_mac(unsigned guest)
{
	return 0x00163e000000ull + guest;
}

static void guest_add(struct bench *bench, unsigned guest, bool addresses)
{
	struct vswitch_port_config config = {.kind = VSWITCH_GUEST, .nmacs = 1, .mtu = 1500};

	mac_store(config.macs[0], guest_mac(guest));
	if (addresses) {
		config.nips = 1;
		config.ips[0] = (struct vswitch_ip){.version = 4, .addr = {10, 0, 0, 1}};
	}
	if (vswitch_port_add(bench->sw, &config) < 0)
		exit(1);
}

static void frame(struct shunt_packet *packet, uint64_t to, uint64_t from)
{
	static const uint8_t ip[] = {0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0,
		0, 2, 0, 9, 0, 9, 0, 30};

	packet->len = packet->head_len = FRAME;
	memset(packet->data, 0, FRAME);
	mac_store(packet->data, to);
	mac_store(packet->data + 6, from);
	store_be16(packet->data + 12, TYPE_IPV4);
	memcpy(packet->data + 14, ip, sizeof(ip));
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

/* `from` and `to`: how many senders' addresses and destinations take turns; first_to: the first destination. */
static void run(struct bench *bench, const char *name, unsigned port, uint64_t mac, unsigned from,
	unsigned first_to, unsigned to)
{
	uint64_t now = 1000000000;
	double cycles[RUNS];

	for (unsigned set = 0; set < SETS; set++) {
		for (unsigned i = 0; i < SHUNT_BATCH; i++)
			frame(bench->packets[set][i], guest_mac(first_to + (i * 7 + set) % to),
				mac + i % from);
	}
	for (unsigned r = 0; r < RUNS; r++) {
		uint64_t start = __rdtsc();

		for (unsigned b = 0; b < BATCHES; b++)
			vswitch_forward(bench->worker, port, &bench->stats,
				bench->packets[b % SETS], SHUNT_BATCH, now);
		cycles[r] = (double)(__rdtsc() - start) / (BATCHES * SHUNT_BATCH);
	}
	if (bench->sent != (uint64_t)RUNS * BATCHES * SHUNT_BATCH) {
		(void)fprintf(
			stderr, "%s: %llu packets sent\n", name, (unsigned long long)bench->sent);
		exit(1);
	}
	bench->sent = 0;
	qsort(cycles, RUNS, sizeof(*cycles), compare);
	(void)printf("%-32s %6.2f cycles/packet (best %.2f)\n", name, cycles[RUNS / 2], cycles[0]);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		unsigned port; /* 0: guest, 1: guest with addresses to check, GUESTS: uplink */
		unsigned from;
		unsigned first_to;
		unsigned to;
	} cases[] = {
		{"guest-guest", 0, 1, 2, 1},
		{"guest-2-guests", 0, 1, 2, 2},
		{"guest-8-guests", 0, 1, 2, 8},
		{"guest-200-guests", 0, 1, 2, 200},
		{"guest-guest-ip", 1, 1, 2, 1},
		{"uplink-guest", GUESTS, 1, 2, 1},
		{"uplink-8-from-8-guests", GUESTS, 8, 2, 8},
		{"uplink-64-from-200-guests", GUESTS, 64, 2, 200},
	};
	struct shunt_pool_config config = {.name = "bench", .packets = SETS * SHUNT_BATCH};
	struct vswitch_port_config uplink = {.kind = VSWITCH_UPLINK, .mtu = 1500};
	static struct bench bench;

	if (vswitch_new(&bench.sw, &(struct vswitch_config){0}) ||
		shunt_pool_create(&bench.pool, &config) ||
		vswitch_worker_new(&bench.worker, bench.sw, bench.pool, 0, output, &bench))
		return 1;
	for (unsigned i = 0; i < GUESTS; i++)
		guest_add(&bench, i, i == 1);
	if (vswitch_port_add(bench.sw, &uplink) != GUESTS)
		return 1;
	for (unsigned set = 0; set < SETS; set++)
		(void)shunt_pool_take(bench.pool, bench.packets[set], SHUNT_BATCH);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t mac =
			cases[i].port < GUESTS ? guest_mac(cases[i].port) : 0x020000000000ull;

		if (argc > 1 && strcmp(argv[1], cases[i].name) != 0)
			continue;
		run(&bench, cases[i].name, cases[i].port, mac, cases[i].from, cases[i].first_to,
			cases[i].to);
	}
	for (unsigned set = 0; set < SETS; set++)
		shunt_packets_release(bench.packets[set], SHUNT_BATCH);
	(void)vswitch_worker_free(bench.worker);
	vswitch_free(bench.sw);
	shunt_pool_destroy(bench.pool);
	return 0;
}
