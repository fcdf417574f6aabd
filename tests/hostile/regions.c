/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that is not what it is said to be: unsealed, cut short, full of holes, too much, too many. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "world.h"

enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW, SIZE = 16 * SHUNT_PAGE_SIZE };

static int add(struct raw *r, int fd, uint64_t size, uint64_t flags, struct wire_reply *reply)
{
	const struct wire_request request = {
		.op = WIRE_REGION_ADD, .id = ++r->last_id, .arg = {size, flags}};

	return raw_call_fds(r, &request, NULL, 0, &fd, 1, reply, NULL);
}

static void expect(struct raw *r, const char *what, int fd, uint64_t size, const char *why)
{
	struct wire_reply reply = {0};
	int err = add(r, fd, size, 0, &reply);

	if (err >= 0 || err == -EPIPE || !strstr(reply.why, why))
		raw_die("%s: answered %d '%s', not '%s'", what, err, reply.why, why);
	(void)close(fd);
}

static void not_sealed(struct raw *r, unsigned arg)
{
	expect(r, "no seal", raw_memfd(SIZE, 0), SIZE, "not sealed against shrinking");
	expect(r, "shrinks", raw_memfd(SIZE, F_SEAL_GROW), SIZE, "not sealed against shrinking");
	expect(r, "grows", raw_memfd(SIZE, F_SEAL_SHRINK), SIZE, "not sealed against growing");
	expect(r, "write", raw_memfd(SIZE, SEALS | F_SEAL_WRITE), SIZE, "cannot be mapped");
	expect(r, "future write", raw_memfd(SIZE, SEALS | F_SEAL_FUTURE_WRITE), SIZE,
		"cannot be mapped");
}

static void not_the_size(struct raw *r, unsigned arg)
{
	expect(r, "truncated", raw_memfd(SIZE - SHUNT_PAGE_SIZE, SEALS), SIZE,
		"not of the size announced");
	expect(r, "longer", raw_memfd(SIZE + SHUNT_PAGE_SIZE, SEALS), SIZE,
		"not of the size announced");
	expect(r, "empty", raw_memfd(0, SEALS), 0, "not a number of pages");
	expect(r, "half a page", raw_memfd(SIZE + 100, SEALS), SIZE + 100, "not a number of pages");
	expect(r, "announced as 1 TiB", raw_memfd(SIZE, SEALS), 1ull << 40,
		"not a number of pages");
	expect(r, "announced as most", raw_memfd(SIZE, SEALS), UINT64_MAX & ~(uint64_t)4095,
		"not a number of pages");
}

static void sparse(struct raw *r, unsigned arg)
{
	int fd = memfd_create("raw", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, SIZE) || fcntl(fd, F_ADD_SEALS, SEALS))
		raw_die("memfd: %s", strerror(errno));
	expect(r, "sparse", fd, SIZE, "sparse");
}

static void read_only_fd(struct raw *r, unsigned arg)
{
	char path[64];
	int fd = raw_memfd(SIZE, SEALS);
	int read_only;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	read_only = open(path, O_RDONLY | O_CLOEXEC);
	(void)close(fd);
	expect(r, "opened for reading", read_only, SIZE, "cannot be mapped");
}

static void oversized(struct raw *r, unsigned arg)
{
	/* evil's limit is 32 MiB. */
	expect(r, "33 MiB", raw_memfd(33 << 20, SEALS), 33 << 20, "memory-limit");
}

static void limit_in_pieces(struct raw *r, unsigned arg)
{
	int fd = raw_memfd(4 << 20, SEALS);
	struct wire_reply reply;
	unsigned n = 0;

	/* The same memory again and again counts each time. */
	while (add(r, fd, 4 << 20, 0, &reply) == 0 && n++ < 100)
		;
	if (n != 7 || !strstr(reply.why, "memory-limit")) /* the attacker has half a MiB already */
		raw_die("%u times 4 MiB: %s", n, reply.why);
	(void)close(fd);
}

static void too_many(struct raw *r, unsigned arg)
{
	int fd = raw_memfd(SHUNT_PAGE_SIZE, SEALS);
	struct wire_reply reply;
	unsigned n = 0;

	while (add(r, fd, SHUNT_PAGE_SIZE, n & 1, &reply) == 0 && n++ < 1000)
		;
	if (n >= 200 || !strstr(reply.why, "too-many-regions"))
		raw_die("%u regions: %s", n, reply.why);
	(void)close(fd);
}

static void odd_flags(struct raw *r, unsigned arg)
{
	int fd = raw_memfd(SIZE, SEALS);
	struct wire_reply reply;

	if (add(r, fd, SIZE, 0xfffffffe, &reply) != -EINVAL ||
		add(r, fd, SIZE, 1ull << 32, &reply) != -EINVAL)
		raw_die("unknown flags were taken: %s", reply.why);
	(void)close(fd);
}

/* Taken, granted, used, and then emptied: the host reads zeros and writes into new pages, and does not fault. */
static void holes_later(struct raw *r, unsigned arg)
{
	uint64_t end = raw_ms() + 500;

	raw_post(r, 200, 0);
	for (unsigned n = 0; raw_ms() < end; n++) {
		for (unsigned i = 0; i < 64; i++) {
			raw_frame(r, raw_tx_page(r, i), 1000, i);
			raw_slot(r, raw_tx_ref(i), 0, 0, i, 1000);
		}
		raw_push(r);
		if (fallocate(r->region, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    (off_t)RAW_PAGE_TX * SHUNT_PAGE_SIZE,
			    (off_t)(RAW_PAGES - RAW_PAGE_TX) * SHUNT_PAGE_SIZE))
			raw_die("a hole: %s", strerror(errno));
		raw_await(r, 64, RAW_ANY);
	}
}

/* The rings themselves. */
static void hole_in_rings(struct raw *r, unsigned arg)
{
	for (unsigned i = 0; i < 10; i++)
		(void)raw_send(r, 100, i);
	(void)fallocate(
		r->region, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 2 * SHUNT_PAGE_SIZE);
	raw_ring(r);
}

#define REGION(text, fn)                                                                           \
	{                                                                                          \
		.name = text, .attack = fn, .start = RAW_UP                                        \
	}

static const struct hostile_case cases[] = {
	REGION("not-sealed", not_sealed),
	REGION("not-the-size", not_the_size),
	REGION("sparse", sparse),
	REGION("read-only", read_only_fd),
	REGION("oversized", oversized),
	REGION("limit-in-pieces", limit_in_pieces),
	REGION("too-many", too_many),
	REGION("odd-flags", odd_flags),
	{.name = "holes-later",
		.attack = holes_later,
		.start = RAW_UP,
		.good = FRAMES_ANY,
		.garbled = true,
		.flood = 8},
	{.name = "hole-in-rings",
		.attack = hole_in_rings,
		.start = RAW_UP,
		.good = 10,
		.reason = "TX request producer is impossible"},
};

const struct hostile_group group_regions = {
	.name = "regions", .cases = cases, .n = ARRAY_SIZE(cases), .workers = 1};
