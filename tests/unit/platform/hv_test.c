/* SPDX-License-Identifier: BSD-3-Clause */
/* The local hypervisor without its sockets: domains, regions, grants, event channels, in-process platforms, the twin. */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "platform/local/grant_table.h"
#include "platform/local/hv.h"
#include "twin.h"

#define PAGE ((size_t)SHUNT_PAGE_SIZE)

static unsigned fds;

static void put_text(void *at, const char *text)
{
	memcpy(at, text, strlen(text) + 1);
}

static int setup(void **state)
{
	fds = twin_fds();
	*state = twin_new(2);
	return *state ? 0 : -1;
}

static int teardown(void **state)
{
	twin_free(*state);
	return twin_fds() == fds ? 0 : -1;
}

static struct shunt_region *region_new(unsigned pages, unsigned flags)
{
	struct shunt_region *region;

	assert_int_equal(shunt_region_create(&region, "test", (size_t)pages * PAGE, flags), 0);
	return region;
}

/* A region of `domid` with all pages granted to `to`; the first reference. */
static grant_ref_t granted(struct twin *twin, domid_t domid, domid_t to, unsigned pages,
	bool readonly, struct shunt_region **region)
{
	struct platform *p = twin_platform(twin, domid);
	grant_ref_t first;

	*region = region_new(pages, 0);
	assert_int_equal(p->ops->region_add(p, *region), 0);
	assert_int_equal(p->ops->grant(p, to, *region, 0, pages, readonly, &first), 0);
	return first;
}

static uint64_t entry_of(struct twin *twin, domid_t domid, grant_ref_t ref)
{
	_Atomic uint64_t *entries = shunt_region_addr(hv_grant_region(twin_hv(twin), domid));

	return atomic_load(&entries[ref]);
}

static void entry_set(struct twin *twin, domid_t domid, grant_ref_t ref, uint64_t entry)
{
	_Atomic uint64_t *entries = shunt_region_addr(hv_grant_region(twin_hv(twin), domid));

	atomic_store(&entries[ref], entry);
}

/* The last refusal was this one, and it is on that domain's account. */
static void refused(struct twin *twin, domid_t domid, enum hv_refusal which, uint64_t times)
{
	assert_int_equal(hv_refused(twin_hv(twin), domid, which), times);
	assert_string_equal(hv_why(twin_hv(twin)), hv_refusal_names[which]);
}

static void test_domain_ids(void **state)
{
	struct twin *twin = *state;
	struct hv *hv = twin_hv(twin);
	domid_t id, next;

	assert_int_equal(hv_domain_create(hv, PAGE, &id), 0);
	assert_int_equal(id, 3);
	hv_domain_destroy(hv, id);
	assert_false(hv_domain_exists(hv, id));
	assert_int_equal(hv_domain_create(hv, PAGE, &next), 0);
	assert_int_equal(next, 4);
	hv_domain_destroy(hv, next);
	hv_domain_destroy(hv, next);
	hv_domain_destroy(hv, 0);
	assert_true(hv_domain_exists(hv, 0));
	assert_int_equal(hv_domain_create(hv, 0, &id), -EINVAL);
	assert_int_equal(hv_domain_create(hv, (size_t)1 << 41, &id), -EINVAL);
	assert_null(hv_grant_region(hv, 4));
	assert_null(hv_grant_region(hv, 0xffff));
}

static void test_domain_ids_come_round(void **state)
{
	struct hv *hv = twin_hv(*state);
	domid_t id = 0;

	for (unsigned i = 3; i < HV_DOMAINS_END; i++) {
		assert_int_equal(hv_domain_create(hv, PAGE, &id), 0);
		assert_int_equal(id, i);
		hv_domain_destroy(hv, id);
	}
	assert_int_equal(hv_domain_create(hv, PAGE, &id), 0);
	assert_int_equal(id, 3);
}

static void test_region_limits(void **state)
{
	struct twin *twin = *state;
	struct hv *hv = twin_hv(twin);
	struct shunt_region *small = region_new(1, 0), *big = region_new(3, 0);
	uint32_t first, again;
	domid_t id;

	assert_int_equal(hv_domain_create(hv, 3 * PAGE, &id), 0);
	assert_int_equal(hv_region_add(hv, id, small, 2, &first), -EINVAL);
	refused(twin, id, HV_BAD_FLAGS, 1);
	assert_int_equal(hv_region_add(hv, id, small, 0, &first), 0);
	assert_int_equal(hv_memory_used(hv, id), PAGE);
	assert_int_equal(hv_region_add(hv, id, big, 0, &again), -EDQUOT);
	refused(twin, id, HV_MEMORY_LIMIT, 1);
	assert_int_equal(hv_region_del(hv, id, first + 1), -ENOENT);
	refused(twin, id, HV_NO_REGION, 1);
	assert_int_equal(hv_region_del(hv, id, first), 0);
	assert_int_equal(hv_memory_used(hv, id), 0);
	assert_int_equal(hv_region_add(hv, id, big, 0, &again), 0);
	assert_int_not_equal(again, first);
	assert_ptr_equal(hv_frame(hv, id, again + 2), (uint8_t *)shunt_region_addr(big) + 2 * PAGE);
	assert_null(hv_frame(hv, id, first));
	assert_null(hv_frame(hv, id, UINT32_MAX));
	assert_int_equal(hv_region_add(hv, 99, big, 0, &again), -ESRCH);
	hv_domain_destroy(hv, id);
	shunt_region_put(small);
	shunt_region_put(big);
}

