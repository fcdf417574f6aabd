/* SPDX-License-Identifier: BSD-3-Clause */
#include "platform/local/hv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "platform/local/grant_table.h"
#include "platform/local/store.h"
#include "platform/local/wire.h"

static_assert(HV_DOMAINS_END == DOMID_FIRST_RESERVED, "reserved domain ids");

#define MEMORY_LIMIT_MAX ((size_t)1 << 40)

/* Twice as many frame numbers as pages, so that regions of different sizes find a run. */
#define FRAMES_PER_PAGE  2

/* A granter that changes its entry this often while it is being mapped is refused. */
#define PIN_TRIES        4

const char *const hv_refusal_names[] = {
	[HV_NO_DOMAIN] = "no-such-domain",
	[HV_MEMORY_LIMIT] = "memory-limit",
	[HV_REGION_LIMIT] = "too-many-regions",
	[HV_NO_FRAMES] = "no-run-of-frames",
	[HV_NO_REGION] = "no-such-region",
	[HV_REGION_BUSY] = "region-is-mapped",
	[HV_BAD_FLAGS] = "unknown-flags",
	[HV_BAD_REGION] = "bad-region-fd",
	[HV_BAD_COUNT] = "bad-number-of-pages",
	[HV_BAD_REF] = "grant-ref-out-of-range",
	[HV_NOT_GRANTED] = "not-granted",
	[HV_READ_ONLY] = "granted-read-only",
	[HV_BAD_FRAME] = "frame-not-backed",
	[HV_ENTRY_CHANGING] = "grant-entry-changing",
	[HV_PIN_LIMIT] = "mapped-too-often",
	[HV_CROSSES_PAGE] = "copy-crosses-page",
	[HV_NOT_WHOLE] = "not-a-whole-region",
	[HV_NOT_SHARED] = "region-not-made-for-sharing",
	[HV_NOT_SEALED] = "region-not-sealed-read-only",
	[HV_SHARE_LIMIT] = "too-many-shares",
	[HV_NO_SHARE] = "no-such-share",
	[HV_EVTCHN_LIMIT] = "too-many-event-channels",
	[HV_NO_EVTCHN] = "no-such-event-channel",
	[HV_EVTCHN_NOT_YOURS] = "event-channel-of-another-domain",
	[HV_EVTCHN_BOUND] = "event-channel-already-bound",
	[HV_STORE_LIMIT] = "too-many-store-streams",
};
static_assert(ARRAY_SIZE(hv_refusal_names) == HV_REFUSALS, "a name for each refusal");

struct hv_region {
	LIST_ENTRY(hv_region) link; /* in the order of `first` */
	struct shunt_region *memory;
	uint32_t first;
	uint32_t pages;
	unsigned maps; /* pages mapped, each as often as it is */
	bool shared;
};

struct hv_mapping {
	LIST_ENTRY(hv_mapping) given; /* the granter's */
	LIST_ENTRY(hv_mapping) taken; /* the grantee's */
	struct hv_domain *from;       /* NULL once gone */
	struct hv_domain *to;         /* likewise */
	void *run;                    /* an address range of its own, or NULL */
	uint32_t handle;              /* of a share, else 0 */
	bool write;
	unsigned n;
	struct {
		grant_ref_t ref;
		struct hv_region *region;
		struct shunt_region *memory; /* a reference */
	} page[];
};

struct hv_pins {
	uint16_t readers; /* writers are readers too */
	uint16_t writers;
};

struct hv_evtchn {
	bool used;
	domid_t remote;
	int other; /* the remote end until it is bound, else -1 */
};

struct hv_view {
	LIST_ENTRY(hv_view) link;
	struct grant_view view;
};

struct hv_domain {
	domid_t domid;
	bool dying;
	size_t memory_limit;
	size_t memory_used;
	struct shunt_region *grants;
	_Atomic uint64_t *entries;
	_Atomic(uint8_t *) *frames;
	struct hv_pins *pins; /* GRANT_ENTRIES, behind the frames in the same mapping */
	size_t frames_bytes;
	uint32_t nframes;
	uint32_t frame_hint; /* where the last run ended: numbers come round late */
	unsigned nregions;
	unsigned nshares;
	uint32_t last_handle;
	LIST_HEAD(hv_region_list, hv_region) regions;
	LIST_HEAD(hv_given_list, hv_mapping) given;
	LIST_HEAD(hv_taken_list, hv_mapping) taken;
	LIST_HEAD(hv_view_list, hv_view) views;
	struct hv_evtchn *evtchns; /* by port; 0 is not used */
	unsigned evtchns_size;
	unsigned nevtchns;
	uint64_t refused[HV_REFUSALS];
};

