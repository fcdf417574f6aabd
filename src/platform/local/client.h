/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The local platform as a guest process has it: a connection to the socket of a vif (wire.h), and through it all of
 * struct platform_ops.
 *
 * Requests are made one at a time and wait for their reply, bounded by a time limit; one that is not met, or a reply
 * that makes no sense, ends the connection, and from then on every operation fails with -ENOTCONN. Event channels and
 * the entries of the grant table need no request. view is always NULL: other domains' memory is reached by copy, or by
 * map where a whole region was made for sharing.
 *
 * A guest trusts its hypervisor with its memory. It checks what it is sent for size and sense, not for intent.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "platform/platform.h"

enum { LOCAL_TIMEOUT_SECONDS = 5 };

/*
 * Connect and become a domain. `timeout_ns` bounds this and each later request; 0 is LOCAL_TIMEOUT_SECONDS. On failure
 * why[size] (may be NULL) gets the host's reason or what failed.
 * -ECONNREFUSED, -ENOENT, -ETIMEDOUT, -EPROTO (it is not the protocol that is spoken there), what the host answered.
 */
int local_connect(struct platform **out, const char *socket_path, uint64_t timeout_ns, char *why,
	size_t size);

/* The store directory of the vif's front end: "/local/domain/7/device/vif/0". Valid until close. */
const char *local_device(struct platform *platform);

/* As region_add, and other guests may map the region, whole, when they are granted all of it. */
int local_region_share(struct platform *platform, struct shunt_region *region);