static void test_region_count_and_frames(void **state)
{
	struct twin *twin = *state;
	struct hv *hv = twin_hv(twin);
	struct shunt_region *one = region_new(1, 0), *two = region_new(2, 0);
	uint32_t first, firsts[HV_REGIONS_MAX];
	domid_t id;

	assert_int_equal(hv_domain_create(hv, (size_t)HV_REGIONS_MAX * PAGE * 2, &id), 0);
	for (unsigned i = 0; i < HV_REGIONS_MAX; i++) {
		assert_int_equal(hv_region_add(hv, id, one, 0, &firsts[i]), 0);
		assert_int_equal(firsts[i], i);
	}
	assert_int_equal(hv_region_add(hv, id, one, 0, &first), -EDQUOT);
	refused(twin, id, HV_REGION_LIMIT, 1);
	for (unsigned i = 0; i < HV_REGIONS_MAX; i += 2)
		assert_int_equal(hv_region_del(hv, id, firsts[i]), 0);
	/* Numbers go up to the end before they come round to the gaps. */
	assert_int_equal(hv_region_add(hv, id, two, 0, &first), 0);
	assert_int_equal(first, HV_REGIONS_MAX);
	hv_domain_destroy(hv, id);

	/* Two pages are four frames: with one page at 1 and at 2 in turn, two in a row are not there. */
	assert_int_equal(hv_domain_create(hv, 2 * PAGE, &id), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(hv_region_add(hv, id, one, 0, &first), 0);
		assert_int_equal(first, i);
		if (i != 1)
			assert_int_equal(hv_region_del(hv, id, first), 0);
	}
	assert_int_equal(hv_region_add(hv, id, one, 0, &first), 0);
	assert_int_equal(first, 3);
	assert_int_equal(hv_region_del(hv, id, 1), 0);
	assert_int_equal(hv_region_add(hv, id, one, 0, &first), 0);
	assert_int_equal(first, 0);
	assert_int_equal(hv_region_del(hv, id, 3), 0);
	assert_int_equal(hv_region_add(hv, id, one, 0, &first), 0);
	assert_int_equal(first, 1);
	assert_int_equal(hv_region_del(hv, id, 0), 0);
	assert_int_equal(hv_region_del(hv, id, 1), 0);
	assert_int_equal(hv_region_add(hv, id, two, 0, &first), 0);
	assert_int_equal(first, 2);
	hv_domain_destroy(hv, id);
	shunt_region_put(one);
	shunt_region_put(two);
}

static void test_map(void **state)
{
	struct twin *twin = *state;
	struct platform *host = twin_platform(twin, 0), *guest = twin_platform(twin, 1);
	struct shunt_region *region;
	grant_ref_t g = granted(twin, 1, 0, 4, false, &region);
	uint8_t *addr = shunt_region_addr(region);
	struct grant_map one, run, mixed;
	const grant_ref_t order[] = {g + 2, g, g + 3};
	const grant_ref_t in_row[] = {g + 1, g + 2, g + 3};

	assert_int_equal(host->ops->map(host, 1, &g, 1, false, &one), 0);
	assert_ptr_equal(one.addr, addr);
	assert_int_equal(
		entry_of(twin, 1, g) & (GTF_reading | GTF_writing), GTF_reading | GTF_writing);
	assert_int_equal(host->ops->map(host, 1, in_row, 3, true, &run), 0);
	assert_ptr_equal(run.addr, addr + PAGE);
	assert_int_equal(entry_of(twin, 1, g + 1) & (GTF_reading | GTF_writing), GTF_reading);
	assert_int_equal(host->ops->map(host, 1, order, 3, false, &mixed), 0);
	for (unsigned i = 0; i < 3; i++) {
		addr[(order[i] - g) * PAGE + 7] = (uint8_t)(0x50 + i);
		assert_int_equal(((uint8_t *)mixed.addr)[i * PAGE + 7], 0x50 + i);
	}

	/* Mapped twice: the bits go with the last. */
	assert_int_equal(guest->ops->revoke(guest, g, 4), -EBUSY);
	assert_int_equal(guest->ops->region_del(guest, region), -EBUSY);
	refused(twin, 1, HV_REGION_BUSY, 1);
	host->ops->unmap(host, &mixed);
	assert_null(mixed.impl);
	assert_int_equal(entry_of(twin, 1, g + 2) & (GTF_reading | GTF_writing), GTF_reading);
	assert_int_equal(
		entry_of(twin, 1, g) & (GTF_reading | GTF_writing), GTF_reading | GTF_writing);
	host->ops->unmap(host, &run);
	assert_int_equal(guest->ops->revoke(guest, g, 4), -EBUSY);
	assert_int_equal(guest->ops->revoke(guest, g + 1, 3), 0);
	assert_int_equal(guest->ops->region_del(guest, region), -EBUSY);
	host->ops->unmap(host, &one);
	host->ops->unmap(host, &one);
	assert_int_equal(guest->ops->revoke(guest, g, 1), 0);
	assert_int_equal(guest->ops->region_del(guest, region), 0);
	shunt_region_put(region);
}

