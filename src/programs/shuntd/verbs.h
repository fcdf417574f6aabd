/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The verbs of the control socket. Each is one entry of a table: its arguments are checked against it before it runs, and
 * what it gives back is a JSON value. Arguments of add and set are the keys of the configuration file; their values may be
 * strings, integers or booleans.
 */
#pragma once

#include <jansson.h>

#include "programs/shuntd/daemon.h"

/* One line of a client's, not trusted. Returns the whole answer, the caller's; NULL: no memory. */
json_t *verbs_line(struct daemon *d, const char *line, size_t len);
/* {"ok": false, ...}; no field if it is "". */
json_t *verbs_error(const char *field, const char *text);
