/* SPDX-License-Identifier: BSD-3-Clause */
/* netif's control side: keys, states, refusals, coming back, handing over (public/io/netif.h, xenbus.h). */
#include "pair.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect(struct pair *p, const char *dir, const char *key, const char *value)
{
	assert_string_equal(pair_get(p, dir, key), value);
}

static void test_offer(void **state)
{
	static const struct {
		const char *key, *value;
	} keys[] = {{"feature-sg", "1"}, {"feature-gso-tcpv4", "1"}, {"feature-gso-tcpv6", "1"},
		{"feature-ipv6-csum-offload", "1"}, {"feature-rx-copy", "1"},
		{"feature-rx-flip", "0"}, {"feature-multicast-control", "1"},
		{"feature-dynamic-multicast-control", "1"}, {"feature-split-event-channels", "1"},
		{"multi-queue-max-queues", "4"}, {"hotplug-status", "connected"}, {"state", "2"}};
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){.offered = 4, .offer_split = true, .no_front = true});
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		expect(&p, PAIR_BACK, keys[i].key, keys[i].value);
	assert_int_equal(p.back->state, NETIF_INIT_WAIT);
	assert_int_equal(p.started, 0);
	assert_false(pair_bp(&p)->info.link_up);
	pair_close(&p);
}

static void test_one_queue(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){.offered = 4, .want_split = true});
	expect(&p, PAIR_FRONT, "state", "4");
	expect(&p, PAIR_BACK, "state", "4");
	expect(&p, PAIR_BACK, "carrier", "1");
	expect(&p, PAIR_FRONT, "request-rx-copy", "1");
	expect(&p, PAIR_FRONT, "feature-rx-notify", "1");
	expect(&p, PAIR_FRONT, "feature-sg", "1");
	assert_true(pair_has(&p, PAIR_FRONT, "tx-ring-ref"));
	assert_true(pair_has(&p, PAIR_FRONT, "rx-ring-ref"));
	assert_true(pair_has(&p, PAIR_FRONT, "event-channel"));
	assert_false(pair_has(&p, PAIR_FRONT, "event-channel-tx"));
	assert_false(pair_has(&p, PAIR_FRONT, "multi-queue-num-queues"));
	assert_false(pair_has(&p, PAIR_FRONT, "queue-0"));
	assert_int_equal(p.back->back.nqueues, 1);
	assert_ptr_equal(p.back->back.queues[0].tx_event, p.back->back.queues[0].rx_event);
	assert_int_equal(pair_bp(&p)->info.mtu, 9000);
	assert_int_equal(pair_fp(&p)->info.mtu, 9000);
	pair_close(&p);
}

static void test_one_queue_split(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){.offer_split = true, .want_split = true});
	assert_false(pair_has(&p, PAIR_FRONT, "event-channel"));
	assert_true(pair_has(&p, PAIR_FRONT, "event-channel-tx"));
	assert_true(pair_has(&p, PAIR_FRONT, "event-channel-rx"));
	assert_ptr_not_equal(p.back->back.queues[0].tx_event, p.back->back.queues[0].rx_event);
	pair_close(&p);
}

static void several(unsigned offered, unsigned wanted, unsigned got, bool split)
{
	char dir[64];
	struct pair p;

	pair_open(&p, &(struct pair_config){.offered = offered,
			      .wanted = wanted,
			      .offer_split = split,
			      .want_split = split});
	assert_int_equal(p.back->back.nqueues, got);
	assert_int_equal(pair_fp(&p)->info.rx_queues, got);
	assert_int_equal(
		store_get_uint_or(p.host, PAIR_FRONT, "multi-queue-num-queues", 99, 0), got);
	assert_false(pair_has(&p, PAIR_FRONT, "tx-ring-ref"));
	assert_false(pair_has(&p, PAIR_FRONT, "rx-ring-ref"));
	assert_false(pair_has(&p, PAIR_FRONT, "event-channel"));
	assert_false(pair_has(&p, PAIR_FRONT, "event-channel-tx"));
	for (unsigned i = 0; i <= got; i++) {
		(void)snprintf(dir, sizeof(dir), PAIR_FRONT "/queue-%u", i);
		assert_int_equal(pair_has(&p, dir, "tx-ring-ref"), i < got);
		assert_int_equal(pair_has(&p, dir, "rx-ring-ref"), i < got);
		assert_int_equal(pair_has(&p, dir, "event-channel"), i < got && !split);
		assert_int_equal(pair_has(&p, dir, "event-channel-tx"), i < got && split);
		assert_int_equal(pair_has(&p, dir, "event-channel-rx"), i < got && split);
	}
	pair_close(&p);
}

