/* SPDX-License-Identifier: BSD-3-Clause */
#include "programs/shuntd/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "programs/common/value.h"

static json_t *count(uint64_t n)
{
	return json_integer((json_int_t)n);
}

/* Text that may repeat what a guest said: JSON wants UTF-8. */
static json_t *said_json(const char *text)
{
	char clean[128];
	size_t len = strnlen(text, sizeof(clean) - 1);

	for (size_t i = 0; i < len; i++)
		clean[i] = (char)(text[i] >= ' ' && text[i] < 0x7f ? text[i] : '?');
	clean[len] = '\0';
	return json_string(clean);
}

static json_t *mac_json(const uint8_t mac[6])
{
	char text[VALUE_TEXT];

	return json_string(value_mac_text(mac, text));
}

static json_t *macs_json(const uint8_t (*macs)[6], unsigned n)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++)
		(void)json_array_append_new(list, mac_json(macs[i]));
	return list;
}

static json_t *ips_json(const struct vswitch_ip *ips, unsigned n)
{
	json_t *list = json_array();
	char text[VALUE_TEXT];

	for (unsigned i = 0; i < n; i++)
		(void)json_array_append_new(list, json_string(value_ip_text(&ips[i], text)));
	return list;
}

static json_t *rate_json(const struct rate_limit *rate)
{
	char text[VALUE_TEXT];

	return rate->bytes && rate->usec ? json_string(value_rate_text(rate, text)) : json_null();
}

/* 0 is none. */
static json_t *number_or_null(uint64_t n)
{
	return n ? count(n) : json_null();
}

static json_t *time_json(time_t when)
{
	struct tm tm;
	char text[32];

	if (!gmtime_r(&when, &tm) || !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm))
		return json_null();
	return json_string(text);
}

static json_t *seconds_since(time_t when)
{
	time_t now = time(NULL);

	return json_integer(now > when ? now - when : 0);
}

static json_t *drops_json(const uint64_t drops[SHUNT_DROPS])
{
	json_t *object = json_object();

	for (unsigned i = 0; i < SHUNT_DROPS; i++) {
		if (drops[i])
			(void)json_object_set_new(object, shunt_drop_names[i], count(drops[i]));
	}
	return object;
}

static uint64_t drops_sum(const uint64_t drops[SHUNT_DROPS])
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < SHUNT_DROPS; i++)
		sum += drops[i];
	return sum;
}

/* rx and tx as the host sees them: rx came from there. */
static json_t *stats_json(const struct shunt_port_stats *s)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "rx-packets", count(s->rx_packets),
		"rx-bytes", count(s->rx_bytes), "tx-packets", count(s->tx_packets), "tx-bytes",
		count(s->tx_bytes), "drops", drops_json(s->drops));
}

static json_t *caps_json(uint32_t caps)
{
	static const char *const names[] = {"csum", "csum6", "gso4", "gso6", "sg", "vlan"};
	json_t *list = json_array();

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (caps & 1u << i)
			(void)json_array_append_new(list, json_string(names[i]));
	}
	return list;
}

/* ---- vifs ---- */

json_t *report_vif_line(struct vif *vif)
{
	const struct vif_config *c = vif_config(vif);
	struct vif_status s;

	vif_status(vif, &s);
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", c->name, "state",
		vif_state_names[s.state], "seconds", seconds_since(s.since), "mac",
		mac_json(c->mac), "vlan", number_or_null(c->vlan), "rx-packets",
		count(s.stats.rx_packets), "tx-packets", count(s.stats.tx_packets), "drops",
		count(drops_sum(s.stats.drops)), "reason", said_json(s.reason));
}

static json_t *workers_json(const struct vif_status *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->queues; i++)
		(void)json_array_append_new(list, count(s->workers[i]));
	return list;
}

static json_t *socket_json(const struct daemon *d, const struct vif_config *c)
{
	return json_sprintf("%s/%s.sock", d->settings->run, c->name);
}

json_t *report_vif_made(struct daemon *d, struct vif *vif)
{
	const struct vif_config *c = vif_config(vif);

	return json_pack("{s:s, s:s, s:o, s:o}", "name", c->name, "uuid", c->uuid, "mac",
		mac_json(c->mac), "socket", socket_json(d, c));
}

