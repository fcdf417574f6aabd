/* SPDX-License-Identifier: BSD-3-Clause */
#include "platform/local/grant_table.h"

#include <string.h>

void grant_table_init(struct grant_table *table, void *entries)
{
	memset(table, 0, sizeof(*table));
	table->entries = entries;
	table->used[0] = (1u << GRANT_RESERVED) - 1;
}

static bool ref_used(const struct grant_table *table, uint32_t ref)
{
	return table->used[ref / 64] >> (ref % 64) & 1;
}

static void ref_set(struct grant_table *table, uint32_t ref, bool used)
{
	uint64_t bit = 1ull << (ref % 64);

	if (used)
		table->used[ref / 64] |= bit;
	else
		table->used[ref / 64] &= ~bit;
}

/* The first run of n free references at or after `from`, GRANT_ENTRIES if none. */
static uint32_t find_run(const struct grant_table *table, uint32_t from, unsigned n)
{
	uint32_t run = 0;

	for (uint32_t ref = from; ref < GRANT_ENTRIES; ref++) {
		run = ref_used(table, ref) ? 0 : run + 1;
		if (run == n)
			return ref + 1 - n;
	}
	return GRANT_ENTRIES;
}

int grant_table_grant(struct grant_table *table, domid_t to, uint32_t frame, unsigned n,
	bool readonly, grant_ref_t *first)
{
	uint32_t at;

	if (n == 0)
		return -EINVAL;
	at = find_run(table, table->hint, n);
	if (at == GRANT_ENTRIES)
		at = find_run(table, 0, n);
	if (at == GRANT_ENTRIES)
		return -ENOSPC;
	for (unsigned i = 0; i < n; i++) {
		uint64_t entry = GTF_permit_access | (readonly ? GTF_readonly : 0) |
				 (uint64_t)to << 16 | (uint64_t)(frame + i) << 32;

		ref_set(table, at + i, true);
		atomic_store_explicit(&table->entries[at + i], entry, memory_order_release);
	}
	table->hint = at + n;
	*first = at;
	return 0;
}

int grant_table_revoke(struct grant_table *table, grant_ref_t first, unsigned n)
{
	if (first < GRANT_RESERVED || first > GRANT_ENTRIES || n > GRANT_ENTRIES - first)
		return -EINVAL;
	for (unsigned i = 0; i < n; i++) {
		if (!ref_used(table, first + i))
			return -EINVAL;
		if (atomic_load_explicit(&table->entries[first + i], memory_order_acquire) &
			(GTF_reading | GTF_writing))
			return -EBUSY;
	}
	for (unsigned i = 0; i < n; i++) {
		atomic_store_explicit(&table->entries[first + i], 0, memory_order_release);
		ref_set(table, first + i, false);
	}
	if (first < table->hint)
		table->hint = first;
	return 0;
}

void grant_table_revoke_frames(struct grant_table *table, uint32_t frame, uint32_t n)
{
	for (uint32_t ref = GRANT_RESERVED; ref < GRANT_ENTRIES; ref++) {
		uint64_t entry;

		if (!ref_used(table, ref))
			continue;
		entry = atomic_load_explicit(&table->entries[ref], memory_order_relaxed);
		if ((uint32_t)(entry >> 32) - frame >= n)
			continue;
		atomic_store_explicit(&table->entries[ref], 0, memory_order_release);
		ref_set(table, ref, false);
		if (ref < table->hint)
			table->hint = ref;
	}
}
