/* SPDX-License-Identifier: BSD-3-Clause */
#include "programs/shuntd/settings.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "programs/common/value.h"

const char *const port_kind_names[] = {"tap", "packet", "pcap", "null"};
static_assert(ARRAY_SIZE(port_kind_names) == PORT_KINDS, "a kind lacks its name");

static const char *const sandbox_names[] = {"no", "yes", "kill"};

struct setting {
	const char *name;
	const char *form; /* "must be ..." */
	bool (*parse)(const char *value, void *settings);
};

bool fault_set(struct fault *fault, const char *field, const char *format, ...)
{
	va_list ap;

	(void)snprintf(fault->field, sizeof(fault->field), "%s", field);
	va_start(ap, format);
	(void)vsnprintf(fault->text, sizeof(fault->text), format, ap);
	va_end(ap);
	return false;
}

static bool set(const struct setting *table, unsigned n, void *settings, uint64_t *given,
	const char *key, const char *value, struct fault *fault)
{
	for (unsigned i = 0; i < n; i++) {
		if (strcmp(table[i].name, key) != 0)
			continue;
		if (*given & 1ull << i)
			return fault_set(fault, key, "%s is given twice", key);
		*given |= 1ull << i;
		if (!table[i].parse(value, settings))
			return fault_set(
				fault, key, "%s = %.80s: must be %s", key, value, table[i].form);
		return true;
	}
	return fault_set(fault, key, "%.40s: there is no such key", key);
}

static bool given(const struct setting *table, unsigned n, uint64_t bits, const char *key)
{
	for (unsigned i = 0; i < n; i++) {
		if (!strcmp(table[i].name, key))
			return bits & 1ull << i;
	}
	return false;
}

/* Fill in a fixed string; false if it does not fit. */
static bool keep(const char *value, char *to, size_t size)
{
	size_t len = strlen(value);

	if (len == 0 || len >= size)
		return false;
	memcpy(to, value, len + 1);
	return true;
}

static bool parse_u32(const char *value, uint64_t min, uint64_t max, uint32_t *out)
{
	uint64_t n;

	if (!value_uint(value, min, max, &n))
		return false;
	*out = (uint32_t)n;
	return true;
}

static bool parse_u16(const char *value, uint64_t min, uint64_t max, uint16_t *out)
{
	uint64_t n;

	if (!value_uint(value, min, max, &n))
		return false;
	*out = (uint16_t)n;
	return true;
}

static bool parse_rate(const char *value, struct rate_limit *rate)
{
	*rate = (struct rate_limit){0, 0};
	return !strcmp(value, "none") || rate_parse(value, rate) == 0;
}

struct macs {
	uint8_t (*macs)[6];
	unsigned n;
	unsigned max;
};

static bool macs_add(void *arg, const char *element)
{
	struct macs *list = arg;

	return list->n < list->max && value_mac(element, list->macs[list->n++]);
}

static bool parse_macs(const char *value, uint8_t (*macs)[6], unsigned max, unsigned *n)
{
	struct macs list = {macs, 0, max};

	if (!value_list(value, macs_add, &list))
		return false;
	*n = list.n;
	return true;
}

struct ips {
	struct vswitch_ip *ips;
	unsigned n;
};

static bool ips_add(void *arg, const char *element)
{
	struct ips *list = arg;

	return list->n < VSWITCH_IPS && value_ip(element, &list->ips[list->n++]);
}

static bool parse_ips(const char *value, struct vswitch_ip *ips, unsigned *n)
{
	struct ips list = {ips, 0};

	if (!value_list(value, ips_add, &list))
		return false;
	*n = list.n;
	return true;
}

/* ---- [shuntd] ---- */

static bool daemon_run(const char *value, void *arg)
{
	struct daemon_settings *s = arg;

	return value[0] == '/' && keep(value, s->run, sizeof(s->run));
}

static bool daemon_captures(const char *value, void *arg)
{
	struct daemon_settings *s = arg;

	return value[0] == '/' && keep(value, s->captures, sizeof(s->captures));
}

static bool daemon_user(const char *value, void *arg)
{
	struct daemon_settings *s = arg;

	return value_name(value, sizeof(s->user) - 1) && keep(value, s->user, sizeof(s->user));
}

