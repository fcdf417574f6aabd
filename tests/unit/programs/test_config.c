/* SPDX-License-Identifier: BSD-3-Clause */
/* The configuration file: what it sets, what follows from it, and the line and words of each way to be wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "programs/shuntd/config.h"

static int read_text(
	struct config *config, const char *text, size_t len, struct config_fault *fault)
{
	FILE *file = tmpfile();
	int err;

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	rewind(file);
	err = config_read(config, file, fault);
	(void)fclose(file);
	return err;
}

static void good(struct config *config, const char *text)
{
	struct config_fault fault;
	int err = read_text(config, text, strlen(text), &fault);

	if (err)
		fail_msg("line %u: %s", fault.line, fault.fault.text);
}

static void bad(const char *text, unsigned line, const char *words)
{
	struct config_fault fault;
	struct config config;

	assert_int_equal(read_text(&config, text, strlen(text), &fault), -EINVAL);
	if (fault.line != line || !strstr(fault.fault.text, words))
		fail_msg("line %u: %s; not line %u: %s", fault.line, fault.fault.text, line, words);
	assert_null(config.vifs);
	assert_null(config.ports);
}

static void test_all_keys(void **state)
{
	struct config c;

	(void)state;
	good(&c,
		"# comment\n; comment\n\n[shuntd]\nrun=/tmp/x/\n captures = /srv\nuser= nobody\nworkers=2\ncpus=0,3\n"
		"ageing=10\nlearned=100\njoin-uplinks=yes\nlog=debug\nsandbox=kill\n"
		"[vif a]\r\nuuid = 2f1c1a0e-7b1d-4f0e-9d55-5d1c0a3c0a01\nmac = 02:00:00:00:00:01\nvlan=5\nrate=1000,10\n"
		"macs=02:00:00:00:00:02 02:00:00:00:00:03\nips=10.0.0.1\nowner=0\nmtu=9000\nqueues=4\nmemory=32M\nflood=7\n"
		"unknown-unicast=yes\n"
		"[port p]\nspec=tap:up0\nnetns=blue\nqueues=2\ntrunk=5,7\nnative=9\nrate=none\nflood=8\nunknown-unicast=no\n"
		"[port g]\nspec=null:x\nkind=guest\nvlan=3\nmacs=02:00:00:00:00:04\nips=::1");
	assert_string_equal(c.daemon.run, "/tmp/x");
	assert_string_equal(c.daemon.captures, "/srv");
	assert_string_equal(c.daemon.user, "nobody");
	assert_int_equal(c.daemon.workers, 2);
	assert_int_equal(c.daemon.cpus[1], 3);
	assert_int_equal(c.daemon.ageing, 10);
	assert_int_equal(c.daemon.learned, 100);
	assert_true(c.daemon.join_uplinks);
	assert_int_equal(c.daemon.log, LOG_DEBUG);
	assert_int_equal(c.daemon.sandbox, SANDBOX_KILL);
	assert_int_equal(c.nvifs, 1);
	assert_string_equal(c.vifs[0].config.name, "a");
	assert_string_equal(c.vifs[0].config.uuid, "2f1c1a0e-7b1d-4f0e-9d55-5d1c0a3c0a01");
	assert_int_equal(c.vifs[0].config.mac[5], 1);
	assert_int_equal(c.vifs[0].config.vlan, 5);
	assert_int_equal(c.vifs[0].config.rate.bytes, 1000);
	assert_int_equal(c.vifs[0].config.nmacs, 2);
	assert_int_equal(c.vifs[0].config.macs[1][5], 3);
	assert_int_equal(c.vifs[0].config.nips, 1);
	assert_int_equal(c.vifs[0].config.mtu, 9000);
	assert_int_equal(c.vifs[0].config.queues, 4);
	assert_int_equal(c.vifs[0].config.memory, 32 << 20);
	assert_int_equal(c.vifs[0].config.flood_pps, 7);
	assert_true(c.vifs[0].config.unknown_unicast);
	assert_int_equal(c.nports, 2);
	assert_int_equal(c.ports[0].kind, PORT_TAP);
	assert_string_equal(port_settings_rest(&c.ports[0]), "up0");
	assert_string_equal(c.ports[0].netns, "/run/netns/blue");
	assert_int_equal(c.ports[0].queues, 2);
	assert_int_equal(c.ports[0].config.sw.vlan_mode, VSWITCH_VLAN_TRUNK);
	assert_int_equal(c.ports[0].config.sw.trunk[0], 1 << 5 | 1 << 7);
	assert_int_equal(c.ports[0].config.sw.native, 9);
	assert_int_equal(c.ports[0].config.sw.unknown, VSWITCH_UNKNOWN_NO);
	assert_true(c.ports[1].config.guest);
	assert_int_equal(c.ports[1].config.sw.vlan_mode, VSWITCH_VLAN_ACCESS);
	assert_int_equal(c.ports[1].config.sw.vlan, 3);
	assert_int_equal(c.ports[1].config.sw.nmacs, 1);
	config_free(&c);
}

static void test_defaults(void **state)
{
	static const char *const text =
		"[vif a]\n[vif b]\nuuid=2f1c1a0e-7b1d-4f0e-9d55-5d1c0a3c0a01\n";
	uint8_t mac[6];
	struct config c;

	(void)state;
	good(&c, "\n");
	assert_string_equal(c.daemon.run, "/run/shunt");
	assert_int_equal(c.daemon.workers, 1);
	assert_int_equal(c.daemon.sandbox, SANDBOX_YES);
	config_free(&c);
	good(&c, text);
	assert_int_equal(c.nvifs, 2);
	assert_int_equal(strlen(c.vifs[0].config.uuid), 36);
	assert_int_equal(c.vifs[0].config.uuid[14], '4');
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(c.vifs[i].config.mac[0] & 3, 2);
		assert_int_equal(c.vifs[i].config.mtu, 1500);
		assert_int_equal(c.vifs[i].config.queues, 1);
	}
	assert_memory_not_equal(c.vifs[0].config.mac, c.vifs[1].config.mac, 6);
	/* An address that was left out stays the same as long as the UUID does. */
	memcpy(mac, c.vifs[1].config.mac, 6);
	config_free(&c);
	good(&c, text);
	assert_memory_equal(c.vifs[1].config.mac, mac, 6);
	config_free(&c);
	good(&c, "[shuntd]\ncpus=1 2 3\n");
	assert_int_equal(c.daemon.workers, 3);
	config_free(&c);
}

