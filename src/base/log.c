/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/log.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

const char *const log_level_names[] = {"error", "warning", "info", "debug"};
static_assert(sizeof(log_level_names) / sizeof(log_level_names[0]) == LOG_LEVELS,
	"a level lacks its name");

static log_sink *the_sink;
static void *the_arg;
static enum log_level the_most = LOG_INFO;

void log_to(log_sink *sink, void *arg, enum log_level most)
{
	the_sink = sink;
	the_arg = arg;
	the_most = most;
}

void log_stderr(void *arg, enum log_level level, const char *line)
{
	static const int syslog_priority[LOG_LEVELS] = {3, 4, 6, 7};
	const char *program = arg;

	if (getenv("SHUNT_LOG_JOURNAL"))
		(void)fprintf(stderr, "<%d>%s\n", syslog_priority[level], line);
	else
		(void)fprintf(stderr, "%s: %s: %s\n", program ? program : "shunt",
			log_level_names[level], line);
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[512];
	va_list ap;

	if (!the_sink || level > the_most)
		return;
	va_start(ap, format);
	(void)vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	for (char *c = line; *c; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	}
	the_sink(the_arg, level, line);
}

int log_may(struct log_budget *budget, unsigned burst)
{
	uint64_t second = clock_ns() / CLOCK_SECOND;

	if (second != budget->second) {
		budget->second = second;
		budget->used = 0;
	}
	if (budget->used < burst) {
		budget->used++;
		return 1;
	}
	budget->suppressed++;
	return 0;
}
