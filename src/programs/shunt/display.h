/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One writer for all results: JSON as it is, or the same values as text. An object becomes lines of `key  value`, a list of
 * objects a table with the first one's keys as columns, what is in a cell `key=value`; null and nothing are "-".
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* False: no memory, or `out` failed. */
bool display(FILE *out, const json_t *value, bool json);
/* The lines of doctor: a list of {status, what, value, cause, cure}. */
bool display_checks(FILE *out, const json_t *checks);
