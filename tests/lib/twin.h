/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The test twin: a hypervisor and the platforms of all its domains in one process and one thread, where nothing happens
 * unless the test makes it happen, any call can be made to fail, and any bit that a peer wrote can be flipped.
 *
 * Domain 0 is the host; guests have the ids 1, 2, … Each guest owns /local/domain/<id> in the store.
 */
#pragma once

#include <stdint.h>

#include "platform/local/hv.h"

enum twin_op {
	TWIN_REGION_ADD,
	TWIN_REGION_DEL,
	TWIN_GRANT,
	TWIN_REVOKE,
	TWIN_MAP,
	TWIN_COPY,
	TWIN_EVTCHN_ALLOC,
	TWIN_EVTCHN_BIND,
	TWIN_EVTCHN_NOTIFY, /* a failure is an event that is lost */
	TWIN_STORE_READ,
	TWIN_STORE_WRITE,
	TWIN_STORE_RM,
	TWIN_STORE_LIST,
	TWIN_STORE_CHMOD,
	TWIN_STORE_BEGIN,
	TWIN_STORE_END,
	TWIN_STORE_WATCH,
	TWIN_OPS
};

struct twin;

enum { TWIN_MEMORY = 64 << 20 }; /* each domain's limit, bytes */

/* `guests` up to 15. NULL: no memory. */
struct twin *twin_new(unsigned guests);
/* The test has closed, unmapped and deleted what it made, or lets it be closed here. */
void twin_free(struct twin *twin);

struct hv *twin_hv(struct twin *twin);
struct platform *twin_platform(struct twin *twin, domid_t domid);

/* The nth call of `op` by `domid` from now on (1: the next) fails with `error` (negative errno), once. 0: none will. */
void twin_fail(struct twin *twin, domid_t domid, enum twin_op op, unsigned nth, int error);
/* How often it was called, failures included. */
unsigned twin_calls(const struct twin *twin, domid_t domid, enum twin_op op);

/* Flip bits of a domain's grant entry, or of one byte of a store value (-ENOENT, -ERANGE). */
void twin_flip_grant(struct twin *twin, domid_t domid, grant_ref_t ref, uint64_t bits);
int twin_flip_store(struct twin *twin, const char *path, unsigned offset, uint8_t bits);

/* Let every live domain process its events, in the order of their ids, until there are none left.
 * Returns the number of rounds, -ELOOP if they did not end within 100. */
int twin_run(struct twin *twin);

/* The domain dies. Its platform stays the twin's; every operation on it fails. */
void twin_kill(struct twin *twin, domid_t domid);

/* How many fds this process has open. */
unsigned twin_fds(void);
