/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The granter's side of a grant table on the local platform: who may have which reference, and writing entries.
 * The table itself is a region that the local hypervisor made; it reads what is written here and believes nothing.
 * References are given out in consecutive runs, first fit, from a private bitmap.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "platform/platform.h"

enum {
	GRANT_TABLE_BYTES = 64 * 1024, /* 8192 version 1 entries, or 4096 of version 2 */
	GRANT_ENTRIES = GRANT_TABLE_BYTES / 8,
	GRANT_RESERVED = 8, /* as in Xen: GNTTAB_NR_RESERVED_ENTRIES */
};

struct grant_table {
	_Atomic uint64_t *entries;
	uint64_t used[GRANT_ENTRIES / 64];
	uint32_t hint;
};

void grant_table_init(struct grant_table *table, void *entries);

/* Grant frames frame .. frame + n - 1 to a domain. -ENOSPC, -EINVAL (n 0). */
int grant_table_grant(struct grant_table *table, domid_t to, uint32_t frame, unsigned n,
	bool readonly, grant_ref_t *first);

/* -EBUSY: one of them is mapped by the grantee (GTF_reading, GTF_writing); none was revoked. -EINVAL: never granted. */
int grant_table_revoke(struct grant_table *table, grant_ref_t first, unsigned n);

/* Revoke every grant of frames frame .. frame + n - 1, of which none may be mapped any more. */
void grant_table_revoke_frames(struct grant_table *table, uint32_t frame, uint32_t n);
