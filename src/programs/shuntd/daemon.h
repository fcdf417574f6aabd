/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shuntd as a whole: what it is made of, in the order in which it is made, and what can be done to it. The two roles of
 * the local platform meet here only: the hypervisor (hv, server) and the host, which uses it through `platform`.
 */
#pragma once

#include <time.h>

#include "programs/shuntd/config.h"
#include "programs/shuntd/opener.h"

struct daemon {
	const struct daemon_settings *settings;
	struct opener *opener;
	struct hv *hv;
	struct hv_server *server;
	struct platform *platform; /* domain 0's */
	struct vswitch *sw;
	struct workers *workers;
	struct host *host;
	int control_fd; /* listening; taken by whoever serves it, who sets it to -1 */
	time_t started;
	bool stop; /* asked for: the loop ends */
};

/*
 * Everything up to an empty switch, and the sockets control.sock and store.sock. The opener is the caller's. Says what
 * went wrong in the log. -errno; daemon_close is due in any case.
 */
int daemon_open(struct daemon *d, const struct daemon_settings *settings, struct opener *opener);
void daemon_close(struct daemon *d);

/* Each: false, and what was wrong. A `field` in *fault says that the request was, not the state of things. */
bool daemon_vif_add(struct daemon *d, const struct vif_settings *settings, struct fault *fault);
bool daemon_vif_del(struct daemon *d, struct vif *vif, struct fault *fault);
/* `settings` is the whole of the new configuration, made from the old one. */
bool daemon_vif_set(struct daemon *d, struct vif *vif, const struct vif_settings *settings,
	struct fault *fault);
bool daemon_port_add(struct daemon *d, const struct port_settings *settings, struct fault *fault);
