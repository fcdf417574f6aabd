/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The platform: what a hypervisor gives a domain. Grants, event channels, a store, and the news that a domain died.
 *
 * A struct platform is one domain's view: the guest's, the host's, a test's. Nothing above this room knows which
 * hypervisor there is. Unless it says otherwise an operation belongs to the thread that owns the platform (the control
 * thread); grant_page, evtchn_notify and evtchn_consume are for any one thread that owns the queue they serve.
 *
 * Grants are Xen's (public/grant_table.h, version 1 entries): the granter writes an entry in its own table, the
 * grantee names it by (domain, reference). The grantee believes nothing in it: see grant_page.
 */
#pragma once

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>

#include <xen/event_channel.h>
#include <xen/grant_table.h>

#include <shunt/region.h>

#include "base/util.h"

struct platform;
struct store_watch;

enum { PLATFORM_PATH_MAX = 256, PLATFORM_VALUE_MAX = 4096 };

/*
 * One domain's memory as another domain's back end reaches it per packet, where the platform can reach it by address.
 * The granter writes `entries` at any time; `frames` is the platform's own list of what backs each frame number.
 */
struct grant_view {
	_Atomic uint64_t *entries;  /* grant_entry_v1_t: flags | domid << 16 | frame << 32 */
	_Atomic(uint8_t *) *frames; /* one per page, NULL where there is none */
	uint32_t nentries;
	uint32_t nframes;
	uint32_t
		want; /* what the low half of an entry must be: GTF_permit_access | grantee << 16 */
};

/* Bits of an entry's low half that do not decide about access (GRANT-BITS). */
#define GRANT_IGNORED (GTF_reading | GTF_writing | GTF_PWT | GTF_PCD | GTF_PAT)

/*
 * The page behind a grant, NULL if it was not granted (for writing, if `write`). The entry is read once. The address
 * stays valid until the domain's memory is taken down, which every user acknowledges, not until the grant is revoked:
 * a guest that revokes too early hurts only its own data (GRANT-PIN).
 */
static inline uint8_t *grant_page(const struct grant_view *view, grant_ref_t ref, bool write)
{
	uint64_t entry;
	uint32_t frame;

	if (unlikely(ref >= view->nentries))
		return NULL;
	entry = atomic_load_explicit(&view->entries[ref], memory_order_relaxed);
	frame = (uint32_t)(entry >> 32);
	if (unlikely(((uint32_t)entry & ~(uint32_t)(GRANT_IGNORED | (write ? 0 : GTF_readonly))) !=
		     view->want) ||
		unlikely(frame >= view->nframes))
		return NULL;
	return atomic_load_explicit(&view->frames[frame], memory_order_relaxed);
}

/* Granted pages mapped for longer: rings. Filled by map, given back by unmap. */
struct grant_map {
	void *addr; /* contiguous */
	unsigned pages;
	domid_t from;
	bool readonly;
	grant_ref_t refs[16];
	void *impl;
};

/* One piece of a grant copy. Exactly one of the two sides is foreign, the other is the caller's own memory. */
struct grant_copy {
	domid_t from; /* the granter */
	grant_ref_t ref;
	uint16_t offset; /* in the granted page */
	uint16_t len;
	void *local;
	bool to_grant;  /* local -> grant */
	int16_t status; /* out: 0 or negative errno */
};

/* One end of an event channel. `fd` becomes readable when the other end notifies, and hangs up when it is gone. */
struct evtchn {
	const struct platform_ops *ops;
	struct platform *platform;
	int fd;
	evtchn_port_t port;
};

typedef void platform_watch_fn(void *arg, const char *path);
typedef void domain_gone_fn(void *arg, domid_t domain);

struct platform_ops {
	const char *kind;

	/* Memory: make a region's pages grantable; take it back, and with it all grants of its pages (-EBUSY while any page
	 * is mapped by somebody: nothing was taken back). */
	int (*region_add)(struct platform *p, struct shunt_region *region);
	int (*region_del)(struct platform *p, struct shunt_region *region);

