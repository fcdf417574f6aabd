/* SPDX-License-Identifier: BSD-3-Clause */
/* Values as people write them: all of the text or nothing, and back again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "programs/common/value.h"

static void test_uint(void **state)
{
	static const char *const bad[] = {"", " 1", "1 ", "+1", "-1", "0x10", "1.5",
		"18446744073709551616", "99999999999999999999"};
	uint64_t n;

	(void)state;
	assert_true(value_uint("0", 0, 9, &n));
	assert_int_equal(n, 0);
	assert_true(value_uint("18446744073709551615", 0, UINT64_MAX, &n));
	assert_true(n == UINT64_MAX);
	assert_true(value_uint("007", 1, 9, &n));
	assert_false(value_uint("10", 0, 9, &n));
	assert_false(value_uint("0", 1, 9, &n));
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(value_uint(bad[i], 0, UINT64_MAX, &n));
}

static void test_size(void **state)
{
	static const char *const bad[] = {
		"", "K", "1KB", "1k", "-1K", "17179869184G", "18446744073709551615K"};
	uint64_t n;
	char text[VALUE_TEXT];

	(void)state;
	assert_true(value_size("4096", &n));
	assert_int_equal(n, 4096);
	assert_true(value_size("64M", &n));
	assert_int_equal(n, 64 << 20);
	assert_string_equal(value_size_text(n, text), "64M");
	assert_string_equal(value_size_text(1025, text), "1025");
	assert_string_equal(value_size_text(0, text), "0");
	assert_true(value_size("17179869183G", &n));
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(value_size(bad[i], &n));
}

static void test_mac(void **state)
{
	static const char *const bad[] = {"", "02:00:00:00:00",
		"02:00:00:00:00:01:", "02:00:00:00:00:01:02", "02-00-00-00-00-01", "2:0:0:0:0:1",
		"0g:00:00:00:00:01", "01:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00",
		" 02:00:00:00:00:01", "+2:00:00:00:00:01", "02:00:00:00:00:0"};
	uint8_t mac[6];
	char text[VALUE_TEXT];

	(void)state;
	assert_true(value_mac("02:aB:cd:EF:00:99", mac));
	assert_string_equal(value_mac_text(mac, text), "02:ab:cd:ef:00:99");
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(value_mac(bad[i], mac));
}

static void test_ip(void **state)
{
	static const char *const bad[] = {
		"", "10.0.0", "10.0.0.256", "10.0.0.1/24", "fe80::1%eth0", "::g"};
	struct vswitch_ip ip;
	char text[VALUE_TEXT];

	(void)state;
	assert_true(value_ip("10.1.2.3", &ip));
	assert_int_equal(ip.version, 4);
	assert_string_equal(value_ip_text(&ip, text), "10.1.2.3");
	assert_true(value_ip("FE80::0:1", &ip));
	assert_int_equal(ip.version, 6);
	assert_string_equal(value_ip_text(&ip, text), "fe80::1");
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(value_ip(bad[i], &ip));
}

static void test_uuid(void **state)
{
	char uuid[37];

	(void)state;
	assert_true(value_uuid("2F1C1A0E-7b1d-4f0e-9d55-5d1c0a3c0a01", uuid));
	assert_string_equal(uuid, "2f1c1a0e-7b1d-4f0e-9d55-5d1c0a3c0a01");
	assert_false(value_uuid("2f1c1a0e7b1d-4f0e-9d55-5d1c0a3c0a01-", uuid));
	assert_false(value_uuid("2f1c1a0e-7b1d-4f0e-9d55-5d1c0a3c0a0", uuid));
	assert_false(value_uuid("2f1c1a0e-7b1d-4f0e-9d55-5d1c0a3c0a0x", uuid));
}

static void test_name(void **state)
{
	(void)state;
	assert_true(value_name("web-0_a.b", 9));
	assert_false(value_name("web-0_a.b", 8));
	assert_false(value_name("", 9));
	assert_false(value_name(".", 9));
	assert_false(value_name("..", 9));
	assert_false(value_name("a/b", 9));
	assert_false(value_name("a b", 9));
	assert_false(value_name("\xc3\xa4", 9));
}

static void test_vlans(void **state)
{
	static const char *const bad[] = {"0", "4095", "5-", "-5", "9-5", "1-4095", "1,,x", "a"};
	uint64_t vlans[VSWITCH_VLANS / 64];
	unsigned set = 0;

	(void)state;
	assert_true(value_vlans("2, 63-65,4094", vlans));
	for (unsigned v = 0; v < VSWITCH_VLANS; v++) {
		bool is = vlans[v / 64] >> (v % 64) & 1;

		assert_int_equal(is, v == 2 || (v >= 63 && v <= 65) || v == 4094);
	}
	assert_true(value_vlans("all", vlans));
	for (unsigned i = 0; i < ARRAY_SIZE(vlans); i++)
		set += (unsigned)__builtin_popcountll(vlans[i]);
	assert_int_equal(set, 4094);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(value_vlans(bad[i], vlans));
}

static bool count_each(void *arg, const char *element)
{
	unsigned *n = arg;

	assert_true(strlen(element) > 0 && strlen(element) < VALUE_TEXT);
	return ++*n < 4;
}

static void test_list(void **state)
{
	char longest[VALUE_TEXT + 1];
	unsigned n = 0;

	(void)state;
	assert_true(value_list("a,b  c", count_each, &n));
	assert_int_equal(n, 3);
	n = 0;
	assert_true(value_list("none", count_each, &n) && value_list("", count_each, &n) &&
		    value_list(" ,, ", count_each, &n));
	assert_int_equal(n, 0);
	assert_false(value_list("a b c d e", count_each, &n));
	memset(longest, 'x', VALUE_TEXT);
	longest[VALUE_TEXT] = '\0';
	n = 0;
	assert_false(value_list(longest, count_each, &n));
	assert_true(value_list(longest + 1, count_each, &n));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uint),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_mac),
		cmocka_unit_test(test_ip),
		cmocka_unit_test(test_uuid),
		cmocka_unit_test(test_name),
		cmocka_unit_test(test_vlans),
		cmocka_unit_test(test_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