struct hv_gone {
	TAILQ_ENTRY(hv_gone) link;
	domain_gone_fn *fn;
	void *arg;
	bool removed;
};

struct hv {
	struct hv_domain **domains; /* HV_DOMAINS_END */
	domid_t last_domid;
	struct store *store;
	int wake_fd;
	hv_quiesce_fn *quiesce;
	void *quiesce_arg;
	TAILQ_HEAD(hv_gone_list, hv_gone) gone;
	unsigned telling; /* depth of hv_domain_destroy: removed callbacks are freed at its end */
	const char *why;
};

static struct hv_domain *domain_find(const struct hv *hv, domid_t domid)
{
	struct hv_domain *domain = domid < HV_DOMAINS_END ? hv->domains[domid] : NULL;

	return domain && !domain->dying ? domain : NULL;
}

int hv_refuse(struct hv *hv, domid_t domid, enum hv_refusal which, int error)
{
	if (domid < HV_DOMAINS_END && hv->domains[domid])
		hv->domains[domid]->refused[which]++;
	hv->why = hv_refusal_names[which];
	return error;
}

/* On the account of the one who asked, or of whom the host asked it. */
static int refuse_grant(
	struct hv *hv, domid_t asker, domid_t from, enum hv_refusal which, int error)
{
	return hv_refuse(hv, asker ? asker : from, which, error);
}

static int refuse_domain(struct hv *hv, domid_t asker)
{
	return hv_refuse(hv, asker, HV_NO_DOMAIN, -ESRCH);
}

uint64_t hv_refused(const struct hv *hv, domid_t domid, enum hv_refusal which)
{
	return domid < HV_DOMAINS_END && hv->domains[domid] ? hv->domains[domid]->refused[which]
							    : 0;
}

const char *hv_why(struct hv *hv)
{
	const char *why = hv->why;

	hv->why = "";
	return why;
}

struct store *hv_store(struct hv *hv)
{
	return hv->store;
}

/* Domains */

static void quiesce(struct hv *hv)
{
	if (hv->quiesce)
		hv->quiesce(hv->quiesce_arg);
}

static void domain_free(struct hv_domain *domain)
{
	if (domain->frames)
		(void)munmap((void *)domain->frames, domain->frames_bytes);
	shunt_region_put(domain->grants);
	free(domain->evtchns);
	free(domain);
}

static int domain_new(struct hv *hv, domid_t domid, size_t memory_limit)
{
	size_t nframes = memory_limit / SHUNT_PAGE_SIZE * FRAMES_PER_PAGE;
	struct hv_domain *domain;
	char name[32];
	void *at;
	int err;

	if (memory_limit < SHUNT_PAGE_SIZE || memory_limit > MEMORY_LIMIT_MAX)
		return -EINVAL;
	domain = calloc(1, sizeof(*domain));
	if (!domain)
		return -ENOMEM;
	(void)snprintf(name, sizeof(name), "shunt-grants-%u", domid);
	err = shunt_region_create(&domain->grants, name, GRANT_TABLE_BYTES, 0);
	if (err)
		goto fail;
	domain->frames_bytes =
		nframes * sizeof(*domain->frames) + GRANT_ENTRIES * sizeof(*domain->pins);
	at = mmap(NULL, domain->frames_bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED) {
		err = -ENOMEM;
		goto fail;
	}
	domain->domid = domid;
	domain->memory_limit = memory_limit;
	domain->entries = shunt_region_addr(domain->grants);
	domain->frames = at;
	domain->pins = (struct hv_pins *)(domain->frames + nframes);
	domain->nframes = (uint32_t)nframes;
	hv->domains[domid] = domain;
	return 0;
fail:
	domain_free(domain);
	return err;
}

int hv_domain_create(struct hv *hv, size_t memory_limit, domid_t *domid)
{
	domid_t id = hv->last_domid;
	int err;

	for (unsigned tries = 1; tries < HV_DOMAINS_END; tries++) {
		id = id + 1 < HV_DOMAINS_END ? id + 1 : 1;
		if (!hv->domains[id])
			break;
	}
	if (id == 0 || hv->domains[id])
		return -ENOSPC;
	err = domain_new(hv, id, memory_limit);
	if (err)
		return err;
	err = store_domain_introduce(hv->store, id);
	if (err) {
		domain_free(hv->domains[id]);
		hv->domains[id] = NULL;
		return err;
	}
	hv->last_domid = id;
	*domid = id;
	return 0;
}