static void test_map_readonly_run(void **state)
{
	struct twin *twin = *state;
	struct platform *host = twin_platform(twin, 0);
	struct shunt_region *region;
	grant_ref_t g = granted(twin, 1, 0, 2, true, &region);
	const grant_ref_t turned[] = {g + 1, g};
	struct grant_map map;
	int zero;

	put_text((char *)shunt_region_addr(region) + PAGE, "second");
	assert_int_equal(host->ops->map(host, 1, turned, 2, true, &map), 0);
	assert_string_equal((char *)map.addr, "second");
	/* The kernel will not write there. */
	zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(zero, map.addr, 1), -1);
	assert_int_equal(errno, EFAULT);
	(void)close(zero);
	host->ops->unmap(host, &map);
	shunt_region_put(region);
}

static void test_map_refusals(void **state)
{
	struct twin *twin = *state;
	struct platform *host = twin_platform(twin, 0), *other = twin_platform(twin, 2);
	struct platform *guest = twin_platform(twin, 1);
	struct shunt_region *region, *second;
	grant_ref_t g = granted(twin, 1, 0, 2, false, &region);
	grant_ref_t ro = granted(twin, 1, 0, 1, true, &second);
	grant_ref_t refs[17] = {0};
	struct grant_map map;
	uint64_t good = entry_of(twin, 1, g);
	const uint64_t bad_bits[] = {GTF_accept_transfer, GTF_transitive, 0,
		GTF_permit_access | GTF_sub_page, GTF_permit_access | 1u << 15};
	unsigned n = 0;

	assert_int_equal(host->ops->map(host, 9, &g, 1, false, &map), -ESRCH);
	assert_int_equal(host->ops->map(host, 1, &g, 0, false, &map), -EINVAL);
	assert_int_equal(host->ops->map(host, 1, refs, 17, false, &map), -EINVAL);
	refused(twin, 1, HV_BAD_COUNT, 2);
	for (refs[0] = GRANT_ENTRIES; refs[0] != 0;
		refs[0] = refs[0] == UINT32_MAX ? 0 : UINT32_MAX) {
		assert_int_equal(host->ops->map(host, 1, refs, 1, false, &map), -EINVAL);
		refused(twin, 1, HV_BAD_REF, ++n);
	}
	assert_int_equal(host->ops->map(host, 1, &ro, 1, false, &map), -EACCES);
	refused(twin, 1, HV_READ_ONLY, 1);

	/* Another guest's grant: on the account of the one who asks. */
	assert_int_equal(other->ops->map(other, 1, &g, 1, true, &map), -EACCES);
	refused(twin, 2, HV_NOT_GRANTED, 1);

	n = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(bad_bits); i++) {
		entry_set(twin, 1, g, bad_bits[i]);
		assert_int_equal(host->ops->map(host, 1, &g, 1, true, &map), -EACCES);
		refused(twin, 1, HV_NOT_GRANTED, ++n);
	}
	n = 0;
	for (uint64_t frame = 4; frame < (uint64_t)1 << 32; frame = frame * 2 + 1) {
		entry_set(twin, 1, g, GTF_permit_access | frame << 32);
		assert_int_equal(host->ops->map(host, 1, &g, 1, true, &map), -EFAULT);
		refused(twin, 1, HV_BAD_FRAME, ++n);
	}
	entry_set(twin, 1, g, good);

	/* A run with one bad page leaves nothing pinned. */
	refs[0] = g;
	refs[1] = g + 1;
	refs[2] = ro;
	assert_int_equal(host->ops->map(host, 1, refs, 3, false, &map), -EACCES);
	assert_int_equal(entry_of(twin, 1, g), good);
	assert_int_equal(guest->ops->revoke(guest, g, 2), 0);
	assert_int_equal(host->ops->map(host, 1, &g, 1, true, &map), -EACCES);
	assert_int_equal(guest->ops->region_del(guest, region), 0);
	shunt_region_put(region);
	shunt_region_put(second);
}

static void test_mapped_often(void **state)
{
	struct twin *twin = *state;
	struct hv *hv = twin_hv(twin);
	struct shunt_region *region;
	grant_ref_t g = granted(twin, 1, 0, 1, false, &region);
	struct grant_map *maps = calloc(UINT16_MAX + 1, sizeof(*maps));
	unsigned n = 0;
	int err;

	assert_non_null(maps);
	while (!(err = hv_map(hv, 0, 1, &g, 1, true, &maps[n])))
		n++;
	assert_int_equal(err, -EMFILE);
	refused(twin, 1, HV_PIN_LIMIT, 1);
	while (n-- > 0)
		hv_unmap(&maps[n]);
	assert_int_equal(entry_of(twin, 1, g) & (GTF_reading | GTF_writing), 0);
	free(maps);
	shunt_region_put(region);
}

/* What the granter does to its entry while it is mapped harms only the granter. */
static void test_revoked_while_mapped(void **state)
{
	struct twin *twin = *state;
	struct hv *hv = twin_hv(twin);
	struct platform *host = twin_platform(twin, 0), *guest = twin_platform(twin, 1);
	struct shunt_region *region;
	grant_ref_t g = granted(twin, 1, 0, 1, false, &region);
	struct grant_map map;

	assert_int_equal(host->ops->map(host, 1, &g, 1, false, &map), 0);
	entry_set(twin, 1, g, 0);
	assert_int_equal(guest->ops->region_del(guest, region), -EBUSY);
	put_text(map.addr, "still here");
	shunt_region_put(region);
	twin_kill(twin, 1);
	assert_string_equal(map.addr, "still here");
	host->ops->unmap(host, &map);
	assert_false(hv_domain_exists(hv, 1));
}