static bool daemon_workers(const char *value, void *arg)
{
	struct daemon_settings *s = arg;

	return parse_u32(value, 1, WORKERS_MAX, &s->workers);
}

static bool cpu_add(void *arg, const char *element)
{
	struct daemon_settings *s = arg;
	uint64_t cpu;

	if (s->ncpus == WORKERS_MAX || !value_uint(element, 0, 1023, &cpu))
		return false;
	s->cpus[s->ncpus++] = (int)cpu;
	return true;
}

static bool daemon_cpus(const char *value, void *arg)
{
	return value_list(value, cpu_add, arg);
}

static bool daemon_ageing(const char *value, void *arg)
{
	struct daemon_settings *s = arg;

	return parse_u32(value, 1, 131072, &s->ageing);
}

static bool daemon_learned(const char *value, void *arg)
{
	struct daemon_settings *s = arg;

	return parse_u32(value, 64, 1 << 22, &s->learned);
}

static bool daemon_join(const char *value, void *arg)
{
	struct daemon_settings *s = arg;

	return value_bool(value, &s->join_uplinks);
}

static bool daemon_log(const char *value, void *arg)
{
	struct daemon_settings *s = arg;
	unsigned level;

	if (!value_choice(value, log_level_names, LOG_LEVELS, &level))
		return false;
	s->log = (enum log_level)level;
	return true;
}

static bool daemon_sandbox(const char *value, void *arg)
{
	struct daemon_settings *s = arg;
	unsigned mode;

	if (!value_choice(value, sandbox_names, ARRAY_SIZE(sandbox_names), &mode))
		return false;
	s->sandbox = (enum sandbox_mode)mode;
	return true;
}

static const struct setting daemon_table[] = {
	{"run", "an absolute path of at most 70 characters", daemon_run},
	{"captures", "an absolute path", daemon_captures},
	{"user", "the name of a user", daemon_user},
	{"workers", "a number from 1 to 64", daemon_workers},
	{"cpus", "a list of CPU numbers, one for each worker", daemon_cpus},
	{"ageing", "a number of seconds from 1 to 131072", daemon_ageing},
	{"learned", "a number of addresses from 64 to 4194304", daemon_learned},
	{"join-uplinks", "yes or no", daemon_join},
	{"log", "error, warning, info or debug", daemon_log},
	{"sandbox", "yes, no or kill", daemon_sandbox},
};

void daemon_settings_init(struct daemon_settings *s)
{
	*s = (struct daemon_settings){.run = "/run/shunt",
		.ageing = 300,
		.learned = 16384,
		.log = LOG_INFO,
		.sandbox = SANDBOX_YES};
}

bool daemon_set(struct daemon_settings *s, const char *key, const char *value, struct fault *fault)
{
	return set(daemon_table, ARRAY_SIZE(daemon_table), s, &s->given, key, value, fault);
}

bool daemon_settings_finish(struct daemon_settings *s, struct fault *fault)
{
	size_t len = strlen(s->run);

	while (len > 1 && s->run[len - 1] == '/')
		s->run[--len] = '\0';
	if (!s->workers)
		s->workers = s->ncpus ? s->ncpus : 1;
	if (s->ncpus && s->ncpus != s->workers)
		return fault_set(
			fault, "cpus", "cpus names %u CPUs for %u workers", s->ncpus, s->workers);
	return true;
}

/* ---- [vif NAME] ---- */

static bool vif_uuid(const char *value, void *arg)
{
	struct vif_settings *s = arg;

	return value_uuid(value, s->config.uuid);
}

static bool vif_mac(const char *value, void *arg)
{
	struct vif_settings *s = arg;

	return value_mac(value, s->config.mac);
}

static bool vif_vlan(const char *value, void *arg)
{
	struct vif_settings *s = arg;

	s->config.vlan = 0;
	return !strcmp(value, "none") || parse_u16(value, 1, VSWITCH_VLAN_MAX, &s->config.vlan);
}

static bool vif_rate(const char *value, void *arg)
{
	struct vif_settings *s = arg;

	return parse_rate(value, &s->config.rate);
}

