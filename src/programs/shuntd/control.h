/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket: one JSON object a line, both ways.
 *
 *	{"verb": "vif.add", "args": {"name": "web0", "vlan": "5"}}
 *	{"ok": true, "result": ...}
 *	{"ok": false, "error": "vlan = x: must be ...", "field": "vlan"}
 *
 * Only root and the user that shuntd runs as are served. A line is at most CONTROL_LINE bytes; there are at most
 * CONTROL_CLIENTS clients; one that leaves its reply unread for CONTROL_PATIENCE seconds is dropped, and its next request
 * waits until the last reply is read.
 */
#pragma once

#include <event2/event.h>

#include "programs/shuntd/daemon.h"

enum {
	CONTROL_LINE = 65536,
	CONTROL_CLIENTS = 32,
	CONTROL_PATIENCE = 5,
};

struct control;

/* Takes the daemon's control_fd. -ENOMEM. */
int control_new(struct control **out, struct event_base *base, struct daemon *d);
/* Closes every connection. NULL is allowed. */
void control_free(struct control *control);