static void test_bad_lines(void **state)
{
	(void)state;
	bad("a = b\n", 1, "before the first [section]");
	bad("[shuntd]\nrun\n", 2, "neither a [section] nor key = value");
	bad("\n[shuntd\n", 2, "']' is missing");
	bad("[shuntd]\n[shuntd]\n", 2, "twice");
	bad("[shuntd x]\n", 1, "has no name");
	bad("[vifs a]\n", 1, "[vifs]: there is no such section");
	bad("[]\n", 1, "no such section");
	bad("[vif]\n", 1, "a name has at most");
	bad("[vif a b]\n", 1, "a name has at most");
	bad("[vif .a]\n", 1, "a name has at most");
	bad("[vif store]\n", 1, "uses this name itself");
	bad("[vif a]\n[vif b]\n[vif a]\n", 3, "the name a is there twice");
	bad("[port a]\nspec=null:x\n[vif a]\n", 3, "the name a is there twice");
	bad("[vif abcdefghijklmnopqrstuvwxyz012345]\n", 1, "at most 31");
	/* The first of several. */
	bad("[vif a]\nx = 1\ny = 2\n", 2, "x: there is no such key");
}

static void test_bad_values(void **state)
{
	(void)state;
	bad("[shuntd]\nrun=relative\n", 2, "run = relative: must be an absolute path");
	bad("[shuntd]\ncpus=0\nworkers=2\n", 1, "1 CPUs for 2 workers");
	bad("[shuntd]\nlog=loud\n", 2, "must be error, warning, info or debug");
	bad("[shuntd]\nsandbox=maybe\n", 2, "yes, no or kill");
	bad("[vif a]\nmac=\n", 2, "mac = : must be");
	bad("[vif a]\nvlan=0\n", 2, "vlan = 0");
	bad("[vif a]\nmtu=67\n", 2, "mtu = 67");
	bad("[vif a]\nqueues=9\n", 2, "queues = 9");
	bad("[vif a]\nmemory=1K\n", 2, "memory = 1K");
	bad("[vif a]\nips=10.0.0.1,x\n", 2, "ips = 10.0.0.1,x");
	bad("[vif a]\nrate=0,\n", 2, "rate = 0,");
	bad("[vif a]\nmac=02:00:00:00:00:01\nmacs=02:00:00:00:00:01\n", 1,
		"an address is there twice");
	bad("[vif a]\nmacs=02:00:00:00:00:01 02:00:00:00:00:01\n[vif b]\n", 1,
		"an address is there twice");
	bad("[vif a]\nmtu=1500\nmtu=1500\n", 3, "mtu is given twice");
	bad("[port p]\nspec=null\n", 2, "spec = null");
	bad("[port p]\nspec=null:\n", 2, "spec = null:");
	bad("[port p]\nspec=tap:a-name-of-16-chr\n", 1, "at most 15 characters");
	bad("[port p]\nspec=null:x\nnetns=blue\n", 1, "only tap and packet ports");
	bad("[port p]\nspec=null:x\nqueues=2\n", 1, "only tap ports");
	bad("[port p]\nspec=null:x\ntrunk=\n", 3, "trunk = ");
	bad("[port p]\nspec=null:x\ntrunk=none\n", 3, "trunk = none");
	bad("[port p]\nspec=null:x\nnative=5\n", 1, "native is for ports with trunk");
	bad("[port p]\nspec=null:x\nkind=guest\nmacs=02:00:00:00:00:01\ntrunk=all\n", 1,
		"trunk is for uplinks");
	bad("[port p]\nspec=null:x\nmacs=02:00:00:00:00:01\n", 1,
		"macs: an uplink's addresses are learned");
	bad("[port p]\nspec=null:x\nkind=both\n", 3, "uplink or guest");
}