bool hv_domain_exists(const struct hv *hv, domid_t domid)
{
	return domain_find(hv, domid) != NULL;
}

struct shunt_region *hv_grant_region(struct hv *hv, domid_t domid)
{
	struct hv_domain *domain = domain_find(hv, domid);

	return domain ? domain->grants : NULL;
}

size_t hv_memory_used(const struct hv *hv, domid_t domid)
{
	const struct hv_domain *domain = domain_find(hv, domid);

	return domain ? domain->memory_used : 0;
}

int hv_on_domain_gone(struct hv *hv, domain_gone_fn *fn, void *arg)
{
	struct hv_gone *gone = calloc(1, sizeof(*gone));

	if (!gone)
		return -ENOMEM;
	gone->fn = fn;
	gone->arg = arg;
	TAILQ_INSERT_TAIL(&hv->gone, gone, link);
	return 0;
}

static struct hv_gone *gone_find(struct hv *hv, domain_gone_fn *fn, const void *arg)
{
	struct hv_gone *gone;

	TAILQ_FOREACH (gone, &hv->gone, link)
		if (!gone->removed && gone->fn == fn && gone->arg == arg)
			return gone;
	return NULL;
}

void hv_off_domain_gone(struct hv *hv, domain_gone_fn *fn, void *arg)
{
	struct hv_gone *gone = gone_find(hv, fn, arg);

	if (!gone)
		return;
	gone->removed = true;
	if (hv->telling)
		return;
	TAILQ_REMOVE(&hv->gone, gone, link);
	free(gone);
}

static void domain_tell(struct hv *hv, domid_t domid)
{
	struct hv_gone *gone, *next;

	hv->telling++;
	TAILQ_FOREACH (gone, &hv->gone, link)
		if (!gone->removed)
			gone->fn(gone->arg, domid);
	if (--hv->telling)
		return;
	for (gone = TAILQ_FIRST(&hv->gone); gone; gone = next) {
		next = TAILQ_NEXT(gone, link);
		if (gone->removed) {
			TAILQ_REMOVE(&hv->gone, gone, link);
			free(gone);
		}
	}
}

static void mapping_free(struct hv_mapping *mapping)
{
	for (unsigned i = 0; i < mapping->n; i++)
		shunt_region_put(mapping->page[i].memory);
	if (mapping->run)
		(void)munmap(mapping->run, (size_t)mapping->n * SHUNT_PAGE_SIZE);
	free(mapping);
}

static void entry_unpin(struct hv_domain *from, grant_ref_t ref, bool write)
{
	struct hv_pins *pins = &from->pins[ref];
	uint64_t clear = 0;

	pins->readers--;
	pins->writers -= write;
	if (pins->readers == 0)
		clear |= GTF_reading;
	if (pins->writers == 0)
		clear |= GTF_writing;
	(void)atomic_fetch_and_explicit(&from->entries[ref], ~clear, memory_order_release);
}

static void mapping_end(struct hv_mapping *mapping)
{
	if (mapping->from) {
		for (unsigned i = 0; i < mapping->n; i++) {
			entry_unpin(mapping->from, mapping->page[i].ref, mapping->write);
			mapping->page[i].region->maps--;
		}
		LIST_REMOVE(mapping, given);
	}
	if (mapping->to) {
		mapping->to->nshares -= mapping->handle != 0;
		LIST_REMOVE(mapping, taken);
	}
	mapping_free(mapping);
}

static void domain_take_down(struct hv *hv, struct hv_domain *domain)
{
	struct hv_mapping *mapping, *next;
	struct hv_region *region;
	struct hv_view *view;

	for (mapping = LIST_FIRST(&domain->taken); mapping; mapping = next) {
		next = LIST_NEXT(mapping, taken);
		if (mapping->handle) {
			mapping_end(mapping);
		} else {
			LIST_REMOVE(mapping, taken);
			mapping->to = NULL;
		}
	}
	while ((mapping = LIST_FIRST(&domain->given))) {
		LIST_REMOVE(mapping, given);
		mapping->from = NULL;
	}
	for (unsigned port = 0; port < domain->evtchns_size; port++)
		if (domain->evtchns[port].used && domain->evtchns[port].other >= 0)
			(void)close(domain->evtchns[port].other);
	LIST_FOREACH (region, &domain->regions, link)
		for (uint32_t i = 0; i < region->pages; i++)
			atomic_store_explicit(
				&domain->frames[region->first + i], NULL, memory_order_release);
	quiesce(hv);
	while ((region = LIST_FIRST(&domain->regions))) {
		LIST_REMOVE(region, link);
		shunt_region_put(region->memory);
		free(region);
	}
	while ((view = LIST_FIRST(&domain->views))) {
		LIST_REMOVE(view, link);
		free(view);
	}
	hv->domains[domain->domid] = NULL;
	domain_free(domain);
}

