/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The local hypervisor: domains that are processes, their grant tables, regions, event channels and store. No sockets
 * and no guests' messages here: server.h brings those, hv_platform.h is the host's own way in.
 *
 * Domain 0 is the host and lives as long as the hypervisor. A guest is a domain that was created with a memory limit;
 * its regions, their number, its event channels and its mappings are all bounded. What a guest gets wrong is refused
 * with a negative errno, one of the named reasons, and a counter of that guest's.
 *
 * A struct hv and all that is in it belong to one thread, except what a struct grant_view shows, which any thread
 * reads until the domain is gone. Memory leaves a domain in three steps: it vanishes from the view, `quiesce` returns
 * when no other thread can still hold an address out of it, the region is put.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "platform/platform.h"

struct hv;
struct store;

enum {
	HV_DOMAINS_END = 0x7FF0, /* first reserved id: DOMID_FIRST_RESERVED */
	HV_REGIONS_MAX = 128,    /* of a guest */
	HV_EVTCHNS_MAX = 128,    /* of a guest */
	HV_SHARES_MAX = 64,      /* regions of others that a guest has mapped */
	HV_SHARE_PAGES = 1024,   /* of one such region */
};

enum {
	/* Other guests may map this region, as a whole. */
	HV_REGION_SHARED = 1u << 0,
};

/* Why something was refused. Each domain counts each. */
enum hv_refusal {
	HV_NO_DOMAIN,
	HV_MEMORY_LIMIT,
	HV_REGION_LIMIT,
	HV_NO_FRAMES,
	HV_NO_REGION,
	HV_REGION_BUSY,
	HV_BAD_FLAGS,
	HV_BAD_REGION,
	HV_BAD_COUNT,
	HV_BAD_REF,
	HV_NOT_GRANTED,
	HV_READ_ONLY,
	HV_BAD_FRAME,
	HV_ENTRY_CHANGING,
	HV_PIN_LIMIT,
	HV_CROSSES_PAGE,
	HV_NOT_WHOLE,
	HV_NOT_SHARED,
	HV_NOT_SEALED,
	HV_SHARE_LIMIT,
	HV_NO_SHARE,
	HV_EVTCHN_LIMIT,
	HV_NO_EVTCHN,
	HV_EVTCHN_NOT_YOURS,
	HV_EVTCHN_BOUND,
	HV_STORE_LIMIT,
	HV_REFUSALS
};

extern const char *const hv_refusal_names[HV_REFUSALS];

/* Wait until no other thread holds an address that it had from a view. Must not call back into the hypervisor. */
typedef void hv_quiesce_fn(void *arg);

/* -ENOMEM, -EMFILE. `host_memory` limits domain 0's regions, in bytes. `quiesce` may be NULL: there is one thread. */
int hv_new(struct hv **out, size_t host_memory, hv_quiesce_fn *quiesce, void *arg);
/* Destroys every domain. Platforms, servers and mappings must be gone. NULL is allowed. */
void hv_free(struct hv *hv);

struct store *hv_store(struct hv *hv);

/* One fd, readable while the store has something to deliver, and what delivers it (to in-process platforms' queues and
 * to guests' connections alike). Callbacks do not run from anywhere else. */
int hv_fd(const struct hv *hv);
void hv_process(struct hv *hv);

/* Ids go up from 1 and come round late. The domain is introduced to the store. -ENOSPC: no id is free; -ENOMEM,
 * -EINVAL (limit 0 or above 1 TiB), -EMFILE. */
int hv_domain_create(struct hv *hv, size_t memory_limit, domid_t *domid);
/* Tells everyone in the list below, in order; then takes its store nodes, grants, memory and event channels down.
 * A mapping that somebody still holds keeps its memory until it is unmapped. Nothing for domain 0 or none. */
void hv_domain_destroy(struct hv *hv, domid_t domid);
bool hv_domain_exists(const struct hv *hv, domid_t domid);

/* `fn` runs from hv_domain_destroy() while the domain's memory can still be reached; it must stop using it, and may
 * unmap, close channels, close platforms and remove itself. (Elsewhere: a watch on the store's "@releaseDomain".)
 * -ENOMEM. */
int hv_on_domain_gone(struct hv *hv, domain_gone_fn *fn, void *arg);
void hv_off_domain_gone(struct hv *hv, domain_gone_fn *fn, void *arg);

