/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Software offloads.
 *
 * What to do is decided on the source's head, which is private. Its bytes are then read once, front to back, by a
 * reader; checksums are added up while they are copied. Results are only stored into the new frames, never read back.
 *
 * Cutting (TSO): the headers' sums are taken once with every field that differs between frames left out; a frame's own
 * fields and its payload's sum are added to them.
 */
#include "packet/resolve.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/util.h"
#include "packet/headers.h"
#include "packet/pool.h"

enum {
	TCP_HEADER = 20,
	TCP_SEQUENCE = 4,
	TCP_FLAGS = 13,
	TCP_CHECKSUM = 16,
	TCP_FIN = 0x01,
	TCP_PSH = 0x08,
	TCP_CWR = 0x80,
	UDP_HEADER = 8,
	UDP_CHECKSUM = 6,
	IPV4_LENGTH = 2,
	IPV4_ID = 4,
	IPV4_CHECKSUM = 10,
	IPV4_ADDRESSES = 12, /* source and destination */
	IPV6_LENGTH = 4,
	IPV6_ADDRESSES = 8,
	IPV6_HEADER = 40,
};

/* Where reading a packet has come to. */
struct reader {
	const struct shunt_packet *packet;
	const uint8_t *at;
	uint32_t left; /* in this piece */
	unsigned seg;  /* the next piece */
};

/* A sum over pieces of any length. */
struct running_sum {
	uint64_t sum;
	bool odd; /* bytes so far */
};

static void sum_piece(struct running_sum *running, uint8_t *to, const uint8_t *from, uint32_t len)
{
	uint64_t sum;

	/* A piece that starts at an odd place has its bytes in the other halves of the words: rotate in and out. */
	if (!running->odd) {
		running->sum = csum_copy(to, from, len, running->sum);
	} else {
		sum = csum_copy(to, from, len, running->sum << 8 | running->sum >> 56);
		running->sum = sum << 56 | sum >> 8;
	}
	running->odd ^= len & 1;
}

static struct reader reader_start(const struct shunt_packet *packet, uint32_t offset)
{
	return (struct reader){
		.packet = packet,
		.at = packet->data + offset,
		.left = packet->head_len - offset,
	};
}

/* Copy the next `len` bytes, adding them to *running unless it is NULL. */
static void reader_copy(
	struct reader *reader, uint8_t *to, uint32_t len, struct running_sum *running)
{
	while (len) {
		uint32_t n = MIN(len, reader->left);

		if (n == 0) {
			if (reader->seg == reader->packet->nsegs) {
				/* Segments shorter than `len` says: not what the buffer held before. */
				memset(to, 0, len);
				return;
			}
			reader->at = reader->packet->segs[reader->seg].data;
			reader->left = reader->packet->segs[reader->seg].len;
			reader->seg++;
			continue;
		}
		if (running)
			sum_piece(running, to, reader->at, n);
		else
			memcpy(to, reader->at, n);
		reader->at += n;
		reader->left -= n;
		to += n;
		len -= n;
	}
}

/* Bytes of a frame that its first buffer holds. */
static uint32_t first_room(const struct shunt_pool *pool)
{
	return pool->config.buffer_size - pool->headroom;
}

/* Segments, beyond the first buffer, that a frame of `len` bytes needs. */
static uint32_t segs_needed(const struct shunt_pool *pool, uint32_t len)
{
	uint32_t room = first_room(pool);

	return len <= room ? 0 : (len - room - 1) / pool->config.buffer_size + 1;
}

/* Does the pool have what `frames` frames take that have `segs` segments each? */
static bool pool_suffices(const struct shunt_pool *pool, uint32_t frames, uint32_t segs)
{
	return segs <= pool->config.max_segs && (uint64_t)frames * (1 + segs) <= pool->nfree;
}

/* A frame of `len` bytes yet to be written, with what `like` is known to be. The pool must suffice. */
static struct shunt_packet *frame_take(
	struct shunt_pool *pool, const struct shunt_packet *like, uint32_t len)
{
	struct shunt_packet *frame = pool_pop(pool);

	pool_reset(pool, frame);
	frame->len = len;
	frame->head_len = MIN(len, first_room(pool));
	frame->flags = like->flags & ~(uint32_t)SHUNT_PKT_VIEW;
	frame->vlan = like->vlan;
	frame->hash = like->hash;
	frame->hash_type = like->hash_type;
	for (uint32_t left = len - frame->head_len; left;) {
		struct shunt_packet *buffer = pool_pop(pool);
		uint32_t n = MIN(left, pool->config.buffer_size);

		frame->segs[frame->nsegs++] = (struct shunt_seg){buffer->buf, buffer, n};
		left -= n;
	}
	return frame;
}

/* Write a frame from its byte `offset` on, which lies in its head. */
static void frame_fill(struct shunt_packet *frame, uint32_t offset, struct reader *reader,
	struct running_sum *running)
{
	reader_copy(reader, frame->data + offset, frame->head_len - offset, running);
	for (unsigned i = 0; i < frame->nsegs; i++)
		reader_copy(reader, frame->segs[i].data, frame->segs[i].len, running);
}