static json_t *vif_config_json(const struct daemon *d, const struct vif_config *c)
{
	char memory[VALUE_TEXT];

	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:i, s:s, s:o, s:b, s:o}",
		"uuid", c->uuid, "mac", mac_json(c->mac), "macs", macs_json(c->macs, c->nmacs),
		"ips", ips_json(c->ips, c->nips), "vlan", number_or_null(c->vlan), "rate",
		rate_json(&c->rate), "owner", count(c->owner), "mtu", (int)c->mtu, "queues",
		(int)c->queues, "memory", value_size_text(c->memory, memory), "flood",
		number_or_null(c->flood_pps), "unknown-unicast", (int)c->unknown_unicast, "socket",
		socket_json(d, c));
}

/* What its guest asked for and did not get. */
static json_t *guest_refusals_json(const struct daemon *d, domid_t domid)
{
	json_t *object = json_object();

	for (unsigned i = 0; domid && i < HV_REFUSALS; i++) {
		uint64_t n = hv_refused(d->hv, domid, (enum hv_refusal)i);

		if (n)
			(void)json_object_set_new(object, hv_refusal_names[i], count(n));
	}
	return object;
}

json_t *report_vif(struct daemon *d, struct vif *vif)
{
	struct vif_status s;

	vif_status(vif, &s);
	return json_pack(
		"{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o}",
		"name", vif_config(vif)->name, "state", vif_state_names[s.state], "reason",
		said_json(s.reason), "since", time_json(s.since), "seconds", seconds_since(s.since),
		"domid", number_or_null(s.domid), "pid", number_or_null((uint64_t)s.pid),
		"switch-port", count(s.port), "connected-queues", (int)s.queues, "workers",
		workers_json(&s), "features", caps_json(s.caps), "multicast-filter",
		(int)s.multicast_filter, "memory-used", count(s.memory), "attachments",
		count(s.attachments), "quarantines", count(s.quarantines), "refusals",
		guest_refusals_json(d, s.domid), "config", vif_config_json(d, vif_config(vif)),
		"counters", stats_json(&s.stats));
}

/* ---- ports ---- */

static const char *kind_name(const struct host_port_config *c)
{
	return c->guest ? "guest" : "uplink";
}

/* "5", "2,5-9", "all" */
static json_t *vlans_json(const uint64_t vlans[VSWITCH_VLANS / 64])
{
	char text[VSWITCH_VLANS * 5 + 1];
	size_t at = 0;

	text[0] = '\0';
	for (unsigned v = 1; v <= VSWITCH_VLAN_MAX; v++) {
		unsigned last = v;

		if (!(vlans[v / 64] & 1ull << (v % 64)))
			continue;
		while (last < VSWITCH_VLAN_MAX &&
			(vlans[(last + 1) / 64] & 1ull << ((last + 1) % 64)))
			last++;
		at += (size_t)snprintf(text + at, sizeof(text) - at, last > v ? "%s%u-%u" : "%s%u",
			at ? "," : "", v, last);
		v = last;
	}
	return json_string(at && strcmp(text, "1-4094") != 0 ? text : "all");
}

static json_t *port_config_json(const struct host_port_config *c)
{
	const struct vswitch_port_config *sw = &c->sw;
	bool trunk = sw->vlan_mode == VSWITCH_VLAN_TRUNK;
	static const char *const unknown[] = {[VSWITCH_UNKNOWN_BY_KIND] = NULL,
		[VSWITCH_UNKNOWN_YES] = "yes",
		[VSWITCH_UNKNOWN_NO] = "no"};

	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "kind", kind_name(c),
		"vlan", number_or_null(sw->vlan_mode == VSWITCH_VLAN_ACCESS ? sw->vlan : 0),
		"trunk", trunk ? vlans_json(sw->trunk) : json_null(), "native",
		trunk && sw->native != VSWITCH_NO_NATIVE ? count(sw->native) : json_null(), "macs",
		macs_json(sw->macs, sw->nmacs), "ips", ips_json(sw->ips, sw->nips), "rate",
		rate_json(&c->rate), "flood", number_or_null(sw->flood_pps), "unknown-unicast",
		unknown[sw->unknown] ? unknown[sw->unknown]
		: c->guest           ? "no"
				     : "yes");
}