/* Refusals on the account of a domain: what it asked for, and what the host asked of it. */
uint64_t hv_refused(const struct hv *hv, domid_t domid, enum hv_refusal which);
/* The reason for the last refusal, or "" if there was none since this was last asked. */
const char *hv_why(struct hv *hv);
/* For callers that check something themselves: counts, and returns `error`. */
int hv_refuse(struct hv *hv, domid_t domid, enum hv_refusal which, int error);

/* The domain's grant table, GRANT_TABLE_BYTES; the hypervisor's reference. NULL: no such domain. */
struct shunt_region *hv_grant_region(struct hv *hv, domid_t domid);
/* Bytes in regions that the domain has added. */
size_t hv_memory_used(const struct hv *hv, domid_t domid);

/* Gives the region's pages consecutive frame numbers, and takes a reference. Every page must be writable here.
 * -EINVAL, -EDQUOT (memory limit, number of regions), -ENOSPC (no run of frames), -ESRCH, -ENOMEM. */
int hv_region_add(
	struct hv *hv, domid_t domid, struct shunt_region *region, unsigned flags, uint32_t *first);
/* Named by its first frame. -ENOENT, -EBUSY (a page is mapped), -ESRCH. */
int hv_region_del(struct hv *hv, domid_t domid, uint32_t first);
/* A page of the domain's own, NULL if it has no such frame. */
uint8_t *hv_frame(struct hv *hv, domid_t domid, uint32_t frame);

/*
 * Grants. Errors common to all: -ESRCH (no such domain), -EINVAL (reference or count out of range), -EACCES (not
 * granted to this domain, or for reading only), -EFAULT (the frame is none of the granter's), -EAGAIN (the granter
 * keeps changing the entry), -EMFILE (mapped too often), -ENOMEM.
 */

/* Up to 16 pages, contiguous, in this process. While mapped the entries have GTF_reading (and GTF_writing). */
int hv_map(struct hv *hv, domid_t grantee, domid_t from, const grant_ref_t *refs, unsigned n,
	bool readonly, struct grant_map *map);
void hv_unmap(struct grant_map *map);

/* As platform_ops.copy. Also -ERANGE: a piece crosses its page. */
int hv_copy(struct hv *hv, domid_t caller, struct grant_copy *pieces, unsigned n);

/* What `grantee` may reach of `from`, by address; valid until `from` is gone. NULL: no such domain, no memory. */
const struct grant_view *hv_view(struct hv *hv, domid_t grantee, domid_t from);

/*
 * A mapping for another process: a whole region that was made for sharing, whose pages the references name in order.
 * *fd is the caller's: opened for reading only if `readonly`, which the region's seal and mode must enforce
 * (F_SEAL_FUTURE_WRITE, no write bits). *handle gives it back; death of the grantee does too.
 * -EPERM: not whole, not made for sharing, not sealed.
 */
int hv_share(struct hv *hv, domid_t grantee, domid_t from, const grant_ref_t *refs, unsigned n,
	bool readonly, uint32_t *handle, int *fd);
int hv_unshare(struct hv *hv, domid_t grantee, uint32_t handle); /* -ENOENT */

/*
 * Event channels. Each end is one fd of a non-blocking stream socket pair and belongs to the caller; `port` is the
 * caller's number for it. Until `remote` has bound its end, and only it may, the hypervisor keeps it.
 * -ESRCH, -EDQUOT, -EMFILE, -ENOMEM.
 */
int hv_evtchn_alloc(struct hv *hv, domid_t domid, domid_t remote, evtchn_port_t *port, int *fd);
/* -ENOENT (no such port), -EACCES (made for another domain), -EBUSY (bound already). */
int hv_evtchn_bind(struct hv *hv, domid_t domid, domid_t remote, evtchn_port_t remote_port,
	evtchn_port_t *port, int *fd);
/* The number is free again; an end that was not bound yet is closed. The caller closes its own fd. -ENOENT. */
int hv_evtchn_close(struct hv *hv, domid_t domid, evtchn_port_t port);

/*
 * The platform of one domain in this process: the host's, or a test's. Its regions are added without HV_REGION_SHARED;
 * hv_platform_share() adds one with it. When the domain is destroyed, operations fail with -ENOTCONN, peers of its
 * event channels see them hang up, and close is still the caller's to call. -ESRCH, -ENOMEM, -EMFILE.
 */
int hv_platform_new(struct platform **out, struct hv *hv, domid_t domid);
int hv_platform_share(struct platform *platform, struct shunt_region *region);