static bool vif_macs(const char *value, void *arg)
{
	struct vif_settings *s = arg;

	return parse_macs(value, s->config.macs, ARRAY_SIZE(s->config.macs), &s->config.nmacs);
}

static bool vif_ips(const char *value, void *arg)
{
	struct vif_settings *s = arg;

	return parse_ips(value, s->config.ips, &s->config.nips);
}

static bool vif_owner(const char *value, void *arg)
{
	struct vif_settings *s = arg;

	return value_user(value, &s->config.owner);
}

static bool vif_mtu(const char *value, void *arg)
{
	struct vif_settings *s = arg;

	return parse_u16(value, 68, 65517, &s->config.mtu);
}

static bool vif_queues(const char *value, void *arg)
{
	struct vif_settings *s = arg;

	return parse_u32(value, 1, NETIF_MAX_QUEUES, &s->config.queues);
}

static bool vif_memory(const char *value, void *arg)
{
	struct vif_settings *s = arg;

	return value_size(value, &s->config.memory) && s->config.memory >= 1 << 20 &&
	       s->config.memory <= 1ull << 40;
}

static bool vif_flood(const char *value, void *arg)
{
	struct vif_settings *s = arg;

	s->config.flood_pps = 0;
	return !strcmp(value, "none") || parse_u32(value, 1, UINT32_MAX, &s->config.flood_pps);
}

static bool vif_unknown(const char *value, void *arg)
{
	struct vif_settings *s = arg;

	return value_bool(value, &s->config.unknown_unicast);
}

#define FORM_VLAN  "a number from 1 to 4094, or none"
#define FORM_RATE  "BYTES,MICROSECONDS, or a rate as 10Mb/s or 10MB/s@20ms, or none"
#define FORM_IPS   "at most 32 IPv4 or IPv6 addresses"
#define FORM_FLOOD "packets a second, or none"

static const struct setting vif_table[] = {
	{"uuid", "a UUID", vif_uuid},
	{"mac", "a unicast address as 02:00:00:00:00:01", vif_mac},
	{"vlan", FORM_VLAN, vif_vlan},
	{"rate", FORM_RATE, vif_rate},
	{"macs", "at most 15 unicast addresses as 02:00:00:00:00:01", vif_macs},
	{"ips", FORM_IPS, vif_ips},
	{"owner", "a user's name or number", vif_owner},
	{"mtu", "a number from 68 to 65517", vif_mtu},
	{"queues", "a number from 1 to 8", vif_queues},
	{"memory", "a size from 1M to 1024G", vif_memory},
	{"flood", FORM_FLOOD, vif_flood},
	{"unknown-unicast", "yes or no", vif_unknown},
};
static_assert(VSWITCH_MACS == 16 && VSWITCH_IPS == 32 && NETIF_MAX_QUEUES == 8 &&
		      WORKER_PORT_QUEUES == 8 && VSWITCH_VLAN_MAX == 4094 && WORKERS_MAX == 64,
	"numbers in the tables' text");

/* The files that shuntd itself has in the run directory are named like sockets of vifs. */
static bool name_check(const char *name, size_t max, struct fault *fault)
{
	if (!value_name(name, max))
		return fault_set(fault, "name",
			"%.40s: a name has at most %zu letters, digits, '-', '_' and '.'", name,
			max);
	if (!strcmp(name, "control") || !strcmp(name, "store"))
		return fault_set(fault, "name", "%s: shuntd uses this name itself", name);
	return true;
}

bool vif_settings_init(struct vif_settings *s, const char *name, struct fault *fault)
{
	memset(s, 0, sizeof(*s));
	if (!name_check(name, VIF_NAME_MAX, fault))
		return false;
	(void)snprintf(s->config.name, sizeof(s->config.name), "%s", name);
	s->config.mtu = 1500;
	s->config.queues = 1;
	s->config.memory = 64 << 20;
	return true;
}

bool vif_settings_set(
	struct vif_settings *s, const char *key, const char *value, struct fault *fault)
{
	return set(vif_table, ARRAY_SIZE(vif_table), s, &s->given, key, value, fault);
}

