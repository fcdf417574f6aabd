/* SPDX-License-Identifier: BSD-3-Clause */
/* Pools: what is taken and comes home, growing, and memory that is really given back. */
#include "frames.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "packet/pool.h"

/* A device that counts, and refuses when told to. */
struct counting_device {
	struct pool_device device;
	unsigned attached;
	unsigned detached;
	int refuse;
	struct shunt_region *last_detached;
	struct shunt_region *regions[8]; /* in the order of attaching */
};

static int count_attach(struct pool_device *device, struct shunt_region *region, uint64_t *dev_base)
{
	struct counting_device *counting = CONTAINER_OF(device, struct counting_device, device);

	if (counting->refuse)
		return counting->refuse;
	counting->regions[counting->attached] = region;
	*dev_base = 0x100000000ull * ++counting->attached;
	return 0;
}

static void count_detach(struct pool_device *device, struct shunt_region *region)
{
	struct counting_device *counting = CONTAINER_OF(device, struct counting_device, device);

	counting->detached++;
	counting->last_detached = region;
}

static char name[32]; /* of this test program's regions alone */

/* Regions of ours that are mapped, from the kernel's own list. */
static unsigned regions_mapped(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned found = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		if (strstr(line, name))
			found++;
	}
	(void)fclose(maps);
	return found;
}

static struct shunt_pool *make(struct counting_device *counting, uint32_t packets)
{
	const struct shunt_pool_config config = {
		.name = name, .packets = packets, .headroom = 64, .max_segs = 3};
	struct shunt_pool *pool;

	if (counting)
		*counting = (struct counting_device){.device = {count_attach, count_detach}};
	assert_int_equal(pool_create(&pool, &config, counting ? &counting->device : NULL), 0);
	return pool;
}

static bool lies_in(const struct shunt_region *region, const struct shunt_packet *packet)
{
	uintptr_t start = (uintptr_t)shunt_region_addr(region);
	uintptr_t buf = (uintptr_t)packet->buf;

	return buf >= start && buf < start + shunt_region_size(region);
}

static void assert_counts(const struct shunt_pool *pool, uint32_t capacity, uint32_t available)
{
	assert_int_equal(shunt_pool_capacity(pool), capacity);
	assert_int_equal(shunt_pool_available(pool), available);
}

static void test_take_and_release(void **state)
{
	struct shunt_packet *packets[20];
	struct shunt_pool *pool = make(NULL, 16);

	(void)state;
	assert_counts(pool, 16, 16);
	assert_int_equal(shunt_pool_buffer_size(pool), 2048);
	assert_int_equal(shunt_pool_take(pool, packets, 10), 10);
	assert_int_equal(shunt_pool_take(pool, packets + 10, 10), 6);
	assert_int_equal(shunt_pool_take(pool, packets, 1), 0);
	assert_counts(pool, 16, 0);
	for (unsigned i = 0; i < 16; i++) {
		const struct shunt_packet *packet = packets[i];

		assert_true(pool_owns(pool, packet));
		assert_ptr_equal(packet->data, packet->buf + 64);
		assert_int_equal(packet->len, 0);
		assert_int_equal(packet->head_len, 0);
		assert_int_equal(packet->flags, 0);
		assert_int_equal(packet->nsegs, 0);
		assert_int_equal(packet->refs, 0);
		/* In the order of their addresses, each buffer its own. */
		if (i)
			assert_ptr_equal(packet->buf, packets[i - 1]->buf + 2048);
		memset(packet->buf, (int)i, 2048);
	}
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(packets[i]->buf[0], i);
		assert_int_equal(packets[i]->buf[2047], i);
	}
	shunt_packets_release(packets, 16);
	assert_counts(pool, 16, 16);
	shunt_pool_destroy(pool);
	assert_int_equal(regions_mapped(), 0);
}

