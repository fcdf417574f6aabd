/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Internet checksum (RFC 1071), alone and while copying.
 *
 * 2^16 is 1 modulo 65535, and so are 2^32 and 2^64: bytes may be added up as 32-bit words in the machine's own order,
 * without carries, in lanes of 64 bits (2^32 bytes are 2^30 words: they cannot overflow). A rotation by 8 bits at the
 * end turns a little-endian sum into the big-endian one.
 */
#include <stddef.h>
#include <string.h>

#include "base/util.h"
#include "packet/resolve.h"

enum { BLOCK = 64 };

#define LOW_WORD 0xffffffffull

/* Sum `blocks` blocks, copying them to `to` if COPY. A macro because GCC splits vectors before it inlines: the body must
 * be compiled for its target. */
#define CSUM_BLOCKS(NAME, TARGET, COPY)                                                            \
	TARGET static uint64_t NAME(uint8_t *to, const uint8_t *from, uint32_t blocks)             \
	{                                                                                          \
		typedef uint64_t lanes __attribute__((vector_size(32)));                           \
		lanes low = {0};                                                                   \
		lanes high = {0};                                                                  \
		for (; blocks; blocks--, from += BLOCK) {                                          \
			lanes a;                                                                   \
			lanes b;                                                                   \
			memcpy(&a, from, sizeof(a));                                               \
			memcpy(&b, from + sizeof(a), sizeof(b));                                   \
			if (COPY) {                                                                \
				memcpy(to, &a, sizeof(a));                                         \
				memcpy(to + sizeof(a), &b, sizeof(b));                             \
				to += BLOCK;                                                       \
			}                                                                          \
			low += (a & LOW_WORD) + (b & LOW_WORD);                                    \
			high += (a >> 32) + (b >> 32);                                             \
		}                                                                                  \
		low += high;                                                                       \
		return low[0] + low[1] + low[2] + low[3];                                          \
	}

CSUM_BLOCKS(add_blocks, , 0)
CSUM_BLOCKS(copy_blocks, , 1)

#if defined(__x86_64__) && !defined(SHUNT_BASELINE)
#define AVX2 __attribute__((target("avx2")))
CSUM_BLOCKS(add_blocks_avx2, AVX2, 0)
CSUM_BLOCKS(copy_blocks_avx2, AVX2, 1)
#define HAVE_AVX2() __builtin_cpu_supports("avx2")
#else
#define HAVE_AVX2()      0
#define add_blocks_avx2  add_blocks
#define copy_blocks_avx2 copy_blocks
#endif

/* One's complement addition: the carry comes back in at the bottom. */
static inline uint64_t add_around(uint64_t a, uint64_t b)
{
	uint64_t sum = a + b;

	return sum + (sum < a);
}

static inline __attribute__((always_inline)) uint64_t csum(
	uint8_t *to, const uint8_t *from, uint32_t len, uint64_t sum, const int copy)
{
	uint64_t words = 0;
	uint32_t blocks = len / BLOCK;
	uint64_t eight;
	uint32_t four;
	uint16_t two;

#define STEP(VAR)                                                                                  \
	do {                                                                                       \
		memcpy(&(VAR), from, sizeof(VAR));                                                 \
		from += sizeof(VAR);                                                               \
		if (copy) {                                                                        \
			memcpy(to, &(VAR), sizeof(VAR));                                           \
			to += sizeof(VAR);                                                         \
		}                                                                                  \
	} while (0)

	if (blocks) {
		if (copy) {
			/* NOLINTNEXTLINE(bugprone-branch-clone): two names for one function on other CPUs */
			words = HAVE_AVX2() ? copy_blocks_avx2(to, from, blocks)
					    : copy_blocks(to, from, blocks);
			to += (size_t)blocks * BLOCK;
		} else {
			/* NOLINTNEXTLINE(bugprone-branch-clone) */
			words = HAVE_AVX2() ? add_blocks_avx2(NULL, from, blocks)
					    : add_blocks(NULL, from, blocks);
		}
		from += (size_t)blocks * BLOCK;
		len %= BLOCK;
	}
	for (; len >= 8; len -= 8) {
		STEP(eight);
		words += (eight & LOW_WORD) + (eight >> 32);
	}
	if (len & 4) {
		STEP(four);
		words += four;
	}
	if (len & 2) {
		STEP(two);
		words += two;
	}
	if (len & 1) {
		uint8_t last[2] = {*from, 0};

		if (copy)
			*to = last[0];
		memcpy(&two, last, sizeof(two));
		words += two;
	}
#undef STEP
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	words = words << 8 | words >> 56;
#endif
	return add_around(sum, words);
}

uint64_t csum_add(const void *from, uint32_t len, uint64_t sum)
{
	return csum(NULL, from, len, sum, 0);
}

uint64_t csum_copy(void *to, const void *from, uint32_t len, uint64_t sum)
{
	return csum(to, from, len, sum, 1);
}

uint16_t csum_fold(uint64_t sum)
{
	sum = (sum & LOW_WORD) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}
