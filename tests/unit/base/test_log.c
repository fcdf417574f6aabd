/* SPDX-License-Identifier: BSD-3-Clause */
/* Log lines: who gets them, what is in them, and how many a peer can cause. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"

struct seen {
	unsigned lines;
	enum log_level level;
	char line[1024];
};

static void remember(void *arg, enum log_level level, const char *line)
{
	struct seen *seen = arg;

	seen->lines++;
	seen->level = level;
	(void)snprintf(seen->line, sizeof(seen->line), "%s", line);
}

static void test_sink_and_levels(void **state)
{
	struct seen seen = {0};

	(void)state;
	log_error("nobody listens"); /* must not crash */
	log_to(remember, &seen, LOG_INFO);
	log_info("port %s: %d frames", "web0", 7);
	assert_int_equal(seen.lines, 1);
	assert_int_equal(seen.level, LOG_INFO);
	assert_string_equal(seen.line, "port web0: 7 frames");
	log_debug("too detailed");
	assert_int_equal(seen.lines, 1);
	log_to(remember, &seen, LOG_DEBUG);
	log_debug("now wanted");
	assert_int_equal(seen.lines, 2);
	log_to(remember, &seen, LOG_ERROR);
	log_warn("not wanted");
	assert_int_equal(seen.lines, 2);
	log_error("always");
	assert_int_equal(seen.lines, 3);
	log_to(NULL, NULL, LOG_DEBUG);
	log_error("nobody");
	assert_int_equal(seen.lines, 3);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(log_level_names[LOG_ERROR], "error");
	assert_string_equal(log_level_names[LOG_WARN], "warning");
	assert_string_equal(log_level_names[LOG_INFO], "info");
	assert_string_equal(log_level_names[LOG_DEBUG], "debug");
}

/* What a peer said cannot start a line of its own, nor command a terminal, nor be without end. */
static void test_hostile_text(void **state)
{
	struct seen seen = {0};
	char endless[2000];

	(void)state;
	log_to(remember, &seen, LOG_INFO);
	log_info("key '%s'", "a\n<3>forged\r\x1b[2J\x7f\t\xc3\xa9");
	assert_string_equal(seen.line, "key 'a?<3>forged??[2J??\xc3\xa9'");
	memset(endless, 'x', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = 0;
	log_info("%s", endless);
	assert_int_equal(seen.lines, 2);
	assert_true(strlen(seen.line) < 512);
	log_to(NULL, NULL, LOG_INFO);
}

static void stderr_of(const char *journal, char *text, size_t size)
{
	char program[] = "shuntd";
	FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);
	size_t n;

	assert_non_null(file);
	assert_true(saved >= 0);
	if (journal)
		assert_int_equal(setenv("SHUNT_LOG_JOURNAL", journal, 1), 0);
	else
		assert_int_equal(unsetenv("SHUNT_LOG_JOURNAL"), 0);
	(void)fflush(stderr);
	assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
	log_stderr(program, LOG_WARN, "a line");
	(void)fflush(stderr);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	assert_int_equal(close(saved), 0);
	rewind(file);
	n = fread(text, 1, size - 1, file);
	text[n] = 0;
	(void)fclose(file);
}

static void test_stderr(void **state)
{
	char text[128];

	(void)state;
	stderr_of(NULL, text, sizeof(text));
	assert_string_equal(text, "shuntd: warning: a line\n");
	stderr_of("1", text, sizeof(text));
	assert_string_equal(text, "<4>a line\n");
	assert_int_equal(unsetenv("SHUNT_LOG_JOURNAL"), 0);
}

/* At most `burst` in any second; a new second is a new budget. */
static void test_budget(void **state)
{
	struct log_budget budget = {0};
	unsigned allowed = 0;
	uint64_t first = clock_ns() / CLOCK_SECOND;
	uint64_t seconds;

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		allowed += (unsigned)log_may(&budget, 3);
	seconds = clock_ns() / CLOCK_SECOND - first + 1;
	assert_true(allowed >= 3 && allowed <= 3 * seconds);
	assert_int_equal(budget.suppressed, 1000 - allowed);
	budget.second--; /* as if that had been a second ago */
	assert_true(log_may(&budget, 3));
	assert_false(log_may(&budget, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sink_and_levels),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_hostile_text),
		cmocka_unit_test(test_stderr),
		cmocka_unit_test(test_budget),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