struct quiesced {
	unsigned times;
	const struct grant_view *view;
	uint32_t frame;
	const uint8_t *page; /* an address that a worker still holds */
};

static void on_quiesce(void *arg)
{
	struct quiesced *q = arg;

	q->times++;
	if (!q->page)
		return;
	assert_int_equal(*q->page, 0x77);
	assert_null(atomic_load(&q->view->frames[q->frame]));
}

static void test_view_and_quiesce(void **state)
{
	struct quiesced q = {0};
	struct hv *hv;
	struct shunt_region *region;
	_Atomic uint64_t *entries;
	struct grant_table table;
	grant_ref_t rw, ro;
	uint32_t first;
	domid_t id;

	(void)state;
	assert_int_equal(hv_new(&hv, 1 << 20, on_quiesce, &q), 0);
	assert_int_equal(hv_domain_create(hv, 1 << 20, &id), 0);
	for (unsigned round = 0; round < 2; round++) {
		unsigned before = q.times;

		region = region_new(2, 0);
		memset(shunt_region_addr(region), 0x77, 2 * PAGE);
		assert_int_equal(hv_region_add(hv, id, region, 0, &first), 0);
		shunt_region_put(region);
		entries = shunt_region_addr(hv_grant_region(hv, id));
		grant_table_init(&table, entries);
		assert_int_equal(grant_table_grant(&table, 0, first, 1, false, &rw), 0);
		assert_int_equal(grant_table_grant(&table, 0, first + 1, 1, true, &ro), 0);
		q.view = hv_view(hv, 0, id);
		assert_ptr_equal(q.view, hv_view(hv, 0, id));
		assert_ptr_equal(grant_page(q.view, rw, true), hv_frame(hv, id, first));
		assert_ptr_equal(grant_page(q.view, ro, false), hv_frame(hv, id, first + 1));
		assert_null(grant_page(q.view, ro, true));
		assert_null(grant_page(q.view, GRANT_ENTRIES, false));
		assert_null(grant_page(q.view, ro + 1, false));
		assert_null(grant_page(hv_view(hv, 7, id), rw, false));
		atomic_store(&entries[ro + 1], GTF_permit_access | (uint64_t)q.view->nframes << 32);
		assert_null(grant_page(q.view, ro + 1, false));
		q.page = grant_page(q.view, rw, true);
		q.frame = first;
		if (round == 0)
			assert_int_equal(hv_region_del(hv, id, first), 0);
		else
			hv_domain_destroy(hv, id);
		assert_int_equal(q.times, before + 1);
		q.page = NULL;
	}
	assert_null(hv_view(hv, 0, id));
	hv_free(hv);
}

static void test_copy(void **state)
{
	struct twin *twin = *state;
	struct platform *host = twin_platform(twin, 0), *other = twin_platform(twin, 2);
	struct shunt_region *region, *second;
	grant_ref_t g = granted(twin, 1, 0, 1, false, &region);
	grant_ref_t ro = granted(twin, 1, 0, 1, true, &second);
	char text[8] = "abcdefg";
	char back[8] = "";
	struct grant_copy ok[] = {
		{.from = 1,
			.ref = g,
			.offset = PAGE - 8,
			.len = 8,
			.local = text,
			.to_grant = true},
		{.from = 1, .ref = g, .offset = PAGE - 8, .len = 8, .local = back},
	};
	struct grant_copy bad[] = {
		{.from = 1, .ref = g, .offset = PAGE - 7, .len = 8, .local = back},
		{.from = 1, .ref = ro, .len = 8, .local = text, .to_grant = true},
		{.from = 1, .ref = GRANT_ENTRIES, .len = 8, .local = back},
		{.from = 5, .ref = g, .len = 8, .local = back},
		{.from = 1, .ref = ro, .offset = PAGE, .len = 0, .local = back},
	};
	const int want[] = {-ERANGE, -EACCES, -EINVAL, -ESRCH, 0};

	assert_int_equal(host->ops->copy(host, ok, 2), 0);
	assert_string_equal(back, text);
	assert_int_equal(host->ops->copy(host, bad, ARRAY_SIZE(bad)), -ERANGE);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(bad[i].status, want[i]);
	assert_int_equal(other->ops->copy(other, ok + 1, 1), -EACCES);
	assert_int_equal(ok[1].status, -EACCES);
	refused(twin, 2, HV_NOT_GRANTED, 1);
	assert_int_equal(host->ops->transfer(host, 1, region, 0), -EOPNOTSUPP);
	shunt_region_put(region);
	shunt_region_put(second);
}

static grant_ref_t shared(struct twin *twin, unsigned pages, unsigned region_flags, bool readonly,
	struct shunt_region **region)
{
	struct platform *p = twin_platform(twin, 1);
	grant_ref_t first;

	*region = region_new(pages, region_flags);
	assert_int_equal(hv_platform_share(p, *region), 0);
	assert_int_equal(p->ops->grant(p, 2, *region, 0, pages, readonly, &first), 0);
	return first;
}