/* RFC 9562, version 4. */
static bool uuid_make(char uuid[37])
{
	uint8_t b[16];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return false;
	b[6] = (uint8_t)(0x40 | (b[6] & 0x0f));
	b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));
	(void)snprintf(uuid, 37,
		"%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		b[15]);
	return true;
}

/* A locally administered address that goes with the UUID: FNV-1a of its text. */
static void mac_from_uuid(const char *uuid, uint8_t mac[6])
{
	uint64_t hash = 0xcbf29ce484222325;

	for (; *uuid; uuid++)
		hash = (hash ^ (uint8_t)*uuid) * 0x100000001b3;
	hash ^= hash >> 32;
	for (unsigned i = 0; i < 6; i++)
		mac[i] = (uint8_t)(hash >> (8 * i));
	mac[0] = (uint8_t)((mac[0] & ~3u) | 2);
}

bool vif_settings_finish(struct vif_settings *s, struct fault *fault)
{
	static const uint8_t none[6];
	struct vif_config *c = &s->config;

	if (!c->uuid[0] && !uuid_make(c->uuid))
		return fault_set(fault, "uuid", "no random numbers: %s", strerror(errno));
	if (!memcmp(c->mac, none, sizeof(none)))
		mac_from_uuid(c->uuid, c->mac);
	for (unsigned i = 0; i < c->nmacs; i++) {
		bool twice = !memcmp(c->macs[i], c->mac, 6);

		for (unsigned j = 0; j < i; j++)
			twice |= !memcmp(c->macs[i], c->macs[j], 6);
		if (twice)
			return fault_set(fault, "macs", "macs: an address is there twice");
	}
	return true;
}

/* ---- [port NAME] ---- */

static bool port_spec(const char *value, void *arg)
{
	struct port_settings *s = arg;
	const char *colon = strchr(value, ':');

	if (!colon || !colon[1] || !keep(value, s->spec, sizeof(s->spec)))
		return false;
	for (unsigned kind = 0; kind < PORT_KINDS; kind++) {
		size_t len = strlen(port_kind_names[kind]);

		if (len == (size_t)(colon - value) && !strncmp(value, port_kind_names[kind], len)) {
			s->kind = (enum port_kind)kind;
			return true;
		}
	}
	return false;
}

static bool port_netns(const char *value, void *arg)
{
	struct port_settings *s = arg;

	if (value[0] == '/')
		return keep(value, s->netns, sizeof(s->netns));
	return value_name(value, 100) &&
	       snprintf(s->netns, sizeof(s->netns), "/run/netns/%s", value) > 0;
}

static bool port_queues(const char *value, void *arg)
{
	struct port_settings *s = arg;

	return parse_u32(value, 1, WORKER_PORT_QUEUES, &s->queues);
}

static bool port_role(const char *value, void *arg)
{
	static const char *const names[] = {"uplink", "guest"};
	struct port_settings *s = arg;
	unsigned which;

	if (!value_choice(value, names, ARRAY_SIZE(names), &which))
		return false;
	s->config.guest = which == 1;
	return true;
}

static bool port_vlan(const char *value, void *arg)
{
	struct port_settings *s = arg;

	if (!strcmp(value, "none"))
		return true;
	s->config.sw.vlan_mode = VSWITCH_VLAN_ACCESS;
	return parse_u16(value, 1, VSWITCH_VLAN_MAX, &s->config.sw.vlan);
}

static bool port_trunk(const char *value, void *arg)
{
	struct port_settings *s = arg;

	s->config.sw.vlan_mode = VSWITCH_VLAN_TRUNK;
	if (!strcmp(value, "all"))
		return true;
	/* No bit at all would mean every VLAN. */
	return value_vlans(value, s->config.sw.trunk) && value[strcspn(value, "123456789")];
}

static bool port_native(const char *value, void *arg)
{
	struct port_settings *s = arg;

	s->config.sw.native = VSWITCH_NO_NATIVE;
	return !strcmp(value, "none") ||
	       parse_u16(value, 0, VSWITCH_VLAN_MAX, &s->config.sw.native);
}

static bool port_macs(const char *value, void *arg)
{
	struct port_settings *s = arg;

	return parse_macs(value, s->config.sw.macs, VSWITCH_MACS, &s->config.sw.nmacs);
}