static void test_several_queues(void **state)
{
	(void)state;
	several(2, 2, 2, false);
	several(4, 9, 4, true);
	several(8, 3, 3, false);
}

static void test_features(void **state)
{
	const uint32_t all =
		SHUNT_CAP_CSUM | SHUNT_CAP_CSUM6 | SHUNT_CAP_GSO4 | SHUNT_CAP_GSO6 | SHUNT_CAP_SG;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	assert_int_equal(pair_fp(&p)->info.caps, all);
	assert_int_equal(pair_bp(&p)->info.caps, all | SHUNT_CAP_VLAN);
	assert_false(p.back->multicast_control);
	pair_close(&p);
	pair_open(&p,
		&(struct pair_config){.no_csum = true, .no_gso = true, .multicast_filter = true});
	assert_int_equal(pair_bp(&p)->info.caps, SHUNT_CAP_SG | SHUNT_CAP_VLAN);
	assert_true(p.back->multicast_control);
	pair_set(&p, PAIR_FRONT, "request-multicast-control", "0");
	pair_run(&p);
	assert_false(p.back->multicast_control);
	pair_close(&p);
}

/* A transaction that somebody got in the way of is done again; one that cannot be leaves nothing behind. */
static void test_transaction(void **state)
{
	unsigned fds;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){.offered = 2, .no_front = true});
	twin_fail(p.twin, 1, TWIN_STORE_END, 1, -EAGAIN);
	fds = twin_fds();
	pair_front_open(&p, &(struct pair_config){.wanted = 2});
	assert_int_equal(p.back->state, NETIF_CONNECTED);
	assert_int_equal(twin_calls(p.twin, 1, TWIN_STORE_BEGIN), 2);
	pair_front_close(&p);
	pair_set(&p, PAIR_FRONT, "state", "1");
	pair_run(&p);
	assert_int_equal(p.back->state, NETIF_INIT_WAIT);
	assert_int_equal(twin_fds(), fds);

	twin_fail(p.twin, 1, TWIN_STORE_END, 1, -ENOSPC);
	pair_front_open(&p, &(struct pair_config){.wanted = 2});
	assert_int_equal(p.front->state, NETIF_INITIALISING);
	assert_int_equal(p.back->state, NETIF_INIT_WAIT);
	assert_int_equal(twin_fds(), fds);
	pair_close(&p);
}

/* What the platform refuses while connecting is an error, and nothing of it stays. */
static void test_platform_failures(void **state)
{
	static const struct {
		domid_t domid;
		enum twin_op op;
		int error;
	} fails[] = {{0, TWIN_MAP, -ENOMEM}, {0, TWIN_EVTCHN_BIND, -EMFILE},
		{1, TWIN_REGION_ADD, -EDQUOT}, {1, TWIN_GRANT, -ENOSPC},
		{1, TWIN_EVTCHN_ALLOC, -EMFILE}, {1, TWIN_STORE_WRITE, -ENOSPC},
		{1, TWIN_STORE_BEGIN, -ENOMEM}};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(fails); i++) {
		for (unsigned nth = 1; nth < 4; nth++) {
			unsigned fds;
			bool failed;
			struct pair p;

			pair_open(&p, &(struct pair_config){
					      .offered = 2, .offer_split = true, .no_front = true});
			fds = twin_fds();
			twin_fail(p.twin, fails[i].domid, fails[i].op, nth, fails[i].error);
			pair_front_open(&p, &(struct pair_config){.wanted = 2, .want_split = true});
			failed = p.back->state != NETIF_CONNECTED;
			if (fails[i].domid == 0) {
				assert_true(failed);
				assert_string_not_equal(p.back->broken, "");
				assert_false(pair_fp(&p)->info.link_up);
			}
			pair_front_close(&p);
			assert_int_equal(twin_fds(), fds);
			pair_close(&p);
		}
	}
}

/* ---- a front end of the test's own ---- */

struct raw {
	struct netif_front front; /* for its rings and channels */
};

