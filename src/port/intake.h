/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What ports share that read frames of unknown length: buffers to read into, and a descriptor to sleep on.
 *
 * Before each read there must be room for the longest frame, so an intake keeps packets in reserve: as many as a frame
 * of SHUNT_MAX_FRAME bytes needs, for each frame of a batch. A frame that fills several becomes a chain (each segment's
 * packet is the one that its bytes are in); what a frame left unused serves the next one.
 *
 * When the pool is empty nothing is read: the kernel keeps what came and slows its senders down or drops. A level
 * triggered descriptor would stay readable meanwhile and nobody could sleep, so the descriptor given out is an epoll
 * one. The intake takes the real one out of it until buffers are back, looked for every INTAKE_RETRY ns.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <shunt/packet.h>
#include <shunt/pool.h>

enum {
	INTAKE_FRAMES = 16,                 /* most frames a batch reads at once */
	INTAKE_PIECES = 1 + SHUNT_MAX_SEGS, /* most buffers that one frame is spread over */
	INTAKE_RESERVE = 64,                /* most buffers taken ahead: they may be a guest's */
	INTAKE_OWN_PACKETS =
		2 * INTAKE_FRAMES, /* of the intake's own pool, which holds a frame in each */
	INTAKE_RETRY = 1000000,    /* ns */
};

struct intake {
	struct shunt_pool *pool;
	struct shunt_pool *own; /* NULL once the caller gave a pool */
	uint32_t lead;          /* bytes kept free before a frame */
	uint32_t room;          /* bytes that one buffer holds */
	uint32_t capacity;      /* bytes of the longest frame that fits */
	unsigned pieces;        /* buffers in reserve for one frame */
	unsigned nspare;
	bool starved; /* the last ready found too few buffers */
	bool muted;   /* fd is not in epfd */
	bool ended;   /* and never will be again */
	int fd;       /* not closed by the intake; -1: none */
	int epfd;
	uint64_t retry; /* when to look for buffers again, CLOCK_MONOTONIC ns */
	struct shunt_packet *spare[INTAKE_RESERVE];
};

/*
 * Begin with a pool of its own. Frames are received `lead` bytes behind the headroom, so that a tag can be put in.
 * The fd stays the caller's, -1 for a port that has none to sleep on. Errors: -ENOMEM, epoll's.
 */
int intake_init(struct intake *in, int fd, uint32_t lead);
void intake_fini(struct intake *in);

/* Take buffers from this pool from now on. -EINVAL if it cannot hold one frame of `frame` bytes. */
int intake_use_pool(struct intake *in, struct shunt_pool *pool, uint32_t frame);

/* Reserve for up to `frames` frames. Returns for how many there are buffers, at most INTAKE_FRAMES. */
unsigned intake_ready(struct intake *in, unsigned frames);

/* The buffers of frame `frame` of those reserved, counted from 0: at most INTAKE_PIECES. Returns the number. */
unsigned intake_iov(const struct intake *in, unsigned frame, struct iovec *iov);

/*
 * Make a packet of frame `frame`, into whose buffers `len` bytes (at most the capacity) were read. The caller's.
 * Frames that are left out keep their buffers in reserve.
 */
struct shunt_packet *intake_take(struct intake *in, unsigned frame, uint32_t len);

/* The batch is over in which `frames` frames were reserved: what was not taken stays in reserve. */
void intake_done(struct intake *in, unsigned frames);

/* The descriptor will give no more frames: stay asleep. */
void intake_end(struct intake *in);

/* The port operations of a queue that has a descriptor. */
bool intake_arm(struct intake *in);
uint64_t intake_deadline(const struct intake *in);