	/* Grant n consecutive pages of a region: *first .. *first + n - 1. -ENOSPC: the table is full. */
	int (*grant)(struct platform *p, domid_t to, struct shunt_region *region, uint32_t page,
		unsigned n, bool readonly, grant_ref_t *first);
	/* No new use of the grants. -EBUSY: some are mapped, none was revoked. */
	int (*revoke)(struct platform *p, grant_ref_t first, unsigned n);

	int (*map)(struct platform *p, domid_t from, const grant_ref_t *refs, unsigned n,
		bool readonly, struct grant_map *map);
	void (*unmap)(struct platform *p, struct grant_map *map);
	/* Returns 0 if all went well; each piece has its own status. */
	int (*copy)(struct platform *p, struct grant_copy *pieces, unsigned n);
	int (*transfer)(struct platform *p, domid_t to, struct shunt_region *region,
		uint32_t page); /* -EOPNOTSUPP */
	/* NULL where granted memory cannot be reached by address. Valid until the domain is gone. */
	const struct grant_view *(*view)(struct platform *p, domid_t from);

	struct evtchn *(*evtchn_alloc)(struct platform *p, domid_t remote); /* NULL, errno set */
	struct evtchn *(*evtchn_bind)(
		struct platform *p, domid_t remote, evtchn_port_t remote_port);
	void (*evtchn_close)(struct evtchn *channel);
	void (*evtchn_notify)(struct evtchn *channel);
	/* Take what was notified. Returns how much work that looked like, at least 1 if anything; -EPIPE: the other end
	 * is gone. Bounded. */
	int (*evtchn_consume)(struct evtchn *channel);

	/* The store. tx 0: outside a transaction. read: the value's length, the value cut and NUL-terminated in buf.
	 * list: names separated by NULs in buf, the number of names. */
	int (*store_read)(
		struct platform *p, uint32_t tx, const char *path, char *buf, size_t size);
	int (*store_write)(struct platform *p, uint32_t tx, const char *path, const char *value);
	int (*store_rm)(struct platform *p, uint32_t tx, const char *path);
	int (*store_list)(
		struct platform *p, uint32_t tx, const char *path, char *buf, size_t size);
	/* Owner and the access everybody has ('n', 'r', 'w', 'b'), and one more domain's access if `access` is not 0. */
	int (*store_chmod)(struct platform *p, uint32_t tx, const char *path, domid_t owner,
		char others, domid_t domain, char access);
	int (*store_begin)(struct platform *p, uint32_t *tx);
	int (*store_end)(struct platform *p, uint32_t tx, bool commit); /* -EAGAIN: start again */
	struct store_watch *(*store_watch)(
		struct platform *p, const char *path, platform_watch_fn *fn, void *arg);
	void (*store_unwatch)(struct store_watch *watch);

	/* One fd to wait on for everything that `process` handles (store events, deaths), or -1. */
	int (*fd)(struct platform *p);
	/* Deliver what is pending: watch callbacks run from here only. 0, or -ENOTCONN: the hypervisor is gone. */
	int (*process)(struct platform *p);
	void (*close)(struct platform *p);
};

struct platform {
	const struct platform_ops *ops;
	domid_t domid;
};

static inline void evtchn_notify(struct evtchn *channel)
{
	channel->ops->evtchn_notify(channel);
}

static inline int evtchn_consume(struct evtchn *channel)
{
	return channel->ops->evtchn_consume(channel);
}

/* Store helpers over the operations. Paths are DIR "/" KEY; -ENAMETOOLONG when they do not fit. */
int store_printf(struct platform *p, uint32_t tx, const char *dir, const char *key,
	const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The value as it is: its length or a negative errno. */
int store_gets(
	struct platform *p, uint32_t tx, const char *dir, const char *key, char *buf, size_t size);
/* A whole decimal number, nothing else, in [0, max]. -ENOENT, -EINVAL, -ERANGE. */
int store_get_uint(struct platform *p, uint32_t tx, const char *dir, const char *key, uint64_t max,
	uint64_t *value);
/* A number, or `otherwise` when the key is absent or not a number. */
uint64_t store_get_uint_or(
	struct platform *p, const char *dir, const char *key, uint64_t max, uint64_t otherwise);
int store_rm_key(struct platform *p, uint32_t tx, const char *dir, const char *key);