json_t *report_port_line(struct host_port *port)
{
	const struct host_port_config *c = host_port_config(port);
	struct shunt_port_info info;
	struct shunt_port_stats stats;

	shunt_port_info(host_port_port(port), &info);
	shunt_port_stats(host_port_port(port), &stats);
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "name", c->name, "spec", info.name,
		"kind", kind_name(c), "link", info.link_up ? "up" : "down", "rx-packets",
		count(stats.rx_packets), "tx-packets", count(stats.tx_packets), "drops",
		count(drops_sum(stats.drops)));
}

json_t *report_port(struct host_port *port)
{
	const struct host_port_config *c = host_port_config(port);
	struct shunt_port_info info;
	struct shunt_port_stats stats;

	shunt_port_info(host_port_port(port), &info);
	shunt_port_stats(host_port_port(port), &stats);
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "name", c->name, "spec",
		info.name, "link", info.link_up ? "up" : "down", "switch-port",
		count(host_port_id(port)), "mtu", count(info.mtu), "queues", count(info.rx_queues),
		"features", caps_json(info.caps), "config", port_config_json(c), "counters",
		stats_json(&stats));
}

/* ---- the switch ---- */

struct fdb_report {
	struct daemon *d;
	json_t *list;
	const char *names[VSWITCH_PORTS];
};

static void fdb_each(void *arg, const struct vswitch_fdb_entry *entry)
{
	struct fdb_report *report = arg;
	const char *name = entry->port < VSWITCH_PORTS ? report->names[entry->port] : NULL;

	(void)json_array_append_new(report->list,
		json_pack("{s:o, s:o, s:s, s:s, s:o}", "mac", mac_json(entry->mac), "vlan",
			number_or_null(entry->vlan), "port", name ? name : "?", "origin",
			entry->learned ? "learned" : "configured", "age",
			entry->learned ? count(entry->age) : json_null()));
}

json_t *report_fdb(struct daemon *d)
{
	struct fdb_report report = {.d = d, .list = json_array()};

	for (struct vif *vif = vif_next(d->host, NULL); vif; vif = vif_next(d->host, vif)) {
		struct vif_status status;

		vif_status(vif, &status);
		report.names[status.port] = vif_config(vif)->name;
	}
	for (struct host_port *p = host_port_next(d->host, NULL); p; p = host_port_next(d->host, p))
		report.names[host_port_id(p)] = host_port_config(p)->name;
	vswitch_fdb_dump(d->sw, clock_ns(), fdb_each, &report);
	return report.list;
}

/* received + replicated - delivered - drops - lost: 0 when nothing is under way. */
static int64_t missing(const struct host_totals *t)
{
	return (int64_t)(t->received + t->replicated - t->delivered - t->lost -
			 drops_sum(t->drops));
}

static json_t *totals_json(const struct host_totals *t)
{
	int64_t under_way = missing(t);

	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:I, s:b}", "received", count(t->received),
		"replicated", count(t->replicated), "delivered", count(t->delivered), "dropped",
		count(drops_sum(t->drops)), "lost", count(t->lost), "under-way",
		(json_int_t)under_way, "balanced", under_way == 0);
}

static json_t *refusals_json(struct daemon *d)
{
	json_t *object = json_object();

	for (unsigned i = 0; i < HV_DROPS; i++) {
		uint64_t n = hv_server_dropped(d->server, (enum hv_drop)i);

		if (n)
			(void)json_object_set_new(object, hv_drop_names[i], count(n));
	}
	return object;
}

static json_t *switch_json(struct daemon *d)
{
	struct vswitch_stats s;

	vswitch_stats(d->sw, &s);
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "learned", count(s.learned),
		"configured", count(s.configured), "learn-moved", count(s.learn_moved),
		"learn-replaced", count(s.learn_replaced), "learn-refused", count(s.learn_refused),
		"learn-busy", count(s.learn_busy));
}