static void raw_open(struct raw *r, struct pair *p, unsigned queues, bool split)
{
	char dir[64];
	char value[16];

	assert_int_equal(netif_front_init(&r->front, "raw", p->guest, 0), 0);
	for (unsigned i = 0; i < queues; i++) {
		struct netif_front_queue *q = &r->front.queues[i];

		assert_int_equal(netif_front_queue_open(q, split), 0);
		if (queues == 1)
			(void)snprintf(dir, sizeof(dir), PAIR_FRONT);
		else
			(void)snprintf(dir, sizeof(dir), PAIR_FRONT "/queue-%u", i);
		(void)snprintf(value, sizeof(value), "%u", q->ring_refs[0]);
		pair_set(p, dir, "tx-ring-ref", value);
		(void)snprintf(value, sizeof(value), "%u", q->ring_refs[1]);
		pair_set(p, dir, "rx-ring-ref", value);
		(void)snprintf(value, sizeof(value), "%u", q->tx_event->port);
		pair_set(p, dir, split ? "event-channel-tx" : "event-channel", value);
		(void)snprintf(value, sizeof(value), "%u", q->rx_event->port);
		if (split)
			pair_set(p, dir, "event-channel-rx", value);
	}
	if (queues > 1) {
		(void)snprintf(value, sizeof(value), "%u", queues);
		pair_set(p, PAIR_FRONT, "multi-queue-num-queues", value);
	}
	pair_set(p, PAIR_FRONT, "request-rx-copy", "1");
}

static void refused(const char *key, const char *value, const char *why, bool split)
{
	unsigned mapped;
	struct raw r;
	struct pair p;

	pair_open(&p, &(struct pair_config){.offered = 2, .offer_split = split, .no_front = true});
	raw_open(&r, &p, 1, split);
	mapped = twin_fds();
	if (value)
		pair_set(&p, PAIR_FRONT, key, value);
	else
		assert_int_equal(store_rm_key(p.host, 0, PAIR_FRONT, key), 0);
	pair_set(&p, PAIR_FRONT, "state", "4");
	pair_run(&p);
	if (!strstr(p.back->broken, why))
		fail_msg("%s = %s: \"%s\", not \"%s\"", key, value ? value : "(none)",
			p.back->broken, why);
	assert_int_equal(p.back->state, NETIF_CLOSED);
	expect(&p, PAIR_BACK, "state", "6");
	expect(&p, PAIR_BACK, "error", p.back->broken);
	assert_int_equal(p.started, 0);
	assert_true(twin_fds() <= mapped);
	/* It is not heard again. */
	pair_set(&p, PAIR_FRONT, "state", "1");
	pair_run(&p);
	assert_int_equal(p.back->state, NETIF_CLOSED);
	/* And nothing of it is mapped: its regions can leave. */
	assert_int_equal(p.guest->ops->region_del(p.guest, r.front.queues[0].rings), 0);
	netif_front_fini(&r.front);
	pair_close(&p);
}

static void test_bad_keys(void **state)
{
	static const char *const numbers[] = {
		"", "abc", "-1", " 5", "5 ", "0x10", "4294967296", "99999999999999999999"};

	(void)state;
	refused("request-rx-copy", "0", "request-rx-copy is not set", false);
	refused("request-rx-copy", NULL, "request-rx-copy is not set", false);
	refused("tx-ring-ref", NULL, "tx-ring-ref: missing", false);
	refused("rx-ring-ref", NULL, "rx-ring-ref: missing", false);
	refused("event-channel", NULL, "event-channel: missing", false);
	refused("event-channel-rx", NULL, "event-channel-rx: missing", true);
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
		refused("tx-ring-ref", numbers[i], "tx-ring-ref: not a number in range", false);
		refused("event-channel", numbers[i], "event-channel: not a number in range", false);
	}
	refused("tx-ring-ref", "0", "tx-ring-ref: grant 0 cannot be mapped", false);
	refused("rx-ring-ref", "4000", "rx-ring-ref: grant 4000 cannot be mapped", false);
	refused("rx-ring-ref", "4294967295", "rx-ring-ref: grant 4294967295 cannot be mapped",
		false);
	refused("event-channel", "0", "event channel 0 cannot be bound", false);
	refused("event-channel-rx", "4294967295", "cannot be bound", true);
	refused("multi-queue-num-queues", "0", "multi-queue-num-queues is 0", false);
	refused("multi-queue-num-queues", "3", "multi-queue-num-queues is 3, at most 2", false);
	refused("multi-queue-num-queues", "4294967295", "at most 2", false);
	refused("multi-queue-num-queues", "two", "not a number in range", false);
	refused("multi-queue-num-queues", "2", "queue-0/tx-ring-ref: missing", false);
}