/* The frame's layer 4 checksum has been made. */
static void frame_finished(struct shunt_packet *frame)
{
	frame->flags &=
		~(uint32_t)(SHUNT_PKT_CSUM_PARTIAL | SHUNT_PKT_CSUM_BAD_L3 | SHUNT_PKT_CSUM_BAD_L4);
	frame->flags |= SHUNT_PKT_CSUM_VALID;
}

int packet_csum_locate(struct shunt_packet *packet)
{
	struct packet_headers headers;
	uint32_t start = packet->csum_start;
	uint32_t offset = packet->csum_offset;

	packet_parse(packet, &headers);
	if (headers.l4 == 0 || headers.fragment)
		return -EINVAL;
	if (start == 0 || start == headers.l4) {
		uint32_t field = headers.protocol == PROTO_TCP ? TCP_CHECKSUM : UDP_CHECKSUM;

		if (headers.protocol != PROTO_TCP && headers.protocol != PROTO_UDP)
			return -EINVAL;
		if (start != 0 && offset != field)
			return -EINVAL;
		packet->csum_start = headers.l4;
		packet->csum_offset = (uint16_t)field;
		return 0;
	}
	if (headers.protocol == PROTO_TCP || start < headers.l4 + (uint32_t)UDP_HEADER)
		return -EINVAL;
	if (offset != TCP_CHECKSUM && offset != UDP_CHECKSUM)
		return -EINVAL;
	return start + offset + 2 <= packet->head_len ? 0 : -EINVAL;
}

static int resolve_whole(
	struct shunt_pool *pool, struct shunt_packet *packet, struct shunt_packet **out)
{
	bool partial = packet->flags & SHUNT_PKT_CSUM_PARTIAL;
	struct running_sum running = {0};
	struct shunt_packet *frame;
	struct reader reader;
	uint32_t field;
	uint16_t sum;

	if (partial) {
		int err = packet_csum_locate(packet);

		if (err)
			return err;
		if ((uint32_t)packet->csum_start + packet->csum_offset + 2 > first_room(pool))
			return -EINVAL;
	}
	if (!pool_suffices(pool, 1, segs_needed(pool, packet->len)))
		return -ENOBUFS;
	frame = frame_take(pool, packet, packet->len);
	reader = reader_start(packet, 0);
	out[0] = frame;
	if (!partial) {
		frame_fill(frame, 0, &reader, NULL);
		return 1;
	}
	reader_copy(&reader, frame->data, packet->csum_start, NULL);
	frame_fill(frame, packet->csum_start, &reader, &running);
	sum = (uint16_t)~csum_fold(running.sum);
	field = packet->csum_start + packet->csum_offset;
	/* 0 in UDP means "no checksum" (RFC 768); in TCP both are the same number (PKT-CSUM-ZERO). */
	store_be16(frame->data + field, sum ? sum : 0xffff);
	frame_finished(frame);
	return 1;
}

/* What the frames of a GSO packet have in common. */
struct cut {
	const uint8_t *head;
	uint32_t l3;
	uint32_t l4;
	uint32_t payload; /* offset of it */
	bool ipv4;
	uint16_t ip_sum; /* IPv4 header without length, id and checksum */
	uint64_t
		tcp_sum; /* TCP header without sequence number, flags and checksum, and pseudo-header without length */
	uint16_t id;
	uint32_t sequence;
	uint16_t flags; /* data offset and flags, one word of the sum */
};

static int cut_prepare(const struct shunt_packet *packet, struct cut *cut)
{
	struct packet_headers headers;
	const uint8_t *head = packet->data;
	const uint8_t *ip;
	const uint8_t *tcp;
	uint16_t type;
	uint32_t tcp_len;
	uint64_t sum;

	packet_parse(packet, &headers);
	switch (packet->gso_type) {
	case SHUNT_GSO_TCPV4:
		type = TYPE_IPV4;
		break;
	case SHUNT_GSO_TCPV6:
		type = TYPE_IPV6;
		break;
	default:
		return -EINVAL;
	}
	if (packet->gso_size == 0 || headers.type != type || headers.l4 == 0 ||
		headers.protocol != PROTO_TCP || headers.fragment || headers.routed)
		return -EINVAL;
	ip = head + headers.l3;
	tcp = head + headers.l4;
	tcp_len = (tcp[12] >> 4) * 4u;
	if (tcp_len < TCP_HEADER || headers.l4 + tcp_len > packet->head_len)
		return -EINVAL;
	*cut = (struct cut){
		.head = head,
		.l3 = headers.l3,
		.l4 = headers.l4,
		.payload = headers.l4 + tcp_len,
		.ipv4 = type == TYPE_IPV4,
		.sequence = load_be32(tcp + TCP_SEQUENCE),
		.flags = load_be16(tcp + TCP_FLAGS - 1),
	};
	sum = csum_add(tcp, TCP_SEQUENCE, PROTO_TCP);
	sum = csum_add(tcp + 8, 4, sum);
	sum = csum_add(tcp + 14, 2, sum);
	sum = csum_add(tcp + 18, tcp_len - 18, sum);
	if (cut->ipv4) {
		uint64_t ip_sum = csum_add(ip, IPV4_LENGTH, 0);

		ip_sum = csum_add(ip + 6, 4, ip_sum);
		ip_sum = csum_add(ip + 12, headers.l4 - headers.l3 - 12u, ip_sum);
		cut->ip_sum = csum_fold(ip_sum);
		cut->id = load_be16(ip + IPV4_ID);
		sum = csum_add(ip + IPV4_ADDRESSES, 8, sum);
	} else {
		sum = csum_add(ip + IPV6_ADDRESSES, 32, sum);
	}
	cut->tcp_sum = csum_fold(sum);
	return 0;
}

