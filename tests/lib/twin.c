/* SPDX-License-Identifier: BSD-3-Clause */
#include "twin.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/local/grant_table.h"

enum { DOMAINS_MAX = 16, ROUNDS_MAX = 100 };

/* A domain's platform has this table of operations instead of its own, so each finds its domain through it. */
struct twin_domain {
	struct platform_ops ops;
	const struct platform_ops *inner;
	struct platform *platform;
	bool dead;
	unsigned calls[TWIN_OPS];
	unsigned fail_at[TWIN_OPS]; /* a value of calls[], 0: never */
	int error[TWIN_OPS];
};

struct twin {
	struct hv *hv;
	unsigned n;
	struct twin_domain domains[DOMAINS_MAX];
};

/* Counts a call: 0, or the error it is to fail with. */
static int called(const struct platform_ops *ops, enum twin_op op)
{
	struct twin_domain *d = CONTAINER_OF(ops, struct twin_domain, ops);

	return ++d->calls[op] == d->fail_at[op] ? d->error[op] : 0;
}

static const struct platform_ops *inner(const struct platform_ops *ops)
{
	return CONTAINER_OF(ops, struct twin_domain, ops)->inner;
}

#define WRAP(op, name, params, ...)                                                                \
	static int twin_##name params                                                              \
	{                                                                                          \
		int err = called(p->ops, op);                                                      \
                                                                                                   \
		return err ? err : inner(p->ops)->name(__VA_ARGS__);                               \
	}

WRAP(TWIN_REGION_ADD, region_add, (struct platform * p, struct shunt_region *region), p, region)
WRAP(TWIN_REGION_DEL, region_del, (struct platform * p, struct shunt_region *region), p, region)
WRAP(TWIN_GRANT, grant,
	(struct platform * p, domid_t to, struct shunt_region *region, uint32_t page, unsigned n,
		bool readonly, grant_ref_t *first),
	p, to, region, page, n, readonly, first)
WRAP(TWIN_REVOKE, revoke, (struct platform * p, grant_ref_t first, unsigned n), p, first, n)
WRAP(TWIN_MAP, map,
	(struct platform * p, domid_t from, const grant_ref_t *refs, unsigned n, bool readonly,
		struct grant_map *map),
	p, from, refs, n, readonly, map)
WRAP(TWIN_COPY, copy, (struct platform * p, struct grant_copy *pieces, unsigned n), p, pieces, n)
WRAP(TWIN_STORE_READ, store_read,
	(struct platform * p, uint32_t tx, const char *path, char *buf, size_t size), p, tx, path,
	buf, size)
WRAP(TWIN_STORE_WRITE, store_write,
	(struct platform * p, uint32_t tx, const char *path, const char *value), p, tx, path, value)
WRAP(TWIN_STORE_RM, store_rm, (struct platform * p, uint32_t tx, const char *path), p, tx, path)
WRAP(TWIN_STORE_LIST, store_list,
	(struct platform * p, uint32_t tx, const char *path, char *buf, size_t size), p, tx, path,
	buf, size)
WRAP(TWIN_STORE_CHMOD, store_chmod,
	(struct platform * p, uint32_t tx, const char *path, domid_t owner, char others,
		domid_t domain, char access),
	p, tx, path, owner, others, domain, access)
WRAP(TWIN_STORE_BEGIN, store_begin, (struct platform * p, uint32_t *tx), p, tx)
WRAP(TWIN_STORE_END, store_end, (struct platform * p, uint32_t tx, bool commit), p, tx, commit)

static void twin_evtchn_notify(struct evtchn *channel)
{
	if (!called(channel->ops, TWIN_EVTCHN_NOTIFY))
		inner(channel->ops)->evtchn_notify(channel);
}

/* Notifications go through channel->ops. */
static struct evtchn *adopt(struct platform *p, struct evtchn *channel)
{
	if (channel)
		channel->ops = p->ops;
	return channel;
}

static struct evtchn *twin_evtchn_alloc(struct platform *p, domid_t remote)
{
	int err = called(p->ops, TWIN_EVTCHN_ALLOC);

	errno = -err;
	return err ? NULL : adopt(p, inner(p->ops)->evtchn_alloc(p, remote));
}

static struct evtchn *twin_evtchn_bind(struct platform *p, domid_t remote, evtchn_port_t port)
{
	int err = called(p->ops, TWIN_EVTCHN_BIND);

	errno = -err;
	return err ? NULL : adopt(p, inner(p->ops)->evtchn_bind(p, remote, port));
}

static struct store_watch *twin_store_watch(
	struct platform *p, const char *path, platform_watch_fn *fn, void *arg)
{
	int err = called(p->ops, TWIN_STORE_WATCH);

	errno = -err;
	return err ? NULL : inner(p->ops)->store_watch(p, path, fn, arg);
}

