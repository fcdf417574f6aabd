/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the tests of packets share: frames made by hand, memory that ends at a page nobody may touch, and checksums the
 * slow way, from RFC 1071's words, independent of the code under test.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <shunt/packet.h>

enum { EDGE_SIZE = 1 << 17 };

/* EDGE_SIZE bytes in front of an untouchable page. */
static inline uint8_t *edge_make(void)
{
	uint8_t *map = mmap(
		NULL, EDGE_SIZE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(map != MAP_FAILED);
	assert_int_equal(mprotect(map + EDGE_SIZE, 4096, PROT_NONE), 0);
	return map;
}

static inline void edge_free(uint8_t *edge)
{
	assert_int_equal(munmap(edge, EDGE_SIZE + 4096), 0);
}

/* Where `len` bytes end at the edge. */
static inline uint8_t *edge_at(uint8_t *edge, size_t len)
{
	return edge + EDGE_SIZE - len;
}

/* xorshift64*: the same numbers on every run. */
static inline uint32_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)((*state * 2685821657736338717ull) >> 32);
}

static inline void fill_random(uint8_t *to, size_t len, uint64_t *state)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)next_random(state);
}

/* The sum of big-endian words, folded after every one. */
static inline uint16_t naive_sum(const uint8_t *p, size_t len, uint16_t start)
{
	uint32_t sum = start;

	for (size_t i = 0; i < len; i++) {
		sum += (i & 1) ? p[i] : (uint32_t)p[i] << 8;
		if (sum > 0xffff)
			sum -= 0xffff;
	}
	return (uint16_t)sum;
}

static inline uint16_t naive_pseudo(const uint8_t *ip, uint8_t protocol, uint32_t l4_len)
{
	uint8_t tail[8] = {(uint8_t)(l4_len >> 24), (uint8_t)(l4_len >> 16), (uint8_t)(l4_len >> 8),
		(uint8_t)l4_len, 0, 0, 0, protocol};
	uint16_t addresses = ip[0] >> 4 == 4 ? naive_sum(ip + 12, 8, 0) : naive_sum(ip + 8, 32, 0);

	return naive_sum(tail, 8, addresses);
}

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] * 256 + p[1]);
}

static inline uint32_t get32(const uint8_t *p)
{
	return get16(p) * 65536u + get16(p + 2);
}

static inline void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v / 256);
	p[1] = (uint8_t)v;
}

static inline void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

/* What a made frame is to be. */
struct shape {
	bool ipv6;
	bool tagged;        /* an 802.1Q tag in the bytes */
	uint8_t protocol;   /* 6 or 17 */
	uint8_t ip_options; /* bytes, a multiple of 4; with IPv6 of 8: a destination options header */
	uint8_t tcp_options; /* bytes, a multiple of 4 */
	uint8_t tcp_flags;
	uint32_t payload;
};

/* Offsets in a made frame. */
struct made {
	uint32_t l3;
	uint32_t l4;
	uint32_t payload;
	uint32_t len;
};

/* Write a frame with right IP checksum, random payload, and only the pseudo-header's sum in the layer 4 checksum. */
static inline struct made frame_make(uint8_t *to, const struct shape *shape, uint64_t *seed)
{
	static const uint8_t macs[12] = {
		2, 0x11, 0x22, 0x33, 0x44, 0x55, 2, 0x66, 0x77, 0x88, 0x99, 0xaa};
	struct made made = {.l3 = shape->tagged ? 18 : 14};
	uint32_t ip_len = (shape->ipv6 ? 40u : 20u) + shape->ip_options;
	uint32_t l4_header = shape->protocol == 6 ? 20u + shape->tcp_options : 8u;
	uint8_t *ip = to + made.l3;
	uint8_t *l4;

	made.l4 = made.l3 + ip_len;
	made.payload = made.l4 + l4_header;
	made.len = made.payload + shape->payload;
	l4 = to + made.l4;
	memset(to, 0, made.payload);
	memcpy(to, macs, sizeof(macs));
	if (shape->tagged) {
		put16(to + 12, 0x8100);
		put16(to + 14, 0x6123);
	}
	put16(to + made.l3 - 2, shape->ipv6 ? 0x86dd : 0x0800);
	if (shape->ipv6) {
		put32(ip, 0x60012345);
		put16(ip + 4, made.len - made.l3 - 40);
		ip[6] = shape->ip_options ? 60 : shape->protocol;
		ip[7] = 64;
		fill_random(ip + 8, 32, seed);
		if (shape->ip_options) {
			ip[40] = shape->protocol;
			ip[41] = (uint8_t)(shape->ip_options / 8 - 1);
			ip[42] = 1; /* PadN */
			ip[43] = (uint8_t)(shape->ip_options - 4);
		}
	} else {
		ip[0] = (uint8_t)(0x40 + ip_len / 4);
		ip[1] = 0x02; /* ECT(0) */
		put16(ip + 2, made.len - made.l3);
		put16(ip + 4, 0xfffe);
		put16(ip + 6, 0x4000);
		ip[8] = 64;
		ip[9] = shape->protocol;
		fill_random(ip + 12, 8, seed);
		memset(ip + 20, 1, shape->ip_options);
		put16(ip + 10, (uint16_t)~naive_sum(ip, ip_len, 0));
	}
	put16(l4, 40000);
	put16(l4 + 2, 5201);
	if (shape->protocol == 6) {
		put32(l4 + 4, 0xffffff00);
		put32(l4 + 8, 0x12345678);
		l4[12] = (uint8_t)(l4_header / 4 << 4);
		l4[13] = shape->tcp_flags;
		put16(l4 + 14, 0x7210);
		put16(l4 + 16, naive_pseudo(ip, 6, made.len - made.l4));
		memset(l4 + 20, 1, shape->tcp_options);
	} else {
		put16(l4 + 4, made.len - made.l4);
		put16(l4 + 6, naive_pseudo(ip, 17, made.len - made.l4));
	}
	fill_random(to + made.payload, shape->payload, seed);
	return made;
}