static void test_share(void **state)
{
	struct twin *twin = *state;
	struct hv *hv = twin_hv(twin);
	struct platform *guest = twin_platform(twin, 1);
	struct shunt_region *region, *mapped;
	grant_ref_t g = shared(twin, 3, 0, false, &region);
	grant_ref_t refs[3] = {g, g + 1, g + 2};
	uint32_t handle;
	int fd;

	assert_int_equal(hv_share(hv, 2, 1, refs, 3, false, &handle, &fd), 0);
	assert_int_equal(shunt_region_open(&mapped, fd, 3 * PAGE, PROT_READ | PROT_WRITE, NULL), 0);
	((char *)shunt_region_addr(mapped))[PAGE] = 'x';
	assert_int_equal(((char *)shunt_region_addr(region))[PAGE], 'x');
	shunt_region_put(mapped);
	assert_int_equal(guest->ops->region_del(guest, region), -EBUSY);
	assert_int_equal(hv_unshare(hv, 2, handle + 1), -ENOENT);
	assert_int_equal(hv_unshare(hv, 2, 0), -ENOENT);
	refused(twin, 2, HV_NO_SHARE, 2);
	assert_int_equal(hv_unshare(hv, 2, handle), 0);
	assert_int_equal(hv_unshare(hv, 2, handle), -ENOENT);
	assert_int_equal(guest->ops->revoke(guest, g, 3), 0);
	assert_int_equal(guest->ops->region_del(guest, region), 0);
	shunt_region_put(region);
}

static void test_share_whole_regions_only(void **state)
{
	struct twin *twin = *state;
	struct hv *hv = twin_hv(twin);
	struct platform *guest = twin_platform(twin, 1);
	struct shunt_region *region, *plain;
	grant_ref_t g = shared(twin, 3, 0, false, &region);
	const grant_ref_t lists[][3] = {{g, g + 2, g + 1}, {g, g + 1, g + 1}, {g + 1, g + 2, g}};
	grant_ref_t refs[3] = {g, g + 1, g + 2};
	uint64_t entry = entry_of(twin, 1, g);
	unsigned n = 0;
	uint32_t handle;
	int fd;

	assert_int_equal(hv_share(hv, 2, 1, refs, 2, false, &handle, &fd), -EPERM);
	refused(twin, 2, HV_NOT_WHOLE, ++n);
	assert_int_equal(hv_share(hv, 2, 1, refs + 1, 2, false, &handle, &fd), -EPERM);
	refused(twin, 2, HV_NOT_WHOLE, ++n);
	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++) {
		assert_int_equal(hv_share(hv, 2, 1, lists[i], 3, false, &handle, &fd), -EPERM);
		refused(twin, 2, HV_NOT_WHOLE, ++n);
	}
	assert_int_equal(hv_share(hv, 2, 1, refs, 0, false, &handle, &fd), -EINVAL);
	assert_int_equal(
		hv_share(hv, 2, 1, refs, HV_SHARE_PAGES + 1, false, &handle, &fd), -EINVAL);
	assert_int_equal(hv_share(hv, 2, 9, refs, 3, false, &handle, &fd), -ESRCH);
	/* Sealed for nobody: a read-only mapping of it would be a promise. */
	assert_int_equal(hv_share(hv, 2, 1, refs, 3, true, &handle, &fd), -EPERM);
	refused(twin, 2, HV_NOT_SEALED, 1);
	/* All of it has to be granted. */
	entry_set(twin, 1, g + 2, 0);
	assert_int_equal(hv_share(hv, 2, 1, refs, 3, false, &handle, &fd), -EACCES);
	assert_int_equal(entry_of(twin, 1, g), entry);

	plain = region_new(1, 0);
	assert_int_equal(guest->ops->region_add(guest, plain), 0);
	assert_int_equal(guest->ops->grant(guest, 2, plain, 0, 1, false, &g), 0);
	assert_int_equal(hv_share(hv, 2, 1, &g, 1, false, &handle, &fd), -EPERM);
	refused(twin, 2, HV_NOT_SHARED, 1);
	shunt_region_put(plain);
	shunt_region_put(region);
}

static void test_share_read_only(void **state)
{
	struct twin *twin = *state;
	struct hv *hv = twin_hv(twin);
	struct shunt_region *region, *mapped;
	grant_ref_t g = shared(twin, 1, SHUNT_REGION_READONLY, true, &region);
	char path[32];
	uint32_t handle;
	int fd;

	assert_int_equal(hv_share(hv, 2, 1, &g, 1, false, &handle, &fd), -EACCES);
	refused(twin, 2, HV_READ_ONLY, 1);
	assert_int_equal(hv_share(hv, 2, 1, &g, 1, true, &handle, &fd), 0);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(write(fd, "x", 1), -1);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int again = open(path, O_RDWR | O_CLOEXEC); /* root may open, and may still not write */
	if (again >= 0) {
		assert_ptr_equal(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, again, 0), MAP_FAILED);
		assert_int_equal(write(again, "x", 1), -1);
		(void)close(again);
	}
	assert_int_equal(shunt_region_open(&mapped, fd, PAGE, PROT_READ, NULL), 0);
	shunt_region_put(mapped);
	/* Death of the grantee gives it back. */
	twin_kill(twin, 2);
	assert_int_equal(entry_of(twin, 1, g) & GTF_reading, 0);
	shunt_region_put(region);
}