static bool port_ips(const char *value, void *arg)
{
	struct port_settings *s = arg;

	return parse_ips(value, s->config.sw.ips, &s->config.sw.nips);
}

static bool port_rate(const char *value, void *arg)
{
	struct port_settings *s = arg;

	return parse_rate(value, &s->config.rate);
}

static bool port_flood(const char *value, void *arg)
{
	struct port_settings *s = arg;

	return !strcmp(value, "none") || parse_u32(value, 1, UINT32_MAX, &s->config.sw.flood_pps);
}

static bool port_unknown(const char *value, void *arg)
{
	struct port_settings *s = arg;
	bool yes;

	if (!value_bool(value, &yes))
		return false;
	s->config.sw.unknown = yes ? VSWITCH_UNKNOWN_YES : VSWITCH_UNKNOWN_NO;
	return true;
}

static const struct setting port_table[] = {
	{"spec", "tap:DEVICE, packet:DEVICE, pcap:FILE[,loop|,write] or null:NAME", port_spec},
	{"netns", "the name or path of a network namespace", port_netns},
	{"queues", "a number from 1 to 8", port_queues},
	{"kind", "uplink or guest", port_role},
	{"vlan", FORM_VLAN, port_vlan},
	{"trunk", "VLANs as 2,5-9, or all", port_trunk},
	{"native", "a number from 0 to 4094, or none", port_native},
	{"macs", "at most 16 unicast addresses as 02:00:00:00:00:01", port_macs},
	{"ips", FORM_IPS, port_ips},
	{"rate", FORM_RATE, port_rate},
	{"flood", FORM_FLOOD, port_flood},
	{"unknown-unicast", "yes or no", port_unknown},
};

bool port_settings_init(struct port_settings *s, const char *name, struct fault *fault)
{
	memset(s, 0, sizeof(*s));
	if (!name_check(name, PORT_NAME_MAX, fault))
		return false;
	(void)snprintf(s->config.name, sizeof(s->config.name), "%s", name);
	s->config.sw.native = VSWITCH_NO_NATIVE;
	s->queues = 1;
	return true;
}

bool port_settings_set(
	struct port_settings *s, const char *key, const char *value, struct fault *fault)
{
	return set(port_table, ARRAY_SIZE(port_table), s, &s->given, key, value, fault);
}

static bool port_given(const struct port_settings *s, const char *key)
{
	return given(port_table, ARRAY_SIZE(port_table), s->given, key);
}

const char *port_settings_rest(const struct port_settings *s)
{
	return strchr(s->spec, ':') + 1;
}

bool port_settings_finish(struct port_settings *s, struct fault *fault)
{
	const struct vswitch_port_config *sw = &s->config.sw;

	if (!s->spec[0])
		return fault_set(fault, "spec", "spec is missing: what the port is, as tap:up0");
	if (s->netns[0] && s->kind != PORT_TAP && s->kind != PORT_PACKET)
		return fault_set(fault, "netns",
			"netns: only tap and packet ports are in a network namespace");
	if (s->queues > 1 && s->kind != PORT_TAP)
		return fault_set(fault, "queues", "queues: only tap ports have several");
	if ((s->kind == PORT_TAP || s->kind == PORT_PACKET) &&
		strlen(port_settings_rest(s)) >= TAP_NAME)
		return fault_set(fault, "spec",
			"spec = %s: a device's name has at most 15 characters", s->spec);
	if (port_given(s, "vlan") && port_given(s, "trunk"))
		return fault_set(fault, "trunk", "vlan and trunk exclude each other");
	if (port_given(s, "native") && !port_given(s, "trunk"))
		return fault_set(fault, "native", "native is for ports with trunk");
	if (s->config.guest && sw->vlan_mode == VSWITCH_VLAN_TRUNK)
		return fault_set(fault, "trunk", "trunk is for uplinks");
	if (s->config.guest && !sw->nmacs)
		return fault_set(
			fault, "macs", "macs is missing: a guest's addresses are configured");
	if (!s->config.guest && (sw->nmacs || sw->nips))
		return fault_set(fault, sw->nmacs ? "macs" : "ips",
			"%s: an uplink's addresses are learned", sw->nmacs ? "macs" : "ips");
	return true;
}