/* The packet that came home last leaves first, and leaves empty. */
static void test_order_and_reset(void **state)
{
	struct shunt_packet *packets[4];
	struct shunt_packet *again;
	struct shunt_pool *pool = make(NULL, 8);

	(void)state;
	assert_int_equal(shunt_pool_take(pool, packets, 4), 4);
	packets[2]->flags = SHUNT_PKT_VLAN | SHUNT_PKT_CSUM_PARTIAL;
	packets[2]->data += 14;
	packets[2]->len = packets[2]->head_len = 60;
	packets[2]->gso_size = 1448;
	packets[2]->gso_type = SHUNT_GSO_TCPV4;
	packets[2]->csum_start = 34;
	shunt_packets_release(&packets[1], 1);
	shunt_packets_release(&packets[2], 1);
	assert_int_equal(shunt_pool_take(pool, &again, 1), 1);
	assert_ptr_equal(again, packets[2]);
	assert_ptr_equal(again->data, again->buf + 64);
	assert_int_equal(again->len | again->head_len | again->flags, 0);
	assert_int_equal(again->gso_size | again->gso_type | again->csum_start, 0);
	assert_ptr_equal(pool_pop(pool), packets[1]);
	shunt_packets_release(packets, 4);
	shunt_pool_destroy(pool);
}

static void test_segments_come_home(void **state)
{
	struct shunt_packet *packets[4];
	struct shunt_pool *pool = make(NULL, 4);

	(void)state;
	assert_int_equal(shunt_pool_take(pool, packets, 4), 4);
	for (unsigned i = 1; i < 4; i++)
		packets[0]->segs[packets[0]->nsegs++] =
			(struct shunt_seg){packets[i]->buf, packets[i], 2048};
	shunt_packets_release(packets, 1);
	assert_counts(pool, 4, 4);
	assert_int_equal(shunt_pool_take(pool, packets, 4), 4);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(packets[i]->nsegs, 0);
		for (unsigned j = 0; j < i; j++)
			assert_ptr_not_equal(packets[i], packets[j]);
	}
	shunt_packets_release(packets, 4);
	shunt_pool_destroy(pool);
}

static void test_grow_and_shrink(void **state)
{
	struct shunt_packet *packets[28];
	struct counting_device counting;
	struct shunt_pool *pool = make(&counting, 8);

	(void)state;
	assert_int_equal(shunt_pool_extend(pool, 4), 0);
	assert_int_equal(shunt_pool_extend(pool, 16), 0);
	assert_counts(pool, 28, 28);
	assert_int_equal(regions_mapped(), 3);
	assert_int_equal(shunt_pool_take(pool, packets, 28), 28);
	assert_int_equal(shunt_pool_take(pool, packets, 1), 0);
	shunt_packets_release(packets, 28);

	/* Newest first, whole regions only. */
	assert_int_equal(shunt_pool_shrink(pool, 15), 0);
	assert_int_equal(shunt_pool_shrink(pool, 19), 16);
	assert_counts(pool, 12, 12);
	assert_int_equal(counting.detached, 1);
	assert_ptr_equal(counting.last_detached, counting.regions[2]);
	assert_int_equal(regions_mapped(), 2);
	/* The first region stays. */
	assert_int_equal(shunt_pool_shrink(pool, UINT32_MAX), 4);
	assert_int_equal(shunt_pool_shrink(pool, UINT32_MAX), 0);
	assert_counts(pool, 8, 8);
	assert_int_equal(regions_mapped(), 1);
	/* Growing again works. */
	assert_int_equal(shunt_pool_extend(pool, 2), 0);
	assert_counts(pool, 10, 10);
	assert_int_equal(shunt_pool_take(pool, packets, 28), 10);
	shunt_packets_release(packets, 10);
	shunt_pool_destroy(pool);
	assert_int_equal(counting.attached, 4);
	assert_int_equal(counting.detached, 4);
	assert_int_equal(regions_mapped(), 0);
}