/* Make frame number `index` with the next `len` bytes of payload (PKT-GSO-ID). */
static void cut_write(const struct cut *cut, struct shunt_packet *frame, struct reader *reader,
	uint32_t index, uint32_t offset, bool last)
{
	uint16_t keep = (uint16_t) ~((index ? TCP_CWR : 0) | (last ? 0 : TCP_FIN | TCP_PSH));
	struct running_sum running = {0};
	uint8_t *ip = frame->data + cut->l3;
	uint8_t *tcp = frame->data + cut->l4;
	uint32_t sequence = cut->sequence + offset;
	uint16_t flags = cut->flags & keep;
	uint64_t sum;

	memcpy(frame->data, cut->head, cut->payload);
	frame_fill(frame, cut->payload, reader, &running);
	if (cut->ipv4) {
		uint16_t length = (uint16_t)(frame->len - cut->l3);
		uint16_t id = (uint16_t)(cut->id + index);

		store_be16(ip + IPV4_LENGTH, length);
		store_be16(ip + IPV4_ID, id);
		store_be16(ip + IPV4_CHECKSUM,
			(uint16_t)~csum_fold((uint64_t)cut->ip_sum + length + id));
	} else {
		store_be16(ip + IPV6_LENGTH, (uint16_t)(frame->len - cut->l3 - IPV6_HEADER));
	}
	store_be32(tcp + TCP_SEQUENCE, sequence);
	tcp[TCP_FLAGS] = (uint8_t)flags;
	sum = (uint64_t)cut->tcp_sum + csum_fold(running.sum) + sequence + flags +
	      (frame->len - cut->l4);
	store_be16(tcp + TCP_CHECKSUM, (uint16_t)~csum_fold(sum));
	frame_finished(frame);
}

static int resolve_cut(struct shunt_pool *pool, const struct shunt_packet *packet,
	struct shunt_packet **out, unsigned max)
{
	struct reader reader;
	struct cut cut;
	uint32_t payload;
	uint32_t longest;
	uint32_t frames;
	int err;

	err = cut_prepare(packet, &cut);
	if (err)
		return err;
	payload = packet->len - cut.payload;
	longest = cut.payload + MIN(payload, packet->gso_size);
	if (cut.payload > first_room(pool) || longest - cut.l3 > UINT16_MAX)
		return -EINVAL;
	frames = payload ? (payload - 1) / packet->gso_size + 1 : 1;
	if (frames > max)
		return -E2BIG;
	if (!pool_suffices(pool, frames, segs_needed(pool, longest)))
		return -ENOBUFS;
	reader = reader_start(packet, cut.payload);
	for (uint32_t i = 0, offset = 0; i < frames; i++, offset += packet->gso_size) {
		uint32_t len = MIN(payload - offset, packet->gso_size);

		out[i] = frame_take(pool, packet, cut.payload + len);
		cut_write(&cut, out[i], &reader, i, offset, i == frames - 1);
	}
	return (int)frames;
}

int packet_resolve(struct shunt_pool *pool, struct shunt_packet *packet, struct shunt_packet **out,
	unsigned max)
{
	if (packet->gso_type != SHUNT_GSO_NONE)
		return resolve_cut(pool, packet, out, max);
	return max ? resolve_whole(pool, packet, out) : -E2BIG;
}

struct shunt_packet *packet_copy(struct shunt_pool *pool, const struct shunt_packet *packet)
{
	struct shunt_packet *copy;
	struct reader reader;

	if (!pool_suffices(pool, 1, segs_needed(pool, packet->len)))
		return NULL;
	copy = frame_take(pool, packet, packet->len);
	copy->csum_start = packet->csum_start;
	copy->csum_offset = packet->csum_offset;
	copy->gso_size = packet->gso_size;
	copy->gso_type = packet->gso_type;
	reader = reader_start(packet, 0);
	frame_fill(copy, 0, &reader, NULL);
	return copy;
}
