/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The reserve is a stack: frame 0 of a batch uses the `pieces` packets at its top, frame 1 those below, so that the
 * rest never moves. intake_take empties places, intake_done closes the gaps.
 */
#include "port/intake.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"
#include "packet/pool.h"

static_assert(INTAKE_RESERVE >= INTAKE_PIECES, "a frame always has a reserve");

/* Set the sizes that follow from a pool. */
static void intake_fit(struct intake *in, struct shunt_pool *pool)
{
	uint32_t pieces;

	in->pool = pool;
	in->room = shunt_pool_buffer_size(pool) - pool->headroom;
	pieces = (SHUNT_MAX_FRAME + in->lead + in->room - 1) / in->room;
	in->pieces = MIN(pieces, 1 + pool->config.max_segs);
	in->capacity = in->pieces * in->room - in->lead;
}

static int intake_watch(struct intake *in, int op)
{
	struct epoll_event event = {.events = EPOLLIN};

	if (in->fd < 0)
		return 0;
	return epoll_ctl(in->epfd, op, in->fd, &event) ? -errno : 0;
}

int intake_init(struct intake *in, int fd, uint32_t lead)
{
	const struct shunt_pool_config config = {
		.name = "port",
		.packets = INTAKE_OWN_PACKETS,
		.buffer_size = SHUNT_MAX_FRAME + lead,
	};
	int err;

	memset(in, 0, sizeof(*in));
	in->fd = fd;
	in->epfd = -1;
	in->lead = lead;
	err = shunt_pool_create(&in->own, &config);
	if (err)
		return err;
	intake_fit(in, in->own);
	if (fd < 0)
		return 0;
	in->epfd = epoll_create1(EPOLL_CLOEXEC);
	err = in->epfd < 0 ? -errno : intake_watch(in, EPOLL_CTL_ADD);
	if (err)
		intake_fini(in);
	return err;
}

void intake_fini(struct intake *in)
{
	shunt_packets_release(in->spare, in->nspare);
	in->nspare = 0;
	shunt_pool_destroy(in->own);
	in->own = NULL;
	if (in->epfd >= 0)
		(void)close(in->epfd);
	in->epfd = -1;
}

int intake_use_pool(struct intake *in, struct shunt_pool *pool, uint32_t frame)
{
	struct shunt_pool *before = in->pool;

	if (shunt_pool_buffer_size(pool) - pool->headroom <= in->lead)
		return -EINVAL;
	intake_fit(in, pool);
	if (in->capacity < frame || shunt_pool_capacity(pool) < in->pieces) {
		intake_fit(in, before);
		return -EINVAL;
	}
	shunt_packets_release(in->spare, in->nspare);
	in->nspare = 0;
	if (pool != in->own) {
		shunt_pool_destroy(in->own);
		in->own = NULL;
	}
	return 0;
}

unsigned intake_ready(struct intake *in, unsigned frames)
{
	unsigned most = MIN((unsigned)INTAKE_FRAMES, INTAKE_RESERVE / in->pieces);
	unsigned want = MIN(frames, most) * in->pieces;

	if (in->nspare < want)
		in->nspare += shunt_pool_take(in->pool, in->spare + in->nspare, want - in->nspare);
	in->starved = in->nspare < in->pieces;
	if (!in->starved && in->muted && !in->ended)
		in->muted = intake_watch(in, EPOLL_CTL_ADD) != 0;
	return MIN(in->nspare, want) / in->pieces;
}

unsigned intake_iov(const struct intake *in, unsigned frame, struct iovec *iov)
{
	struct shunt_packet *const *top = in->spare + in->nspare - (size_t)frame * in->pieces;

	for (unsigned i = 0; i < in->pieces; i++)
		iov[i] = (struct iovec){(*--top)->data, in->room};
	iov[0].iov_base = (uint8_t *)iov[0].iov_base + in->lead;
	iov[0].iov_len -= in->lead;
	return in->pieces;
}

struct shunt_packet *intake_take(struct intake *in, unsigned frame, uint32_t len)
{
	struct shunt_packet **top = in->spare + in->nspare - (size_t)frame * in->pieces;
	struct shunt_packet *packet = *--top;
	uint32_t left;

	*top = NULL;
	packet->data += in->lead;
	packet->len = len;
	packet->head_len = MIN(len, in->room - in->lead);
	left = len - packet->head_len;
	while (left) {
		struct shunt_seg *seg = &packet->segs[packet->nsegs++];

		seg->packet = *--top;
		*top = NULL;
		seg->data = seg->packet->data;
		seg->len = MIN(left, in->room);
		left -= seg->len;
	}
	return packet;
}

void intake_done(struct intake *in, unsigned frames)
{
	unsigned to = in->nspare - frames * in->pieces;

	for (unsigned from = to; from < in->nspare; from++) {
		if (in->spare[from])
			in->spare[to++] = in->spare[from];
	}
	in->nspare = to;
}

static void intake_mute(struct intake *in)
{
	if (!in->muted)
		in->muted = intake_watch(in, EPOLL_CTL_DEL) == 0;
}

void intake_end(struct intake *in)
{
	in->ended = true;
	intake_mute(in);
}

bool intake_arm(struct intake *in)
{
	if (!in->starved || in->ended)
		return true;
	if (in->nspare + shunt_pool_available(in->pool) >= in->pieces)
		return false;
	intake_mute(in);
	in->retry = clock_ns() + INTAKE_RETRY;
	return true;
}

uint64_t intake_deadline(const struct intake *in)
{
	return in->muted && !in->ended ? in->retry : CLOCK_NEVER;
}