void hv_domain_destroy(struct hv *hv, domid_t domid)
{
	struct hv_domain *domain = domain_find(hv, domid);

	if (!domain || domid == 0)
		return;
	domain->dying = true;
	domain_tell(hv, domid);
	store_domain_gone(hv->store, domid);
	domain_take_down(hv, domain);
}

static void wake(void *arg)
{
	struct hv *hv = arg;

	(void)eventfd_write(hv->wake_fd, 1);
}

int hv_fd(const struct hv *hv)
{
	return hv->wake_fd;
}

void hv_process(struct hv *hv)
{
	eventfd_t n;

	(void)eventfd_read(hv->wake_fd, &n);
	(void)store_process(hv->store);
}

int hv_new(struct hv **out, size_t host_memory, hv_quiesce_fn *quiesce_fn, void *arg)
{
	struct hv *hv = calloc(1, sizeof(*hv));
	int err = -ENOMEM;

	if (!hv)
		return -ENOMEM;
	hv->wake_fd = -1;
	hv->quiesce = quiesce_fn;
	hv->quiesce_arg = arg;
	hv->why = "";
	TAILQ_INIT(&hv->gone);
	hv->domains = calloc(HV_DOMAINS_END, sizeof(struct hv_domain *));
	hv->store = store_new(NULL);
	if (!hv->domains || !hv->store)
		goto fail;
	hv->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (hv->wake_fd < 0) {
		err = -errno;
		goto fail;
	}
	store_on_wake(hv->store, wake, hv);
	err = domain_new(hv, 0, host_memory);
	if (err)
		goto fail;
	*out = hv;
	return 0;
fail:
	hv_free(hv);
	return err;
}

void hv_free(struct hv *hv)
{
	struct hv_gone *gone;

	if (!hv)
		return;
	for (unsigned id = 1; hv->domains && id < HV_DOMAINS_END; id++)
		hv_domain_destroy(hv, (domid_t)id);
	if (hv->domains && hv->domains[0])
		domain_take_down(hv, hv->domains[0]);
	while ((gone = TAILQ_FIRST(&hv->gone))) {
		TAILQ_REMOVE(&hv->gone, gone, link);
		free(gone);
	}
	store_free(hv->store);
	if (hv->wake_fd >= 0)
		(void)close(hv->wake_fd);
	free(hv->domains);
	free(hv);
}

/* Regions */

static struct hv_region *region_at(struct hv_domain *domain, uint32_t frame)
{
	struct hv_region *region;

	LIST_FOREACH (region, &domain->regions, link)
		if (frame >= region->first && frame - region->first < region->pages)
			return region;
	return NULL;
}

/* A run of n free frame numbers at or after `from`; *after is the region that it follows, NULL if none. */
static bool find_frames(struct hv_domain *domain, uint32_t from, uint32_t n, uint32_t *first,
	struct hv_region **after)
{
	struct hv_region *region;

	*first = from;
	*after = NULL;
	LIST_FOREACH (region, &domain->regions, link) {
		if (region->first >= *first && region->first - *first >= n)
			break;
		*first = MAX(*first, region->first + region->pages);
		*after = region;
	}
	return checked_within(*first, n, domain->nframes);
}

int hv_region_add(
	struct hv *hv, domid_t domid, struct shunt_region *memory, unsigned flags, uint32_t *first)
{
	struct hv_domain *domain = domain_find(hv, domid);
	size_t size = shunt_region_size(memory);
	uint32_t pages = (uint32_t)(size / SHUNT_PAGE_SIZE);
	struct hv_region *region, *after;
	uint8_t *addr = shunt_region_addr(memory);

