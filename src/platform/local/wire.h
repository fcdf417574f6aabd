/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a guest process and the local hypervisor say to each other on the guest's socket (AF_UNIX, SOCK_SEQPACKET), and
 * how one end of an event channel notifies the other. docs/local-platform.md tells the rest.
 *
 * The guest sends requests, each one datagram: struct wire_request, then for GRANT_MAP the references. Each is answered
 * in order by one struct wire_reply. At most one fd travels with either. Numbers are the host's own byte order: both
 * ends are on one machine.
 */
#pragma once

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <xen/xen.h>

#include <xen/grant_table.h>

enum {
	WIRE_VERSION = 1,
	WIRE_ARGS = 4,
	WIRE_REFS_MAX = 1024, /* HV_SHARE_PAGES */
	WIRE_WHY_SIZE = 64,
	WIRE_REGION_SHARED = 1u << 0, /* HV_REGION_SHARED */
};

/* ">" what goes with the request, "<" with the reply. Arguments not named are 0. */
enum wire_op {
	WIRE_HELLO = 1,    /* > version; < domid, vif handle, bytes of the grant table; its fd */
	WIRE_REGION_ADD,   /* > bytes, WIRE_REGION_* flags; the region's fd; < first frame */
	WIRE_REGION_DEL,   /* > first frame */
	WIRE_EVTCHN_ALLOC, /* > remote domid; < port; fd */
	WIRE_EVTCHN_BIND,  /* > remote domid, remote port; < port; fd */
	WIRE_EVTCHN_CLOSE, /* > port */
	WIRE_GRANT_MAP, /* > domid, references, read-only (0, 1); references; < handle, bytes; fd */
	WIRE_GRANT_UNMAP, /* > handle */
	WIRE_GRANT_COPY,  /* > domid | to the grant << 16, reference | offset << 32 | length << 48,
			      own frame | offset << 32 */
	WIRE_STORE,       /* < fd: a stream that speaks XenStore's protocol */
	WIRE_OPS
};

struct wire_request {
	uint16_t op;
	uint16_t zero;
	uint32_t id; /* comes back in the reply */
	uint64_t arg[WIRE_ARGS];
};
static_assert(sizeof(struct wire_request) == 40, "wire");
static_assert(
	offsetof(struct wire_request, id) == 4 && offsetof(struct wire_request, arg) == 8, "wire");

struct wire_reply {
	uint32_t id;
	int32_t status; /* 0 or negative errno */
	uint64_t arg[WIRE_ARGS];
	char why[WIRE_WHY_SIZE]; /* NUL-terminated; empty if the status is 0 */
};
static_assert(sizeof(struct wire_reply) == 104, "wire");
static_assert(
	offsetof(struct wire_reply, arg) == 8 && offsetof(struct wire_reply, why) == 40, "wire");
static_assert(sizeof(grant_ref_t) == 4, "wire");

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

/*
 * Nobody can send fds to this socket: they would be closed by whoever reads the bytes that they came with, and that can
 * take as long as their sender likes (SO_LINGER). Where the kernel does not know this, it stays possible.
 */
static inline void wire_refuse_fds(int fd)
{
	static const int none;

	(void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &none, sizeof(none));
}

/* An event is a byte. A socket that takes no more holds one already. */
static inline void wire_event_send(int fd)
{
	static const char event;

	(void)send(fd, &event, sizeof(event), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The number of events taken, at most 2048; 0: none; -EPIPE: the other end is gone and its last event was taken. */
static inline int wire_event_take(int fd)
{
	char buf[512];
	int taken = 0;

	for (int i = 0; i < 4; i++) {
		ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0)
			return taken ? taken : -EPIPE;
		taken += (int)n;
		if (n < (ssize_t)sizeof(buf))
			break;
	}
	return taken;
}