static int domain_add(struct twin *twin)
{
	struct twin_domain *d = &twin->domains[twin->n];
	char path[32];
	domid_t domid = 0;
	int err;

	if (twin->n > 0)
		err = hv_domain_create(twin->hv, TWIN_MEMORY, &domid);
	else
		err = 0;
	if (!err)
		err = hv_platform_new(&d->platform, twin->hv, domid);
	if (err)
		return err;
	d->inner = d->platform->ops;
	d->ops = *d->inner;
	d->ops.kind = "twin";
	d->ops.region_add = twin_region_add;
	d->ops.region_del = twin_region_del;
	d->ops.grant = twin_grant;
	d->ops.revoke = twin_revoke;
	d->ops.map = twin_map;
	d->ops.copy = twin_copy;
	d->ops.evtchn_alloc = twin_evtchn_alloc;
	d->ops.evtchn_bind = twin_evtchn_bind;
	d->ops.evtchn_notify = twin_evtchn_notify;
	d->ops.store_read = twin_store_read;
	d->ops.store_write = twin_store_write;
	d->ops.store_rm = twin_store_rm;
	d->ops.store_list = twin_store_list;
	d->ops.store_chmod = twin_store_chmod;
	d->ops.store_begin = twin_store_begin;
	d->ops.store_end = twin_store_end;
	d->ops.store_watch = twin_store_watch;
	d->platform->ops = &d->ops;
	twin->n++;
	if (domid == 0)
		return 0;
	(void)snprintf(path, sizeof(path), "/local/domain/%u", domid);
	d = &twin->domains[0];
	err = d->inner->store_write(d->platform, 0, path, "");
	return err ? err : d->inner->store_chmod(d->platform, 0, path, domid, 'n', 0, 0);
}

struct twin *twin_new(unsigned guests)
{
	struct twin *twin = guests < DOMAINS_MAX ? calloc(1, sizeof(*twin)) : NULL;

	if (!twin)
		return NULL;
	if (hv_new(&twin->hv, TWIN_MEMORY, NULL, NULL))
		goto fail;
	for (unsigned i = 0; i <= guests; i++)
		if (domain_add(twin))
			goto fail;
	return twin;
fail:
	twin_free(twin);
	return NULL;
}

void twin_free(struct twin *twin)
{
	if (!twin)
		return;
	for (unsigned i = twin->n; i-- > 0;)
		twin->domains[i].platform->ops->close(twin->domains[i].platform);
	hv_free(twin->hv);
	free(twin);
}

struct hv *twin_hv(struct twin *twin)
{
	return twin->hv;
}

struct platform *twin_platform(struct twin *twin, domid_t domid)
{
	return domid < twin->n ? twin->domains[domid].platform : NULL;
}

void twin_fail(struct twin *twin, domid_t domid, enum twin_op op, unsigned nth, int error)
{
	struct twin_domain *d = &twin->domains[domid];

	d->fail_at[op] = nth ? d->calls[op] + nth : 0;
	d->error[op] = error;
}

unsigned twin_calls(const struct twin *twin, domid_t domid, enum twin_op op)
{
	return twin->domains[domid].calls[op];
}

void twin_flip_grant(struct twin *twin, domid_t domid, grant_ref_t ref, uint64_t bits)
{
	_Atomic uint64_t *entries = shunt_region_addr(hv_grant_region(twin->hv, domid));

	if (ref < GRANT_ENTRIES)
		(void)atomic_fetch_xor(&entries[ref], bits);
}

int twin_flip_store(struct twin *twin, const char *path, unsigned offset, uint8_t bits)
{
	struct twin_domain *host = &twin->domains[0];
	char value[PLATFORM_VALUE_MAX + 1];
	int n = host->inner->store_read(host->platform, 0, path, value, sizeof(value));

	if (n < 0)
		return n;
	if (offset >= (unsigned)n)
		return -ERANGE;
	value[offset] = (char)(value[offset] ^ bits);
	return host->inner->store_write(host->platform, 0, path, value);
}

int twin_run(struct twin *twin)
{
	for (int round = 0; round < ROUNDS_MAX; round++) {
		bool busy = false;

		for (unsigned i = 0; i < twin->n; i++) {
			struct twin_domain *d = &twin->domains[i];
			struct pollfd pfd = {
				.fd = d->platform->ops->fd(d->platform), .events = POLLIN};

			if (d->dead || poll(&pfd, 1, 0) != 1)
				continue;
			(void)d->platform->ops->process(d->platform);
			busy = true;
		}
		if (!busy)
			return round;
	}
	return -ELOOP;
}

void twin_kill(struct twin *twin, domid_t domid)
{
	if (domid == 0 || domid >= twin->n)
		return;
	twin->domains[domid].dead = true;
	hv_domain_destroy(twin->hv, domid);
}

unsigned twin_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	if (!dir)
		return 0;
	while (readdir(dir))
		n++;
	(void)closedir(dir);
	return n;
}