	if (!domain)
		return refuse_domain(hv, domid);
	if (flags & ~(unsigned)HV_REGION_SHARED)
		return hv_refuse(hv, domid, HV_BAD_FLAGS, -EINVAL);
	if (size > domain->memory_limit - domain->memory_used)
		return hv_refuse(hv, domid, HV_MEMORY_LIMIT, -EDQUOT);
	if (domid != 0 && domain->nregions >= HV_REGIONS_MAX)
		return hv_refuse(hv, domid, HV_REGION_LIMIT, -EDQUOT);
	if (!find_frames(domain, domain->frame_hint, pages, first, &after) &&
		!find_frames(domain, 0, pages, first, &after))
		return hv_refuse(hv, domid, HV_NO_FRAMES, -ENOSPC);
	region = calloc(1, sizeof(*region));
	if (!region)
		return -ENOMEM;
	region->memory = shunt_region_get(memory);
	region->first = *first;
	region->pages = pages;
	region->shared = flags & HV_REGION_SHARED;
	if (after)
		LIST_INSERT_AFTER(after, region, link);
	else
		LIST_INSERT_HEAD(&domain->regions, region, link);
	for (uint32_t i = 0; i < pages; i++)
		atomic_store_explicit(&domain->frames[*first + i],
			addr + (size_t)i * SHUNT_PAGE_SIZE, memory_order_release);
	domain->frame_hint = *first + pages;
	domain->memory_used += size;
	domain->nregions++;
	return 0;
}

int hv_region_del(struct hv *hv, domid_t domid, uint32_t first)
{
	struct hv_domain *domain = domain_find(hv, domid);
	struct hv_region *region;

	if (!domain)
		return refuse_domain(hv, domid);
	region = region_at(domain, first);
	if (!region || region->first != first)
		return hv_refuse(hv, domid, HV_NO_REGION, -ENOENT);
	if (region->maps)
		return hv_refuse(hv, domid, HV_REGION_BUSY, -EBUSY);
	for (uint32_t i = 0; i < region->pages; i++)
		atomic_store_explicit(&domain->frames[first + i], NULL, memory_order_release);
	quiesce(hv);
	LIST_REMOVE(region, link);
	domain->memory_used -= shunt_region_size(region->memory);
	domain->nregions--;
	shunt_region_put(region->memory);
	free(region);
	return 0;
}

uint8_t *hv_frame(struct hv *hv, domid_t domid, uint32_t frame)
{
	struct hv_domain *domain = domain_find(hv, domid);

	if (!domain || frame >= domain->nframes)
		return NULL;
	return atomic_load_explicit(&domain->frames[frame], memory_order_relaxed);
}

/* Grants */

static uint32_t grant_want(domid_t grantee)
{
	return GTF_permit_access | (uint32_t)grantee << 16;
}

/* The frame that an entry grants, or a negative errno. */
static int64_t entry_check(
	struct hv *hv, domid_t asker, const struct hv_domain *from, uint64_t entry, bool write)
{
	uint32_t low = (uint32_t)entry & ~(uint32_t)GRANT_IGNORED;
	uint32_t frame = (uint32_t)(entry >> 32);

	if ((low & ~(uint32_t)GTF_readonly) != grant_want(asker))
		return refuse_grant(hv, asker, from->domid, HV_NOT_GRANTED, -EACCES);
	if (write && (low & GTF_readonly))
		return refuse_grant(hv, asker, from->domid, HV_READ_ONLY, -EACCES);
	if (frame >= from->nframes ||
		!atomic_load_explicit(&from->frames[frame], memory_order_relaxed))
		return refuse_grant(hv, asker, from->domid, HV_BAD_FRAME, -EFAULT);
	return frame;
}

/* As entry_check, and the entry says that it is in use, as long as its granter leaves it alone. */
static int64_t entry_pin(
	struct hv *hv, domid_t asker, struct hv_domain *from, grant_ref_t ref, bool write)
{
	uint64_t bits = GTF_reading | (write ? GTF_writing : 0);
	struct hv_pins *pins;
	uint64_t entry;
	int64_t frame;

	if (ref >= GRANT_ENTRIES)
		return refuse_grant(hv, asker, from->domid, HV_BAD_REF, -EINVAL);
	pins = &from->pins[ref];
	if (pins->readers == UINT16_MAX)
		return refuse_grant(hv, asker, from->domid, HV_PIN_LIMIT, -EMFILE);
	entry = atomic_load_explicit(&from->entries[ref], memory_order_acquire);
	for (unsigned i = 0; i < PIN_TRIES; i++) {
		frame = entry_check(hv, asker, from, entry, write);
		if (frame < 0)
			return frame;
		if (atomic_compare_exchange_strong_explicit(&from->entries[ref], &entry,
			    entry | bits, memory_order_acq_rel, memory_order_acquire)) {
			pins->readers++;
			pins->writers += write;
			return frame;
		}
	}
	return refuse_grant(hv, asker, from->domid, HV_ENTRY_CHANGING, -EAGAIN);
}