static json_t *worker_json(struct daemon *d, unsigned i)
{
	struct worker_stats s;

	workers_stats(d->workers, i, &s);
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "worker", count(i),
		"loops", count(s.loops), "sleeps", count(s.sleeps), "packets", count(s.packets),
		"replicated", count(s.replicated), "handed-over", count(s.handed_over), "lost",
		count(s.lost), "spurious", count(s.spurious), "active", count(s.active),
		"pool-packets", count(s.pool_packets));
}

static json_t *named_stats(const char *name, const struct shunt_port_stats *s)
{
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "name", name, "rx-packets",
		count(s->rx_packets), "rx-bytes", count(s->rx_bytes), "tx-packets",
		count(s->tx_packets), "tx-bytes", count(s->tx_bytes), "drops",
		drops_json(s->drops));
}

json_t *report_stats(struct daemon *d)
{
	json_t *workers = json_array();
	json_t *ports = json_array();
	json_t *vifs = json_array();
	struct host_totals totals;

	host_totals(d->host, &totals);
	for (unsigned i = 0; i < workers_count(d->workers); i++)
		(void)json_array_append_new(workers, worker_json(d, i));
	for (struct host_port *p = host_port_next(d->host, NULL); p;
		p = host_port_next(d->host, p)) {
		struct shunt_port_stats stats;

		shunt_port_stats(host_port_port(p), &stats);
		(void)json_array_insert_new(
			ports, 0, named_stats(host_port_config(p)->name, &stats));
	}
	for (struct vif *vif = vif_next(d->host, NULL); vif; vif = vif_next(d->host, vif)) {
		struct vif_status status;

		vif_status(vif, &status);
		(void)json_array_insert_new(
			vifs, 0, named_stats(vif_config(vif)->name, &status.stats));
	}
	return json_pack("{s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "version",
		SHUNT_VERSION, "pid", (int)getpid(), "uptime", seconds_since(d->started), "totals",
		totals_json(&totals), "drops", drops_json(totals.drops), "refusals",
		refusals_json(d), "switch", switch_json(d), "workers", workers, "ports", ports,
		"vifs", vifs);
}

/* ---- doctor ---- */

static void check(json_t *list, const char *status, const char *what, const char *value,
	const char *cause, const char *cure)
{
	(void)json_array_append_new(list,
		json_pack("{s:s, s:s, s:s, s:o*, s:s*}", "status", status, "what", what, "value",
			value, "cause", cause ? said_json(cause) : NULL, "cure", cure));
}

static void check_workers(struct daemon *d, json_t *list)
{
	for (unsigned i = 0; i < workers_count(d->workers); i++) {
		struct worker_stats s;
		char what[32];
		char value[96];

		workers_stats(d->workers, i, &s);
		(void)snprintf(what, sizeof(what), "worker %u", i);
		(void)snprintf(value, sizeof(value),
			"alive, %" PRIu64 " packets, %" PRIu64 " sleeps, %" PRIu64
			" spurious wake-ups",
			s.packets, s.sleeps, s.spurious);
		/* Each wake-up follows a sleep. */
		if (s.spurious > 1000 && s.spurious > s.sleeps / 2)
			check(list, "note", what, value,
				"a guest or device wakes it up and brings nothing",
				"compare the counters of the vifs; kick the one that sends nothing");
		else
			check(list, "ok", what, value, NULL, NULL);
	}
}

static void check_vifs(struct daemon *d, json_t *list)
{
	unsigned total = 0;
	unsigned bad = 0;
	char value[64];

	for (struct vif *vif = vif_next(d->host, NULL); vif;
		vif = vif_next(d->host, vif), total++) {
		struct vif_status s;
		char what[VIF_NAME_MAX + 8];

		vif_status(vif, &s);
		(void)snprintf(what, sizeof(what), "vif %s", vif_config(vif)->name);
		if (s.state == VIF_QUARANTINED) {
			check(list, "fail", what, "quarantined", s.reason,
				"its guest broke the protocol: shunt vif kick, and look at the guest");
			bad++;
		} else if (s.state == VIF_STALLED) {
			check(list, "fail", what, "stalled", s.reason,
				"its guest does not receive: look at the guest");
			bad++;
		}
	}
	(void)snprintf(value, sizeof(value), "%u, %u of them quarantined or stalled", total, bad);
	check(list, bad ? "note" : "ok", "vifs", value, NULL, NULL);
}