/* netif.h: one queue stays at the top level even if it is announced. */
static void test_one_queue_announced(void **state)
{
	struct raw r;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){.offered = 2, .no_front = true});
	raw_open(&r, &p, 1, false);
	pair_set(&p, PAIR_FRONT, "multi-queue-num-queues", "1");
	pair_set(&p, PAIR_FRONT, "state", "4");
	pair_run(&p);
	assert_int_equal(p.back->state, NETIF_CONNECTED);
	netif_backend_free(p.back);
	p.back = NULL;
	netif_front_fini(&r.front);
	pair_close(&p);
}

/* A ring grant that is read-only, and rings whose indices contradict each other before the first packet. */
static void test_bad_rings(void **state)
{
	static const struct {
		uint32_t req, rsp;
		bool ok;
	} rings[] = {{0, 0, true}, {256, 0, true}, {257, 0, false}, {0, 1, false},
		{10, 0xfffffff0u, true}, {300, 20, false}, {0x80000000u, 0, false}};

	(void)state;
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(rings); i++) {
		struct raw r;
		struct pair p;
		struct ring_header *ring;
		unsigned c = i / 2;

		pair_open(&p, &(struct pair_config){.no_front = true});
		raw_open(&r, &p, 1, false);
		ring = i % 2 ? r.front.queues[0].rx.shared : r.front.queues[0].tx.shared;
		atomic_store(&ring->req_prod, rings[c].req);
		atomic_store(&ring->rsp_prod, rings[c].rsp);
		pair_set(&p, PAIR_FRONT, "state", "4");
		pair_run(&p);
		assert_int_equal(p.back->state, rings[c].ok ? NETIF_CONNECTED : NETIF_CLOSED);
		if (!rings[c].ok)
			assert_non_null(strstr(p.back->broken, "out of bounds at the start"));
		netif_backend_free(p.back);
		p.back = NULL;
		netif_front_fini(&r.front);
		pair_close(&p);
	}
}

static void test_read_only_ring(void **state)
{
	grant_ref_t ref;
	struct raw r;
	struct pair p;
	char value[16];

	(void)state;
	pair_open(&p, &(struct pair_config){.no_front = true});
	raw_open(&r, &p, 1, false);
	assert_int_equal(
		p.guest->ops->grant(p.guest, 0, r.front.queues[0].rings, 0, 1, true, &ref), 0);
	(void)snprintf(value, sizeof(value), "%u", ref);
	pair_set(&p, PAIR_FRONT, "tx-ring-ref", value);
	pair_set(&p, PAIR_FRONT, "state", "4");
	pair_run(&p);
	assert_non_null(strstr(p.back->broken, "cannot be mapped"));
	netif_front_fini(&r.front);
	pair_close(&p);
}

/* ---- going and coming ---- */

static void test_states_of_leaving(void **state)
{
	struct netif_front_queue *q;
	struct raw r;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){.no_front = true});
	raw_open(&r, &p, 1, false);
	q = &r.front.queues[0];
	pair_set(&p, PAIR_FRONT, "state", "4");
	pair_run(&p);
	assert_int_equal(p.guest->ops->region_del(p.guest, q->rings), -EBUSY);
	pair_set(&p, PAIR_FRONT, "state", "5");
	pair_run(&p);
	expect(&p, PAIR_BACK, "state", "5");
	assert_int_equal(p.stopped, 1);
	assert_false(pair_bp(&p)->info.link_up);
	/* From here on the guest can have its memory back. */
	assert_int_equal(p.guest->ops->region_del(p.guest, q->rings), 0);
	pair_set(&p, PAIR_FRONT, "state", "6");
	pair_run(&p);
	expect(&p, PAIR_BACK, "state", "6");
	pair_set(&p, PAIR_FRONT, "state", "1");
	pair_run(&p);
	expect(&p, PAIR_BACK, "state", "2");
	/* Its directory goes away without a word. */
	assert_int_equal(p.host->ops->store_rm(p.host, 0, PAIR_FRONT), 0);
	pair_run(&p);
	expect(&p, PAIR_BACK, "state", "6");
	netif_front_fini(&r.front);
	pair_close(&p);
}

