/* SPDX-License-Identifier: BSD-3-Clause */
#include <assert.h>
#include <string.h>

#include <shunt/packet.h>

#include "base/util.h"
#include "packet/packet.h"

static_assert(
	sizeof(struct shunt_packet) == CACHE_LINE, "a packet without segments is one cache line");

/* The packets of the segments go home before the one that holds the list. */
static void release_segs(struct shunt_packet *packet)
{
	for (unsigned i = 0; i < packet->nsegs; i++) {
		if (packet->segs[i].packet)
			shunt_packets_release(&packet->segs[i].packet, 1);
	}
	packet->nsegs = 0;
}

void shunt_packets_release(struct shunt_packet **packets, unsigned n)
{
	unsigned first = 0;
	unsigned i;

	/* Runs of one owner go home in one call; a packet with other holders ends a run and only loses a reference. */
	for (i = 0; i < n; i++) {
		struct shunt_packet *packet = packets[i];

		if (likely(packet->refs == 0)) {
			if (packet->nsegs)
				release_segs(packet);
			if (likely(packet->owner == packets[first]->owner))
				continue;
			packets[first]->owner->release(
				packets[first]->owner, packets + first, i - first);
			first = i;
			continue;
		}
		packet->refs--;
		if (i > first)
			packets[first]->owner->release(
				packets[first]->owner, packets + first, i - first);
		first = i + 1;
	}
	if (i > first)
		packets[first]->owner->release(packets[first]->owner, packets + first, i - first);
}

uint32_t shunt_packet_copy_out(
	const struct shunt_packet *packet, uint32_t offset, void *to, uint32_t len)
{
	const uint8_t *data = packet->data;
	uint32_t part = packet->head_len;
	uint8_t *at = to;
	uint32_t copied = 0;

	for (unsigned seg = 0;; seg++) {
		if (offset < part) {
			uint32_t n = MIN(part - offset, len - copied);

			memcpy(at + copied, data + offset, n);
			copied += n;
			offset = 0;
		} else {
			offset -= part;
		}
		if (copied == len || seg == packet->nsegs)
			return copied;
		data = packet->segs[seg].data;
		part = packet->segs[seg].len;
	}
}