static void check_ports(struct daemon *d, json_t *list)
{
	for (struct host_port *p = host_port_next(d->host, NULL); p;
		p = host_port_next(d->host, p)) {
		struct shunt_port_info info;
		char what[sizeof(info.name) + 8];

		shunt_port_info(host_port_port(p), &info);
		(void)snprintf(what, sizeof(what), "port %s", host_port_config(p)->name);
		if (info.link_up)
			check(list, "ok", what, info.name, NULL, NULL);
		else
			check(list, "note", what, info.name,
				"its link is down: device deleted, or capture file read to its end",
				"shunt port del, then add");
	}
}

/* Descriptors for as many vifs as there are, connected. */
static void check_files(struct daemon *d, json_t *list)
{
	struct rlimit limit = {0};
	char value[96];
	unsigned vifs = 0;
	uint64_t need = 128;

	for (struct vif *vif = vif_next(d->host, NULL); vif; vif = vif_next(d->host, vif), vifs++)
		need += 5 + 3ull * vif_config(vif)->queues;
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	(void)snprintf(value, sizeof(value), "%llu allowed, %" PRIu64 " needed by %u vifs",
		(unsigned long long)limit.rlim_cur, need, vifs);
	if (need <= limit.rlim_cur)
		check(list, "ok", "open files", value, NULL, NULL);
	else
		check(list, "fail", "open files", value,
			"guests will be refused when the limit is reached",
			"start shuntd as root, or raise LimitNOFILE");
}

static void check_totals(struct daemon *d, json_t *list)
{
	struct host_totals t;
	char value[96];

	host_totals(d->host, &t);
	for (unsigned i = 0; i < SHUNT_DROPS; i++) {
		char what[64];

		if (!t.drops[i])
			continue;
		(void)snprintf(what, sizeof(what), "drops %s", shunt_drop_names[i]);
		(void)snprintf(value, sizeof(value), "%" PRIu64, t.drops[i]);
		check(list, "note", what, value, NULL,
			"shunt stats says whose; shunt.1 says what the name means");
	}
	(void)snprintf(value, sizeof(value), "%" PRId64 " packets under way", missing(&t));
	if (missing(&t) == 0)
		check(list, "ok", "packets received are delivered or dropped by name", value, NULL,
			NULL);
	else
		check(list, "note", "packets received are delivered or dropped by name", value,
			"traffic is flowing, or a counter is missing",
			"run it again without traffic: it must be 0");
}

json_t *report_doctor(struct daemon *d)
{
	json_t *list = json_array();
	char value[64];
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	(void)snprintf(value, sizeof(value), "version %s, pid %d", SHUNT_VERSION, (int)getpid());
	check(list, "ok", "shuntd", value, NULL, NULL);
	(void)snprintf(value, sizeof(value), "%u for %ld CPUs", workers_count(d->workers), cpus);
	if ((long)workers_count(d->workers) <= cpus)
		check(list, "ok", "workers", value, NULL, NULL);
	else
		check(list, "note", "workers", value,
			"more workers than CPUs get in each other's way",
			"set [shuntd] workers to the number of CPUs or less");
	if (d->settings->sandbox == SANDBOX_NO)
		check(list, "note", "sandbox", "off", "[shuntd] sandbox = no", "leave it out");
	else
		check(list, "ok", "sandbox",
			d->settings->sandbox == SANDBOX_KILL ? "on, kills" : "on", NULL, NULL);
	if (opener_alive(d->opener))
		check(list, "ok", "opener", "alive", NULL, NULL);
	else
		check(list, "fail", "opener", "gone",
			"it was killed: vifs and ports cannot be added", "restart shuntd");
	check_workers(d, list);
	check_files(d, list);
	check_ports(d, list);
	check_vifs(d, list);
	check_totals(d, list);
	return list;
}