/* Lists have bounds, lines too, and a NUL hides nothing. */
static void test_bounds(void **state)
{
	const size_t longer = 2 * (size_t)CONFIG_LINE;
	char *text = malloc(longer + 64);
	struct config_fault fault;
	struct config c;
	size_t len;

	(void)state;
	assert_non_null(text);
	len = (size_t)sprintf(text, "[vif a]\nmacs=");
	for (unsigned i = 0; i < 15; i++)
		len += (size_t)sprintf(text + len, "02:00:00:00:01:%02x,", i);
	good(&c, text);
	assert_int_equal(c.vifs[0].config.nmacs, 15);
	config_free(&c);
	(void)sprintf(text + len, "02:00:00:00:02:00\n");
	bad(text, 2, "at most 15");

	len = (size_t)sprintf(text, "[vif a]\nips=");
	for (unsigned i = 0; i < 33; i++)
		len += (size_t)sprintf(text + len, "10.0.0.%u ", i);
	bad(text, 2, "at most 32");

	len = (size_t)sprintf(text, "[vif a]\n#");
	memset(text + len, 'x', longer);
	text[len + longer] = '\0';
	bad(text, 2, "longer than");

	memcpy(text, "[vif a]\nmtu=1500\0\nx=1\n", 22);
	assert_int_equal(read_text(&c, text, 22, &fault), -EINVAL);
	assert_int_equal(fault.line, 2);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_keys),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