/* Packets of a leaving region, in use: they are caught on their way home, the last one takes the memory along. */
static void test_shrink_with_packets_out(void **state)
{
	struct shunt_packet *packets[16];
	struct counting_device counting;
	struct shunt_pool *pool = make(&counting, 8);

	(void)state;
	assert_int_equal(shunt_pool_extend(pool, 8), 0);
	assert_int_equal(shunt_pool_take(pool, packets, 12), 12);
	/* The new region's leave first: packets 0 to 7. */
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(lies_in(counting.regions[1], packets[i]), i < 8);
	assert_int_equal(shunt_pool_shrink(pool, 8), 8);
	assert_counts(pool, 8, 4);
	assert_int_equal(shunt_pool_shrink(pool, 8), 0);
	assert_int_equal(counting.detached, 0);
	assert_int_equal(regions_mapped(), 2);
	memset(packets[7]->buf, 0x55, 2048); /* still ours */
	shunt_packets_release(packets, 7);
	assert_counts(pool, 8, 4);
	assert_int_equal(counting.detached, 0);
	/* One that leaves and ones that stay, in one call. */
	shunt_packets_release(packets + 7, 5);
	assert_counts(pool, 8, 8);
	assert_int_equal(counting.detached, 1);
	assert_int_equal(regions_mapped(), 1);
	assert_int_equal(shunt_pool_take(pool, packets, 16), 8);
	for (unsigned i = 0; i < 8; i++)
		assert_true(lies_in(counting.regions[0], packets[i]));
	shunt_packets_release(packets, 8);
	shunt_pool_destroy(pool);
}

/* A region that leaves while the pool grows. */
static void test_grow_while_shrinking(void **state)
{
	struct shunt_packet *packets[32];
	struct counting_device counting;
	struct shunt_pool *pool = make(&counting, 4);

	(void)state;
	assert_int_equal(shunt_pool_extend(pool, 8), 0);
	assert_int_equal(shunt_pool_take(pool, packets, 12), 12);
	assert_int_equal(shunt_pool_shrink(pool, 8), 8);
	assert_int_equal(shunt_pool_extend(pool, 2), 0);
	assert_counts(pool, 6, 2);
	shunt_packets_release(packets, 12);
	assert_counts(pool, 6, 6);
	assert_int_equal(counting.detached, 1);
	assert_ptr_equal(counting.last_detached, counting.regions[1]);
	shunt_pool_destroy(pool);
	assert_int_equal(counting.detached, 3);
}

static void test_destroy_with_packets_out(void **state)
{
	struct shunt_packet *packets[8];
	struct counting_device counting;
	struct shunt_pool *pool = make(&counting, 8);

	(void)state;
	assert_int_equal(shunt_pool_take(pool, packets, 5), 5);
	shunt_pool_destroy(pool);
	assert_int_equal(counting.detached, 0);
	for (unsigned i = 0; i < 5; i++)
		memset(packets[i]->buf, 0xaa, 2048);
	packets[0]->segs[0] = (struct shunt_seg){packets[1]->buf, packets[1], 2048};
	packets[0]->nsegs = 1;
	shunt_packets_release(packets + 2, 2);
	assert_int_equal(counting.detached, 0);
	shunt_packets_release(packets, 1);
	assert_int_equal(counting.detached, 0);
	assert_int_equal(regions_mapped(), 1);
	shunt_packets_release(packets + 4, 1);
	assert_int_equal(counting.detached, 1);
	assert_int_equal(regions_mapped(), 0);
	shunt_pool_destroy(NULL);
}

