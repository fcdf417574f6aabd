/* SPDX-License-Identifier: BSD-3-Clause */
/* What can be looked at without shuntd: the kernel, the machine, the run directory. */
#pragma once

#include <jansson.h>

/* One more line: {status, what, value, cause, cure}; cause and cure may be NULL. */
void doctor_check(json_t *list, const char *status, const char *what, const char *value,
	const char *cause, const char *cure);

/* Append what was found. `socket_path` tells where the run directory is. */
void doctor_machine(json_t *list, const char *socket_path);