/* The front end's own driver follows a back end through Closing and connects again. */
static void test_leave_and_return(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	pair_set(&p, PAIR_FRONT, "state", "5");
	pair_run(&p);
	assert_int_equal(p.front->state, NETIF_CONNECTED);
	assert_int_equal(p.back->state, NETIF_CONNECTED);
	assert_int_equal(p.started, 2);
	pair_close(&p);
}

static void test_reconnect(void **state)
{
	static const struct pair_config configs[] = {{.wanted = 1},
		{.wanted = 4, .want_split = true}, {.wanted = 1, .want_split = true}, {.wanted = 2},
		{.wanted = 1}};
	const struct frame frame = {.len = 1000, .seed = 7};
	unsigned fds = 0;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){.offered = 4, .offer_split = true, .no_front = true});
	for (unsigned i = 0; i < ARRAY_SIZE(configs); i++) {
		struct shunt_packet *packet;

		pair_front_open(&p, &configs[i]);
		assert_int_equal(p.back->state, NETIF_CONNECTED);
		assert_int_equal(p.back->back.nqueues, configs[i].wanted);
		packet = pair_to_host(&p, frame_make(p.app, &frame, 0, 0));
		assert_non_null(packet);
		frame_check(&frame, packet);
		shunt_packets_release(&packet, 1);
		pair_front_close(&p);
		assert_int_equal(p.back->state, NETIF_CLOSED);
		if (i == 0)
			fds = twin_fds();
		assert_int_equal(twin_fds(), fds);
		pair_set(&p, PAIR_FRONT, "state", "1");
		pair_run(&p);
		assert_int_equal(p.back->state, NETIF_INIT_WAIT);
	}
	assert_int_equal(p.started, ARRAY_SIZE(configs));
	assert_int_equal(p.stopped, ARRAY_SIZE(configs));
	pair_close(&p);
}

/* A guest that was reset says nothing of Closing. */
static void test_front_starts_over(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	for (unsigned i = 0; i < 5; i++) {
		pair_set(&p, PAIR_FRONT, "state", "1");
		pair_run(&p);
		assert_int_equal(p.back->state, NETIF_CONNECTED);
		assert_int_equal(p.front->state, NETIF_CONNECTED);
		assert_int_equal(p.started, i + 2);
	}
	pair_close(&p);
}

static void test_backend_goes(void **state)
{
	const struct frame frame = {.len = 100, .seed = 1};
	struct shunt_packet *packet;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	netif_backend_free(p.back);
	pair_set(&p, PAIR_BACK, "state", "5");
	pair_set(&p, PAIR_BACK, "state", "6");
	pair_run(&p);
	assert_false(pair_fp(&p)->info.link_up);
	packet = frame_make(p.app, &frame, 0, 0);
	assert_int_equal(shunt_port_tx(pair_fp(&p), 0, &packet, 1), 1);
	assert_int_equal(pair_drops(pair_fp(&p), SHUNT_DROP_LINK_DOWN), 1);
	/* A new one, as after a restart of the host. */
	assert_int_equal(netif_backend_new(&p.back, p.host, &p.back_config, &p.ops, &p), 0);
	pair_run(&p);
	assert_int_equal(p.back->state, NETIF_CONNECTED);
	assert_true(pair_fp(&p)->info.link_up);
	packet = pair_to_host(&p, frame_make(p.app, &frame, 0, 0));
	assert_non_null(packet);
	shunt_packets_release(&packet, 1);
	pair_close(&p);
}

static void test_quarantine(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	netif_backend_quarantine(p.back, "the test says so");
	netif_backend_quarantine(p.back, "again");
	pair_run(&p);
	assert_string_equal(p.back->broken, "the test says so");
	expect(&p, PAIR_BACK, "state", "6");
	expect(&p, PAIR_BACK, "carrier", "0");
	expect(&p, PAIR_BACK, "error", "the test says so");
	assert_false(pair_fp(&p)->info.link_up);
	assert_int_equal(p.stopped, 1);
	pair_close(&p);
}

static void test_domain_dies(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){
			      .offered = 2, .wanted = 2, .offer_split = true, .want_split = true});
	twin_kill(p.twin, 1);
	pair_run(&p);
	pair_close(&p);
}