static void test_device(void **state)
{
	const struct shunt_pool_config config = {.name = name, .packets = 4};
	struct counting_device counting = {
		.device = {count_attach, count_detach}, .refuse = -ENOSPC};
	struct shunt_packet *packets[4];
	struct shunt_pool *pool = NULL;

	(void)state;
	assert_int_equal(pool_create(&pool, &config, &counting.device), -ENOSPC);
	assert_null(pool);
	assert_int_equal(regions_mapped(), 0);
	assert_int_equal(counting.detached, 0);
	counting.refuse = 0;
	assert_int_equal(pool_create(&pool, &config, &counting.device), 0);
	counting.refuse = -EPERM;
	assert_int_equal(shunt_pool_extend(pool, 4), -EPERM);
	assert_counts(pool, 4, 4);
	assert_int_equal(regions_mapped(), 1);
	assert_int_equal(shunt_pool_take(pool, packets, 4), 4);
	for (unsigned i = 0; i < 4; i++)
		assert_true((uintptr_t)packets[i]->buf + packets[i]->dev_delta ==
			    0x100000000ull + i * 2048ull);
	shunt_packets_release(packets, 4);
	shunt_pool_destroy(pool);
	assert_int_equal(counting.attached, 1);
	assert_int_equal(counting.detached, 1);
}

static void test_config(void **state)
{
	const struct shunt_pool_config good = {.name = name, .packets = 3};
	struct shunt_pool_config config;
	struct shunt_packet *packets[3];
	struct shunt_pool *pool;
	char gone[32];

	(void)state;
	config = good;
	config.packets = 0;
	assert_int_equal(shunt_pool_create(&pool, &config), -EINVAL);
	config = good;
	config.max_segs = SHUNT_MAX_SEGS + 1;
	assert_int_equal(shunt_pool_create(&pool, &config), -EINVAL);
	config = good;
	config.headroom = 2048;
	assert_int_equal(shunt_pool_create(&pool, &config), -EINVAL);
	config = good;
	config.buffer_size = UINT32_MAX;
	assert_int_equal(shunt_pool_create(&pool, &config), -EINVAL);
	config = good;
	config.packets = UINT32_MAX; /* more than a region can be */
	assert_int_equal(shunt_pool_create(&pool, &config), -EINVAL);
	config = good;
	config.name = NULL;
	assert_int_equal(shunt_pool_create(&pool, &config), -EINVAL);
	assert_int_equal(regions_mapped(), 0);

	/* Longer than a page: whole pages, page-aligned. The name may go. */
	config = good;
	config.buffer_size = 4097;
	config.max_segs = SHUNT_MAX_SEGS;
	(void)snprintf(gone, sizeof(gone), "%s", name);
	config.name = gone;
	assert_int_equal(shunt_pool_create(&pool, &config), 0);
	memset(gone, 'x', sizeof(gone) - 1);
	assert_int_equal(shunt_pool_extend(pool, 1), 0);
	assert_int_equal(regions_mapped(), 2);
	assert_int_equal(shunt_pool_buffer_size(pool), 8192);
	assert_int_equal(shunt_pool_take(pool, packets, 3), 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal((uintptr_t)packets[i]->buf % 4096, 0);
		assert_int_equal((uintptr_t)packets[i] % 64, 0);
		packets[i]->segs[SHUNT_MAX_SEGS - 1].len = i;
	}
	assert_int_equal(packets[0]->segs[SHUNT_MAX_SEGS - 1].len, 0);
	shunt_packets_release(packets, 3);
	assert_int_equal(shunt_pool_extend(pool, 0), -EINVAL);
	assert_int_equal(shunt_pool_extend(pool, UINT32_MAX), -EINVAL);
	assert_counts(pool, 4, 4);
	shunt_pool_destroy(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_take_and_release),
		cmocka_unit_test(test_order_and_reset),
		cmocka_unit_test(test_segments_come_home),
		cmocka_unit_test(test_grow_and_shrink),
		cmocka_unit_test(test_shrink_with_packets_out),
		cmocka_unit_test(test_grow_while_shrinking),
		cmocka_unit_test(test_destroy_with_packets_out),
		cmocka_unit_test(test_device),
		cmocka_unit_test(test_config),
	};

	(void)snprintf(name, sizeof(name), "test-pool-%d", (int)getpid());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
