/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests on the control socket that are refused before anything is touched: there is no daemon behind them here, so a
 * request that got further would be seen to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "programs/shuntd/verbs.h"

/* The answer to `line` is a refusal with `words` in it, naming `field` (NULL: none). */
static void refused(const char *line, size_t len, const char *field, const char *words)
{
	json_t *answer = verbs_line(NULL, line, len);
	const char *error = json_string_value(json_object_get(answer, "error"));
	const char *which = json_string_value(json_object_get(answer, "field"));

	assert_non_null(answer);
	assert_true(json_is_false(json_object_get(answer, "ok")));
	assert_non_null(error);
	if (!strstr(error, words))
		fail_msg("%s: %s; not: %s", line, error, words);
	if (field)
		assert_string_equal(which, field);
	else
		assert_null(which);
	json_decref(answer);
}

static void refused_text(const char *line, const char *field, const char *words)
{
	refused(line, strlen(line), field, words);
}

static void test_shape(void **state)
{
	(void)state;
	refused_text("", NULL, "not JSON");
	refused_text("{", NULL, "not JSON");
	refused_text("{\"verb\": \"stats\"} x", NULL, "not JSON");
	refused_text("{\"verb\": \"stats\", \"verb\": \"stats\"}", NULL, "not JSON");
	refused_text("[]", "verb", "a request is");
	refused_text("{}", "verb", "a request is");
	refused_text("{\"verb\": 5}", "verb", "a request is");
	refused_text("{\"verb\": \"stats\", \"extra\": 1}", "verb", "a request is");
	refused_text(
		"{\"verb\": \"vif.list\", \"args\": {}, \"extra\": 1}", "verb", "a request is");
	refused_text("{\"verb\": \"vif.frob\"}", "verb", "no such verb");
	refused_text("{\"verb\": \"stats\", \"args\": 5}", "args", "an object");
	refused_text("{\"verb\": \"stats\", \"args\": null}", "args", "an object");
	refused_text(
		"{\"verb\": \"stats\", \"args\": {\"name\": \"a\"}}", "name", "no such argument");
	refused_text("{\"verb\": \"vif.show\"}", "name", "name is missing");
	refused_text("{\"verb\": \"vif.show\", \"args\": {}}", "name", "name is missing");
	refused_text(
		"{\"verb\": \"vif.show\", \"args\": {\"name\": 5}}", "name", "name is missing");
	refused_text("{\"verb\": \"vif.del\", \"args\": {\"name\": \"a\", \"mtu\": 5}}", "mtu",
		"no such argument");
	/* A NUL in a line is no way to hide the rest of it. */
	refused("{\"verb\": \"stats\"}\0", 18, NULL, "not JSON");
}

static void test_settings(void **state)
{
	(void)state;
	refused_text("{\"verb\": \"vif.add\", \"args\": {\"name\": \"../x\"}}", "name",
		"a name has at most");
	refused_text("{\"verb\": \"vif.add\", \"args\": {\"name\": \"control\"}}", "name",
		"uses this name");
	refused_text("{\"verb\": \"vif.add\", \"args\": {\"name\": \"a\", \"mtu\": 5}}", "mtu",
		"mtu = 5: must be");
	refused_text("{\"verb\": \"vif.add\", \"args\": {\"name\": \"a\", \"mtu\": -1}}", "mtu",
		"mtu = -1: must be");
	refused_text("{\"verb\": \"vif.add\", \"args\": {\"name\": \"a\", \"mtu\": 1500.5}}", "mtu",
		"must be a string");
	refused_text("{\"verb\": \"vif.add\", \"args\": {\"name\": \"a\", \"macs\": []}}", "macs",
		"must be a string");
	refused_text("{\"verb\": \"vif.add\", \"args\": {\"name\": \"a\", \"mac\": null}}", "mac",
		"must be a string");
	refused_text("{\"verb\": \"vif.add\", \"args\": {\"name\": \"a\", \"colour\": \"red\"}}",
		"colour", "no such key");
	refused_text("{\"verb\": \"vif.add\", \"args\": {\"name\": \"a\", \"mtu\": true}}", "mtu",
		"mtu = yes: must be");
	refused_text(
		"{\"verb\": \"port.add\", \"args\": {\"name\": \"a\"}}", "spec", "spec is missing");
	refused_text("{\"verb\": \"port.add\", \"args\": {\"name\": \"a\", \"spec\": \"x:y\"}}",
		"spec", "must be tap:");
}

/* Every text, cut short at every byte and with every byte changed, is refused or, if it is still fit, not reached here. */
static void test_damaged(void **state)
{
	static const char line[] =
		"{\"verb\": \"vif.add\", \"args\": {\"name\": \"a\", \"mtu\": 5}}";
	char damaged[sizeof(line)];

	(void)state;
	for (size_t len = 0; len < sizeof(line) - 1; len++)
		refused(line, len, NULL, "not JSON");
	for (size_t at = 0; at < sizeof(line) - 1; at++) {
		static const char with[] = {'\0', '"', '\\', '{', '\xff'};

		for (size_t i = 0; i < sizeof(with); i++) {
			json_t *answer;

			memcpy(damaged, line, sizeof(line));
			damaged[at] = with[i];
			answer = verbs_line(NULL, damaged, sizeof(line) - 1);
			assert_true(json_is_false(json_object_get(answer, "ok")));
			json_decref(answer);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shape),
		cmocka_unit_test(test_settings),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
