/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Log lines. The library logs through one callback that its program sets; without one, lines go nowhere.
 *
 * A line about a peer names the peer, what it did and the bound that it broke, and is rate-limited by the caller
 * through a budget: a hostile peer must not be able to fill a disk (log_may). Control characters in a line become
 * '?': what a peer said must not be able to start a line of its own.
 */
#pragma once

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_LEVELS };

extern const char *const log_level_names[LOG_LEVELS];

typedef void log_sink(void *arg, enum log_level level, const char *line);

/* Set the sink and the most detailed level it gets. Not thread-safe: call before threads start.
 * The sink itself may be called from any thread. */
void log_to(log_sink *sink, void *arg, enum log_level most);

/* A ready-made sink: standard error, journald's "<N>" prefix when SHUNT_LOG_JOURNAL is set. */
void log_stderr(void *arg, enum log_level level, const char *line);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* A budget of lines for one subject: true if a line may be written now (at most `burst` in any second).
 * Not thread-safe; one per owner. */
struct log_budget {
	uint64_t second;
	unsigned used;
	uint64_t suppressed;
};
int log_may(struct log_budget *budget, unsigned burst);