static void test_carrier(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){.offered = 2, .wanted = 2});
	netif_backend_event(p.back, &p.back->back.queues[0], NETIF_STALLED);
	pair_run(&p);
	expect(&p, PAIR_BACK, "carrier", "0");
	assert_false(pair_fp(&p)->info.link_up);
	assert_false(pair_bp(&p)->info.link_up);
	netif_backend_event(p.back, &p.back->back.queues[1], NETIF_STALLED);
	netif_backend_event(p.back, &p.back->back.queues[0], NETIF_READY);
	pair_run(&p);
	expect(&p, PAIR_BACK, "carrier", "0");
	netif_backend_event(p.back, &p.back->back.queues[1], NETIF_READY);
	pair_run(&p);
	expect(&p, PAIR_BACK, "carrier", "1");
	assert_true(pair_fp(&p)->info.link_up);
	assert_true(pair_bp(&p)->info.link_up);
	pair_close(&p);
}

/* A broken queue that nobody has reported yet when the front end leaves: it is no way out. */
static void test_broken_then_gone(void **state)
{
	struct shunt_packet *packet;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	atomic_store(&p.front->front.queues[0].tx.shared->req_prod, 5000);
	assert_int_equal(shunt_port_rx(pair_bp(&p), 0, &packet, 1), 0);
	assert_int_equal(p.events[NETIF_BROKEN], 1);
	p.npending = 0;
	pair_set(&p, PAIR_FRONT, "state", "1");
	pair_run(&p);
	assert_int_equal(p.back->state, NETIF_CLOSED);
	assert_non_null(strstr(p.back->broken, "TX request producer is impossible"));
	pair_close(&p);
}

/* ---- from one instance to another ---- */

static int hand_over(struct pair *p)
{
	struct netif_record record;
	int err = netif_backend_freeze(p->back, &record);

	if (err)
		return err;
	netif_backend_free(p->back);
	p->back = NULL;
	err = netif_backend_thaw(&p->back, p->host, &p->back_config, &p->ops, p, &record);
	if (err)
		p->back = NULL;
	pair_run(p);
	return err;
}

static void test_freeze_thaw(void **state)
{
	struct pair p;

	(void)state;
	for (unsigned split = 0; split < 2; split++) {
		uint32_t sent = 0, seen = 0;
		unsigned fds;

		pair_open(&p, &(struct pair_config){.offered = 2,
				      .wanted = 2,
				      .offer_split = split,
				      .want_split = split});
		fds = twin_fds();
		for (unsigned i = 0; i < 20; i++) {
			struct shunt_packet *packets[8];
			unsigned n;

			/* Sent to the one, received half by it and half by the next. */
			for (unsigned k = 0; k < 6; k++) {
				const struct frame frame = {.len = 60 + k * 900, .seed = sent++};
				struct shunt_packet *packet = frame_make(p.app, &frame, 10, 0);

				assert_int_equal(shunt_port_tx(pair_fp(&p), i % 2, &packet, 1), 1);
			}
			for (unsigned half = 0; half < 2; half++) {
				n = shunt_port_rx(pair_bp(&p), i % 2, packets, 3);
				assert_int_equal(n, 3);
				for (unsigned k = 0; k < n; k++) {
					const struct frame frame = {
						.len = 60 + seen % 6 * 900, .seed = seen};

					frame_check(&frame, packets[k]);
					seen++;
				}
				shunt_packets_release(packets, n);
				if (half == 0)
					assert_int_equal(hand_over(&p), 0);
			}
			assert_int_equal(p.back->state, NETIF_CONNECTED);
			assert_true(pair_fp(&p)->info.link_up);
			assert_int_equal(twin_fds(), fds);
		}
		assert_int_equal(sent, seen);
		pair_close(&p);
	}
}

/* The guest's requests are there though their event went to the old instance: the new one looks by itself. */
static void test_thaw_wakes(void **state)
{
	const struct frame frame = {.len = 60, .seed = 3};
	struct shunt_packet *packet;
	struct netif_record record;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	assert_true(shunt_port_arm(pair_bp(&p), 0));
	assert_int_equal(netif_backend_freeze(p.back, &record), 0);
	packet = frame_make(p.app, &frame, 0, 0);
	assert_int_equal(shunt_port_tx(pair_fp(&p), 0, &packet, 1), 1);
	netif_backend_free(p.back);
	assert_int_equal(
		netif_backend_thaw(&p.back, p.host, &p.back_config, &p.ops, &p, &record), 0);
	/* And rings, so that the guest looks too. */
	assert_true(evtchn_consume(p.front->front.queues[0].tx_event) > 0);
	assert_false(shunt_port_arm(pair_bp(&p), 0));
	assert_int_equal(shunt_port_rx(pair_bp(&p), 0, &packet, 1), 1);
	shunt_packets_release(&packet, 1);
	pair_close(&p);
}