static void test_share_limit(void **state)
{
	struct twin *twin = *state;
	struct hv *hv = twin_hv(twin);
	struct shunt_region *region;
	grant_ref_t g = shared(twin, 1, 0, false, &region);
	uint32_t handle;
	int fd;

	for (unsigned i = 0; i < HV_SHARES_MAX; i++) {
		assert_int_equal(hv_share(hv, 2, 1, &g, 1, false, &handle, &fd), 0);
		(void)close(fd);
	}
	assert_int_equal(hv_share(hv, 2, 1, &g, 1, false, &handle, &fd), -EDQUOT);
	refused(twin, 2, HV_SHARE_LIMIT, 1);
	/* The granter may go first. */
	twin_kill(twin, 1);
	assert_int_equal(hv_unshare(hv, 2, handle), 0);
	shunt_region_put(region);
}

static void test_evtchn(void **state)
{
	struct twin *twin = *state;
	struct platform *host = twin_platform(twin, 0), *guest = twin_platform(twin, 1);
	struct evtchn *front = guest->ops->evtchn_alloc(guest, 0);
	struct evtchn *back = host->ops->evtchn_bind(host, 1, front->port);
	struct pollfd pfd = {.fd = back->fd, .events = POLLIN};

	assert_non_null(back);
	assert_int_not_equal(front->port, 0);
	assert_int_equal(evtchn_consume(back), 0);
	assert_int_equal(poll(&pfd, 1, 0), 0);
	evtchn_notify(front);
	evtchn_notify(front);
	assert_int_equal(poll(&pfd, 1, 0), 1);
	assert_int_equal(evtchn_consume(back), 2);
	assert_int_equal(evtchn_consume(back), 0);
	evtchn_notify(back);
	assert_int_equal(evtchn_consume(front), 1);

	/* A last event is not lost to the hang-up. */
	evtchn_notify(front);
	guest->ops->evtchn_close(front);
	assert_int_equal(evtchn_consume(back), 1);
	assert_int_equal(evtchn_consume(back), -EPIPE);
	evtchn_notify(back);
	host->ops->evtchn_close(back);
}

