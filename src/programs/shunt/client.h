/* SPDX-License-Identifier: BSD-3-Clause */
/* The other end of shuntd's control socket: one request, one answer. src/programs/shuntd/control.h has the protocol. */
#pragma once

#include <jansson.h>

#include "programs/common/exit.h"

enum { CLIENT_PATIENCE = 30 /* s */ };

struct client_error {
	char text[512];
	char cure[256]; /* "" if there is none */
};

/*
 * Ask shuntd for `verb` with `args` (an object, or NULL; taken over). EXIT_OK: *result is the caller's, NULL if there is
 * nothing to say. EXIT_REFUSED, EXIT_BAD (an argument is wrong), EXIT_UNREACHABLE: *error says why.
 */
enum exit_code client_ask(const char *socket_path, const char *verb, json_t *args, json_t **result,
	struct client_error *error);