/* Add one page to a mapping that is being made. */
static int64_t mapping_add(struct hv *hv, struct hv_mapping *mapping, grant_ref_t ref)
{
	int64_t frame = entry_pin(hv, mapping->to->domid, mapping->from, ref, mapping->write);
	struct hv_region *region;

	if (frame < 0)
		return frame;
	region = region_at(mapping->from, (uint32_t)frame);
	region->maps++;
	mapping->page[mapping->n].ref = ref;
	mapping->page[mapping->n].region = region;
	mapping->page[mapping->n].memory = shunt_region_get(region->memory);
	mapping->n++;
	return frame;
}

static struct hv_mapping *mapping_new(
	struct hv_domain *to, struct hv_domain *from, unsigned n, bool readonly)
{
	struct hv_mapping *mapping = calloc(1, sizeof(*mapping) + n * sizeof(mapping->page[0]));

	if (!mapping)
		return NULL;
	mapping->from = from;
	mapping->to = to;
	mapping->write = !readonly;
	LIST_INSERT_HEAD(&from->given, mapping, given);
	LIST_INSERT_HEAD(&to->taken, mapping, taken);
	return mapping;
}

/* Pages from here and there, one after the other. An old size of 0 makes mremap map the same shared page again. */
static void *map_run(uint8_t *const *pages, unsigned n, bool readonly)
{
	size_t len = (size_t)n * SHUNT_PAGE_SIZE;
	uint8_t *run =
		mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (run == MAP_FAILED)
		return NULL;
	for (unsigned i = 0; i < n; i++)
		if (mremap(pages[i], 0, SHUNT_PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
			    run + (size_t)i * SHUNT_PAGE_SIZE) == MAP_FAILED)
			goto fail;
	if (!readonly || !mprotect(run, len, PROT_READ))
		return run;
fail:
	(void)munmap(run, len);
	return NULL;
}

int hv_map(struct hv *hv, domid_t grantee, domid_t from_id, const grant_ref_t *refs, unsigned n,
	bool readonly, struct grant_map *map)
{
	struct hv_domain *to = domain_find(hv, grantee);
	struct hv_domain *from = domain_find(hv, from_id);
	uint8_t *pages[ARRAY_SIZE(map->refs)];
	struct hv_mapping *mapping;
	bool contiguous = true;
	int64_t frame = -1;
	int64_t last;

	if (!to || !from)
		return refuse_domain(hv, grantee);
	if (n == 0 || n > ARRAY_SIZE(map->refs))
		return refuse_grant(hv, grantee, from_id, HV_BAD_COUNT, -EINVAL);
	mapping = mapping_new(to, from, n, readonly);
	if (!mapping)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		last = frame;
		frame = mapping_add(hv, mapping, refs[i]);
		if (frame < 0) {
			mapping_end(mapping);
			return (int)frame;
		}
		pages[i] = atomic_load_explicit(&from->frames[frame], memory_order_relaxed);
		if (i > 0 && (frame != last + 1 ||
				     mapping->page[i].region != mapping->page[i - 1].region))
			contiguous = false;
	}
	if (!contiguous) {
		mapping->run = map_run(pages, n, readonly);
		if (!mapping->run) {
			mapping_end(mapping);
			return -ENOMEM;
		}
	}
	*map = (struct grant_map){
		.addr = contiguous ? pages[0] : mapping->run,
		.pages = n,
		.from = from_id,
		.readonly = readonly,
		.impl = mapping,
	};
	memcpy(map->refs, refs, n * sizeof(*refs));
	return 0;
}

void hv_unmap(struct grant_map *map)
{
	if (!map->impl)
		return;
	mapping_end(map->impl);
	memset(map, 0, sizeof(*map));
}

static int copy_piece(struct hv *hv, domid_t caller, struct grant_copy *piece)
{
	struct hv_domain *from = domain_find(hv, piece->from);
	uint8_t *page;
	int64_t frame;

	if (!from)
		return refuse_domain(hv, caller);
	if (piece->ref >= GRANT_ENTRIES)
		return refuse_grant(hv, caller, piece->from, HV_BAD_REF, -EINVAL);
	if (!checked_within(piece->offset, piece->len, SHUNT_PAGE_SIZE))
		return refuse_grant(hv, caller, piece->from, HV_CROSSES_PAGE, -ERANGE);
	frame = entry_check(hv, caller, from,
		atomic_load_explicit(&from->entries[piece->ref], memory_order_acquire),
		piece->to_grant);
	if (frame < 0)
		return (int)frame;
	page = atomic_load_explicit(&from->frames[frame], memory_order_relaxed);
	if (piece->to_grant)
		memmove(page + piece->offset, piece->local, piece->len);
	else
		memmove(piece->local, page + piece->offset, piece->len);
	return 0;
}