/* However many events a peer sends, one look takes a bounded number, and a full socket blocks nobody. */
static void test_evtchn_storm(void **state)
{
	struct twin *twin = *state;
	struct platform *host = twin_platform(twin, 0), *guest = twin_platform(twin, 1);
	struct evtchn *front = guest->ops->evtchn_alloc(guest, 0);
	struct evtchn *back = host->ops->evtchn_bind(host, 1, front->port);
	int flags = fcntl(back->fd, F_GETFL);
	unsigned sent = 0;
	char bytes[4096] = {0};

	/* Another flags word on the guest's own end makes no difference: send and recv say MSG_DONTWAIT themselves. */
	assert_int_equal(fcntl(back->fd, F_SETFL, flags & ~O_NONBLOCK), 0);
	assert_int_equal(evtchn_consume(back), 0);
	while (send(front->fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		sent++;
	assert_true(sent > 1);
	evtchn_notify(front);
	assert_int_equal(evtchn_consume(back), 2048);
	for (unsigned i = 0; i < 100000; i++)
		evtchn_notify(back);
	assert_true(evtchn_consume(front) > 0);
	guest->ops->evtchn_close(front);
	host->ops->evtchn_close(back);
}

static void test_evtchn_refusals(void **state)
{
	struct twin *twin = *state;
	struct hv *hv = twin_hv(twin);
	struct platform *host = twin_platform(twin, 0);
	evtchn_port_t port, other;
	struct evtchn *self;
	int fd, fd2;

	assert_int_equal(hv_evtchn_alloc(hv, 1, 77, &port, &fd), -ESRCH);
	assert_int_equal(hv_evtchn_alloc(hv, 1, 0, &port, &fd), 0);
	assert_int_equal(hv_evtchn_bind(hv, 2, 1, port, &other, &fd2), -EACCES);
	refused(twin, 2, HV_EVTCHN_NOT_YOURS, 1);
	assert_int_equal(hv_evtchn_bind(hv, 0, 1, port + 1, &other, &fd2), -ENOENT);
	refused(twin, 1, HV_NO_EVTCHN, 1);
	assert_int_equal(hv_evtchn_bind(hv, 0, 1, 0, &other, &fd2), -ENOENT);
	assert_int_equal(hv_evtchn_bind(hv, 0, 1, UINT32_MAX, &other, &fd2), -ENOENT);
	assert_int_equal(hv_evtchn_bind(hv, 0, 9, port, &other, &fd2), -ESRCH);
	assert_int_equal(hv_evtchn_bind(hv, 0, 1, port, &other, &fd2), 0);
	(void)close(fd2);
	assert_int_equal(hv_evtchn_bind(hv, 0, 1, port, &other, &fd2), -EBUSY);
	refused(twin, 1, HV_EVTCHN_BOUND, 1);
	assert_int_equal(hv_evtchn_close(hv, 1, port), 0);
	assert_int_equal(hv_evtchn_close(hv, 1, port), -ENOENT);
	assert_int_equal(hv_evtchn_close(hv, 1, UINT32_MAX), -ENOENT);
	(void)close(fd);

	/* An end that nobody bound hangs up with its channel. */
	assert_int_equal(hv_evtchn_alloc(hv, 1, 0, &port, &fd), 0);
	assert_int_equal(recv(fd, &other, 1, 0), -1);
	assert_int_equal(hv_evtchn_close(hv, 1, port), 0);
	assert_int_equal(recv(fd, &other, 1, 0), 0);
	(void)close(fd);

	for (unsigned i = 0; i < HV_EVTCHNS_MAX; i++) {
		assert_int_equal(hv_evtchn_alloc(hv, 1, 1, &port, &fd), 0);
		(void)close(fd);
	}
	assert_int_equal(hv_evtchn_alloc(hv, 1, 0, &port, &fd), -EDQUOT);
	refused(twin, 1, HV_EVTCHN_LIMIT, 1);
	assert_int_equal(hv_evtchn_bind(hv, 1, 1, port, &other, &fd2), -EDQUOT);

	/* With itself, and across the growth of the table. */
	for (unsigned i = 0; i < 20; i++) {
		self = host->ops->evtchn_alloc(host, 0);
		assert_non_null(self);
		self = host->ops->evtchn_bind(host, 0, self->port);
		assert_non_null(self);
	}
}

static void note_domid(void *arg, domid_t domid)
{
	*(domid_t *)arg = domid;
}

static void test_death(void **state)
{
	struct twin *twin = *state;
	struct hv *hv = twin_hv(twin);
	struct platform *host = twin_platform(twin, 0), *guest = twin_platform(twin, 1);
	struct evtchn *front = guest->ops->evtchn_alloc(guest, 0);
	struct evtchn *back = host->ops->evtchn_bind(host, 1, front->port);
	struct shunt_region *region;
	grant_ref_t g = granted(twin, 1, 0, 1, false, &region);
	struct pollfd pfd = {.fd = guest->ops->fd(guest), .events = POLLIN};
	char value[8];
	domid_t gone = 0, never = 0;

	assert_int_equal(host->ops->store_write(host, 0, "/local/domain/1/x", "1"), 0);
	assert_int_equal(hv_on_domain_gone(hv, note_domid, &gone), 0);
	assert_int_equal(hv_on_domain_gone(hv, note_domid, &never), 0);
	hv_off_domain_gone(hv, note_domid, &never);
	assert_true(twin_run(twin) >= 0);
	twin_kill(twin, 1);
	assert_int_equal(gone, 1);
	assert_int_equal(never, 0);
	assert_int_equal(evtchn_consume(back), -EPIPE);
	assert_null(host->ops->view(host, 1));
	assert_int_equal(
		host->ops->store_read(host, 0, "/local/domain/1/x", value, sizeof(value)), -ENOENT);
	assert_int_equal(poll(&pfd, 1, 0), 1);
	assert_int_equal(guest->ops->process(guest), -ENOTCONN);
	assert_int_equal(guest->ops->region_del(guest, region), 0);
	assert_int_equal(guest->ops->region_add(guest, region), -ENOTCONN);
	assert_int_equal(guest->ops->revoke(guest, g, 1), -ENOTCONN);
	assert_null(guest->ops->evtchn_alloc(guest, 0));
	assert_int_equal(errno, ENOTCONN);
	assert_int_equal(guest->ops->store_write(guest, 0, "y", "1"), -ENOTCONN);
	guest->ops->evtchn_close(front);
	shunt_region_put(region);
}

struct seen {
	unsigned n;
	char path[64];
	struct platform *write; /* write there again from the callback */
};

static void on_watch(void *arg, const char *path)
{
	struct seen *seen = arg;

	seen->n++;
	(void)snprintf(seen->path, sizeof(seen->path), "%s", path);
	if (seen->write)
		(void)seen->write->ops->store_write(seen->write, 0, path, "again");
}

static void test_store(void **state)
{
	struct twin *twin = *state;
	struct platform *host = twin_platform(twin, 0), *guest = twin_platform(twin, 1);
	struct pollfd pfd = {.fd = host->ops->fd(host), .events = POLLIN};
	struct store_watch *watch, *second;
	struct seen seen = {0}, other = {0};
	char buf[64];
	uint64_t number;
	uint32_t tx;

	watch = host->ops->store_watch(host, "/local/domain/1", on_watch, &seen);
	assert_non_null(watch);
	assert_int_equal(seen.n, 0);
	assert_int_equal(poll(&pfd, 1, 0), 1);
	assert_int_equal(host->ops->process(host), 0);
	assert_int_equal(seen.n, 1);
	assert_int_equal(host->ops->process(host), 0);
	assert_int_equal(poll(&pfd, 1, 0), 0);

	assert_int_equal(guest->ops->store_write(guest, 0, "data/a", "hello"), 0);
	assert_int_equal(seen.n, 1);
	/* Another domain's process delivers nothing here, but makes the fd readable. */
	assert_int_equal(guest->ops->process(guest), 0);
	assert_int_equal(seen.n, 1);
	assert_int_equal(poll(&pfd, 1, 0), 1);
	assert_int_equal(host->ops->process(host), 0);
	assert_int_equal(seen.n, 2);
	assert_string_equal(seen.path, "/local/domain/1/data/a");

	assert_int_equal(
		host->ops->store_read(host, 0, "/local/domain/1/data/a", buf, sizeof(buf)), 5);
	assert_string_equal(buf, "hello");
	assert_int_equal(host->ops->store_read(host, 0, "/local/domain/1/data/a", buf, 3), 5);
	assert_string_equal(buf, "he");
	assert_int_equal(guest->ops->store_list(guest, 0, "data", buf, sizeof(buf)), 1);
	assert_string_equal(buf, "a");
	assert_int_equal(guest->ops->store_list(guest, 0, "data", buf, 1), -ENOBUFS);
	assert_int_equal(store_printf(guest, 0, "data", "n", "%u", 42u), 0);
	assert_int_equal(store_get_uint(guest, 0, "data", "n", 100, &number), 0);
	assert_int_equal(number, 42);
	assert_int_equal(guest->ops->store_chmod(guest, 0, "data/n", 1, 'x', 0, 0), -EINVAL);
	assert_int_equal(guest->ops->store_chmod(guest, 0, "data/n", 1, 'n', 2, 'r'), 0);
	guest = twin_platform(twin, 2);
	assert_int_equal(store_gets(guest, 0, "/local/domain/1/data", "n", buf, sizeof(buf)), 2);
	assert_int_equal(
		store_gets(guest, 0, "/local/domain/1/data", "a", buf, sizeof(buf)), -EACCES);
	assert_int_equal(guest->ops->store_write(guest, 0, "/local/domain/1/data/n", "1"), -EACCES);

	assert_int_equal(host->ops->store_begin(host, &tx), 0);
	assert_int_equal(host->ops->store_write(host, tx, "/local/domain/1/t", "1"), 0);
	assert_int_equal(store_gets(host, 0, "/local/domain/1", "t", buf, sizeof(buf)), -ENOENT);
	assert_int_equal(host->ops->store_end(host, tx, true), 0);
	assert_int_equal(store_rm_key(host, 0, "/local/domain/1", "t"), 0);

	/* Two watches on one path, one removed with its event still queued. */
	second = host->ops->store_watch(host, "/local/domain/1", on_watch, &other);
	assert_non_null(second);
	assert_int_equal(guest->ops->process(guest), 0);
	host->ops->store_unwatch(second);
	assert_true(twin_run(twin) >= 0);
	assert_int_equal(other.n, 0);

	/* A callback that causes its own event gets it in the next round. */
	seen.n = 0;
	seen.write = host;
	assert_int_equal(host->ops->store_write(host, 0, "/local/domain/1/loop", "1"), 0);
	assert_int_equal(host->ops->process(host), 0);
	assert_int_equal(seen.n, 1);
	assert_int_equal(poll(&pfd, 1, 0), 1);
	assert_int_equal(twin_run(twin), -ELOOP);
	seen.write = NULL;
	host->ops->store_unwatch(watch);
}

static void test_twin_faults(void **state)
{
	struct twin *twin = *state;
	struct platform *host = twin_platform(twin, 0), *guest = twin_platform(twin, 1);
	struct shunt_region *region;
	grant_ref_t g = granted(twin, 1, 0, 1, false, &region);
	struct evtchn *front, *back;
	struct grant_map map;
	char value[8];

	twin_fail(twin, 0, TWIN_MAP, 2, -ENOMEM);
	assert_int_equal(host->ops->map(host, 1, &g, 1, false, &map), 0);
	host->ops->unmap(host, &map);
	assert_int_equal(host->ops->map(host, 1, &g, 1, false, &map), -ENOMEM);
	assert_int_equal(host->ops->map(host, 1, &g, 1, false, &map), 0);
	host->ops->unmap(host, &map);
	assert_int_equal(twin_calls(twin, 0, TWIN_MAP), 3);

	twin_flip_grant(twin, 1, g, GTF_readonly);
	assert_int_equal(host->ops->map(host, 1, &g, 1, false, &map), -EACCES);

	front = guest->ops->evtchn_alloc(guest, 0);
	twin_fail(twin, 0, TWIN_EVTCHN_BIND, 1, -EMFILE);
	assert_null(host->ops->evtchn_bind(host, 1, front->port));
	assert_int_equal(errno, EMFILE);
	back = host->ops->evtchn_bind(host, 1, front->port);
	twin_fail(twin, 1, TWIN_EVTCHN_NOTIFY, 1, -EIO);
	evtchn_notify(front);
	assert_int_equal(evtchn_consume(back), 0);
	evtchn_notify(front);
	assert_int_equal(evtchn_consume(back), 1);

	assert_int_equal(guest->ops->store_write(guest, 0, "state", "1"), 0);
	assert_int_equal(twin_flip_store(twin, "/local/domain/1/state", 0, 3), 0);
	assert_int_equal(guest->ops->store_read(guest, 0, "state", value, sizeof(value)), 1);
	assert_string_equal(value, "2");
	assert_int_equal(twin_flip_store(twin, "/local/domain/1/state", 1, 3), -ERANGE);
	assert_int_equal(twin_flip_store(twin, "/none", 0, 3), -ENOENT);
	shunt_region_put(region);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_domain_ids),
		TEST(test_domain_ids_come_round),
		TEST(test_region_limits),
		TEST(test_region_count_and_frames),
		TEST(test_map),
		TEST(test_map_readonly_run),
		TEST(test_map_refusals),
		TEST(test_mapped_often),
		TEST(test_revoked_while_mapped),
		TEST(test_view_and_quiesce),
		TEST(test_copy),
		TEST(test_share),
		TEST(test_share_whole_regions_only),
		TEST(test_share_read_only),
		TEST(test_share_limit),
		TEST(test_evtchn),
		TEST(test_evtchn_storm),
		TEST(test_evtchn_refusals),
		TEST(test_death),
		TEST(test_store),
		TEST(test_twin_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
