/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The local hypervisor's sockets: guests' requests (wire.h) and the store's byte streams (store_wire.h).
 *
 * One connection to a vif's socket is one domain. Who it is was decided by which socket it came through and by the uid
 * that the kernel names; what it says only asks for things. A connection that breaks the protocol, does not read its
 * replies or ends is dropped for a named reason, its domain with it; one that asks for what it may not have is told so
 * and goes on.
 *
 * Everything belongs to the hypervisor's thread. No call blocks.
 */
#pragma once

#include <stdint.h>
#include <sys/socket.h>

#include "platform/local/hv.h"

struct hv_server;

enum hv_drop {
	HV_DROP_CLOSED,
	HV_DROP_SHORT,
	HV_DROP_OVERSIZED,
	HV_DROP_UNKNOWN_OP,
	HV_DROP_NOT_ZERO,
	HV_DROP_FDS,
	HV_DROP_NO_HELLO,
	HV_DROP_SECOND_HELLO,
	HV_DROP_VERSION,
	HV_DROP_REFUSED,
	HV_DROP_NOT_READING,
	HV_DROP_TOO_MANY,
	HV_DROP_STORE_UID,
	HV_DROP_FAILED,
	HV_DROP_KICKED,
	HV_DROPS
};

extern const char *const hv_drop_names[HV_DROPS];

/*
 * A guest says hello. To let it in: make its domain with hv_domain_create(), set *domid and the vif's *handle, return
 * 0. To refuse: a negative errno, and the reason for its eyes in why[size].
 */
typedef int hv_attach_fn(void *arg, const struct ucred *peer, domid_t *domid, uint32_t *handle,
	char *why, size_t size);

/* A guest that was let in is gone: take its back ends down, then hv_domain_destroy() it. `why` says how it ended. */
typedef void hv_guest_gone_fn(void *arg, domid_t domid, const char *why);

/* -ENOMEM, -EMFILE. */
int hv_server_new(struct hv_server **out, struct hv *hv);
/* Drops all connections as HV_DROP_KICKED, and closes the listening sockets. NULL is allowed. */
void hv_server_free(struct hv_server *server);

/* Readable when hv_server_process() has something to do; hv_fd() is part of it. */
int hv_server_fd(const struct hv_server *server);
/* A bounded piece of work: of each connection that is ready a few requests. */
void hv_server_process(struct hv_server *server);

/*
 * Take guests from a listening, non-blocking AF_UNIX SOCK_SEQPACKET socket, which becomes the server's, also on
 * failure. At most HV_SERVER_WAITING of its connections may be without a domain; one more, and the oldest of them is
 * dropped. -ENOMEM, -errno of epoll_ctl.
 */
enum { HV_SERVER_WAITING = 8 };
int hv_server_listen(
	struct hv_server *server, int fd, hv_attach_fn *attach, hv_guest_gone_fn *gone, void *arg);
/* Likewise store clients, all as `domid`, from a SOCK_STREAM socket. As domain 0 only root and this process's own user. */
int hv_server_listen_store(struct hv_server *server, int fd, domid_t domid);
/* Close a listening socket. Its guests stay, except those without a domain. */
void hv_server_unlisten(struct hv_server *server, int fd);

/* Drop a guest's connection; `gone` runs with `why`. -ENOENT. */
int hv_server_kick(struct hv_server *server, domid_t domid, const char *why);

/* How many connections were dropped for a reason, ever. */
uint64_t hv_server_dropped(const struct hv_server *server, enum hv_drop which);