int hv_copy(struct hv *hv, domid_t caller, struct grant_copy *pieces, unsigned n)
{
	int first = 0;

	if (!domain_find(hv, caller))
		return refuse_domain(hv, caller);
	for (unsigned i = 0; i < n; i++) {
		int err = copy_piece(hv, caller, &pieces[i]);

		pieces[i].status = (int16_t)err;
		if (!first)
			first = err;
	}
	return first;
}

const struct grant_view *hv_view(struct hv *hv, domid_t grantee, domid_t from_id)
{
	struct hv_domain *from = domain_find(hv, from_id);
	struct hv_view *view;

	if (!from)
		return NULL;
	LIST_FOREACH (view, &from->views, link)
		if (view->view.want == grant_want(grantee))
			return &view->view;
	view = calloc(1, sizeof(*view));
	if (!view)
		return NULL;
	view->view.entries = from->entries;
	view->view.frames = from->frames;
	view->view.nentries = GRANT_ENTRIES;
	view->view.nframes = from->nframes;
	view->view.want = grant_want(grantee);
	LIST_INSERT_HEAD(&from->views, view, link);
	return &view->view;
}

/* The fd to hand out for a region, or a negative errno. */
static int share_fd(
	struct hv *hv, domid_t grantee, const struct shunt_region *memory, bool readonly)
{
	int fd = shunt_region_fd(memory);
	char path[32];
	struct stat st;
	int seals;

	if (!readonly) {
		fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		return fd < 0 ? -errno : fd;
	}
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_FUTURE_WRITE) || fstat(fd, &st) || (st.st_mode & 0222))
		return hv_refuse(hv, grantee, HV_NOT_SEALED, -EPERM);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static struct hv_mapping *share_find(struct hv_domain *domain, uint32_t handle)
{
	struct hv_mapping *mapping;

	LIST_FOREACH (mapping, &domain->taken, taken)
		if (mapping->handle == handle)
			return mapping;
	return NULL;
}

/* Pin all the pages; they must be the frames of one whole region in order. */
static int share_pages(
	struct hv *hv, struct hv_mapping *mapping, const grant_ref_t *refs, unsigned n)
{
	domid_t grantee = mapping->to->domid;
	const struct hv_region *region = NULL;

	for (unsigned i = 0; i < n; i++) {
		int64_t frame = mapping_add(hv, mapping, refs[i]);

		if (frame < 0)
			return (int)frame;
		if (!region)
			region = mapping->page[0].region;
		if (region->pages != n || frame != (int64_t)region->first + i)
			return hv_refuse(hv, grantee, HV_NOT_WHOLE, -EPERM);
		if (!region->shared)
			return hv_refuse(hv, grantee, HV_NOT_SHARED, -EPERM);
	}
	return 0;
}

int hv_share(struct hv *hv, domid_t grantee, domid_t from_id, const grant_ref_t *refs, unsigned n,
	bool readonly, uint32_t *handle, int *fd)
{
	struct hv_domain *to = domain_find(hv, grantee);
	struct hv_domain *from = domain_find(hv, from_id);
	struct hv_mapping *mapping;
	int err;

	if (!to || !from)
		return refuse_domain(hv, grantee);
	if (n == 0 || n > HV_SHARE_PAGES)
		return hv_refuse(hv, grantee, HV_BAD_COUNT, -EINVAL);
	if (to->nshares >= HV_SHARES_MAX)
		return hv_refuse(hv, grantee, HV_SHARE_LIMIT, -EDQUOT);
	mapping = mapping_new(to, from, n, readonly);
	if (!mapping)
		return -ENOMEM;
	err = share_pages(hv, mapping, refs, n);
	if (!err)
		err = share_fd(hv, grantee, mapping->page[0].memory, readonly);
	if (err < 0) {
		mapping_end(mapping);
		return err;
	}
	*fd = err;
	do {
		to->last_handle++;
	} while (to->last_handle == 0 || share_find(to, to->last_handle));
	mapping->handle = to->last_handle;
	to->nshares++;
	*handle = mapping->handle;
	return 0;
}