static void test_freeze_refused(void **state)
{
	struct netif_record record;
	struct shunt_packet *packet;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){.no_front = true});
	assert_int_equal(netif_backend_freeze(p.back, &record), -ENOTCONN);
	pair_front_open(&p, &(struct pair_config){0});
	assert_int_equal(hand_over(&p), 0);
	atomic_store(&p.front->front.queues[0].tx.shared->req_prod, 5000);
	assert_int_equal(shunt_port_rx(pair_bp(&p), 0, &packet, 1), 0);
	assert_int_equal(netif_backend_freeze(p.back, &record), -EPROTO);
	assert_int_equal(p.back->state, NETIF_CLOSED);
	pair_run(&p);
	assert_false(pair_fp(&p)->info.link_up);
	pair_close(&p);
}

static void test_thaw_bad_record(void **state)
{
	static const struct netif_record bad[] = {{.version = 0, .nqueues = 1},
		{.version = 2, .nqueues = 1}, {.version = 1, .nqueues = 0},
		{.version = 1, .nqueues = NETIF_MAX_QUEUES + 1}};
	struct netif_backend *backend;
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){.no_front = true});
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(
			netif_backend_thaw(&backend, p.host, &p.back_config, &p.ops, &p, &bad[i]),
			-EINVAL);
	pair_close(&p);
}

/* A hand-over that fails half way closes the vif, and gives back what the record held. */
static void test_thaw_fails(void **state)
{
	(void)state;
	for (unsigned nth = 1; nth <= 4; nth++) {
		unsigned fds;
		struct pair p;

		pair_open(&p,
			&(struct pair_config){.offered = 2, .offer_split = true, .no_front = true});
		fds = twin_fds();
		pair_front_open(&p, &(struct pair_config){.wanted = 2, .want_split = true});
		twin_fail(p.twin, 0, TWIN_MAP, nth, -ENOMEM);
		assert_int_equal(hand_over(&p), -EPROTO);
		expect(&p, PAIR_BACK, "state", "6");
		assert_false(pair_fp(&p)->info.link_up);
		pair_front_close(&p);
		assert_int_equal(twin_fds(), fds);
		pair_close(&p);
	}
}

/* Carrier off because the old instance's queue was stalled: the new one begins afresh. */
static void test_thaw_stalled(void **state)
{
	struct pair p;

	(void)state;
	pair_open(&p, &(struct pair_config){0});
	netif_backend_event(p.back, &p.back->back.queues[0], NETIF_STALLED);
	pair_run(&p);
	assert_false(pair_fp(&p)->info.link_up);
	assert_int_equal(hand_over(&p), 0);
	expect(&p, PAIR_BACK, "carrier", "1");
	assert_true(pair_fp(&p)->info.link_up);
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_offer),
		cmocka_unit_test(test_one_queue),
		cmocka_unit_test(test_one_queue_split),
		cmocka_unit_test(test_several_queues),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_transaction),
		cmocka_unit_test(test_platform_failures),
		cmocka_unit_test(test_bad_keys),
		cmocka_unit_test(test_one_queue_announced),
		cmocka_unit_test(test_bad_rings),
		cmocka_unit_test(test_read_only_ring),
		cmocka_unit_test(test_states_of_leaving),
		cmocka_unit_test(test_leave_and_return),
		cmocka_unit_test(test_reconnect),
		cmocka_unit_test(test_front_starts_over),
		cmocka_unit_test(test_backend_goes),
		cmocka_unit_test(test_quarantine),
		cmocka_unit_test(test_domain_dies),
		cmocka_unit_test(test_carrier),
		cmocka_unit_test(test_broken_then_gone),
		cmocka_unit_test(test_freeze_thaw),
		cmocka_unit_test(test_thaw_wakes),
		cmocka_unit_test(test_freeze_refused),
		cmocka_unit_test(test_thaw_bad_record),
		cmocka_unit_test(test_thaw_fails),
		cmocka_unit_test(test_thaw_stalled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