int hv_unshare(struct hv *hv, domid_t grantee, uint32_t handle)
{
	struct hv_domain *domain = domain_find(hv, grantee);
	struct hv_mapping *mapping;

	if (!domain)
		return refuse_domain(hv, grantee);
	mapping = handle ? share_find(domain, handle) : NULL;
	if (!mapping)
		return hv_refuse(hv, grantee, HV_NO_SHARE, -ENOENT);
	mapping_end(mapping);
	return 0;
}

/* Event channels */

static struct hv_evtchn *evtchn_find(struct hv_domain *domain, evtchn_port_t port)
{
	return port < domain->evtchns_size && domain->evtchns[port].used ? &domain->evtchns[port]
									 : NULL;
}

/* A free port number of the domain, never 0, or a negative errno. */
static int evtchn_port(struct hv *hv, struct hv_domain *domain)
{
	unsigned size = domain->evtchns_size;
	struct hv_evtchn *evtchns;

	if (domain->domid != 0 && domain->nevtchns >= HV_EVTCHNS_MAX)
		return hv_refuse(hv, domain->domid, HV_EVTCHN_LIMIT, -EDQUOT);
	for (unsigned port = 1; port < size; port++)
		if (!domain->evtchns[port].used)
			return (int)port;
	evtchns = reallocarray(domain->evtchns, size ? 2 * (size_t)size : 8, sizeof(*evtchns));
	if (!evtchns)
		return -ENOMEM;
	domain->evtchns = evtchns;
	domain->evtchns_size = size ? 2 * size : 8;
	memset(evtchns + size, 0, (domain->evtchns_size - size) * sizeof(*evtchns));
	return size ? (int)size : 1;
}

static void evtchn_set(struct hv_domain *domain, int port, domid_t remote, int other)
{
	domain->evtchns[port] = (struct hv_evtchn){.used = true, .remote = remote, .other = other};
	domain->nevtchns++;
}

int hv_evtchn_alloc(struct hv *hv, domid_t domid, domid_t remote, evtchn_port_t *port, int *fd)
{
	struct hv_domain *domain = domain_find(hv, domid);
	int pair[2];
	int at;

	if (!domain || !domain_find(hv, remote))
		return refuse_domain(hv, domid);
	at = evtchn_port(hv, domain);
	if (at < 0)
		return at;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		return -errno;
	wire_refuse_fds(pair[0]);
	wire_refuse_fds(pair[1]);
	evtchn_set(domain, at, remote, pair[1]);
	*port = (evtchn_port_t)at;
	*fd = pair[0];
	return 0;
}

int hv_evtchn_bind(struct hv *hv, domid_t domid, domid_t remote, evtchn_port_t remote_port,
	evtchn_port_t *port, int *fd)
{
	struct hv_domain *domain = domain_find(hv, domid);
	struct hv_domain *peer = domain_find(hv, remote);
	domid_t blamed = domid ? domid : remote;
	struct hv_evtchn *channel;
	int at;

	if (!domain || !peer)
		return refuse_domain(hv, domid);
	if (!evtchn_find(peer, remote_port))
		return hv_refuse(hv, blamed, HV_NO_EVTCHN, -ENOENT);
	at = evtchn_port(hv, domain);
	if (at < 0)
		return at;
	channel = evtchn_find(
		peer, remote_port); /* evtchn_port may have moved the table: remote may be domid */
	if (channel->remote != domid)
		return hv_refuse(hv, blamed, HV_EVTCHN_NOT_YOURS, -EACCES);
	if (channel->other < 0)
		return hv_refuse(hv, blamed, HV_EVTCHN_BOUND, -EBUSY);
	*fd = channel->other;
	channel->other = -1;
	evtchn_set(domain, at, remote, -1);
	*port = (evtchn_port_t)at;
	return 0;
}

int hv_evtchn_close(struct hv *hv, domid_t domid, evtchn_port_t port)
{
	struct hv_domain *domain = domain_find(hv, domid);
	struct hv_evtchn *channel = domain ? evtchn_find(domain, port) : NULL;

	if (!domain)
		return refuse_domain(hv, domid);
	if (!channel)
		return hv_refuse(hv, domid, HV_NO_EVTCHN, -ENOENT);
	if (channel->other >= 0)
		(void)close(channel->other);
	*channel = (struct hv_evtchn){.other = -1};
	domain->nevtchns--;
	return 0;
}
