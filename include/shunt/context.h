/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A context opens ports by name and does what they need besides moving packets: connecting, reconnecting, links going up
 * and down. It starts no threads and takes no signals. The caller waits for shunt_context_fd() to become readable, at most
 * until shunt_context_deadline(), and then calls shunt_context_process(); a caller that polls its ports anyway calls it
 * every few milliseconds. A context and its ports' control side belong to one thread.
 *
 *	null:NAME		swallows everything
 *	tap:IFNAME		a TAP device of this network namespace, made if it is not there
 *	packet:IFNAME		an existing network device, by AF_PACKET
 *	pcap:FILE		frames out of a capture file; pcap:FILE,loop over and over; pcap:FILE,write into it
 *	vif:SOCKET		the guest's side of a vif of the shuntd that made SOCKET
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <shunt/port.h>

#ifdef __cplusplus
extern "C" {
#endif

struct shunt_context;

/* -ENOMEM, -EMFILE. */
int shunt_context_new(struct shunt_context **out);
/* Closes the ports that are still open. */
void shunt_context_free(struct shunt_context *context);

int shunt_context_fd(struct shunt_context *context);
uint64_t shunt_context_deadline(
	struct shunt_context *context); /* CLOCK_MONOTONIC ns; UINT64_MAX: none */
void shunt_context_process(
	struct shunt_context *context); /* never blocks for longer than a store request takes */

struct shunt_open_options {
	size_t size;     /* sizeof(struct shunt_open_options), for versions to come */
	unsigned queues; /* wanted of a port that can have several; 0: 1 */
	unsigned
		wait_ms; /* how long to wait for the link to come up; 0: return at once, the link comes up later */
	uint32_t no_split;         /* vif: one event channel a queue instead of two */
	uint32_t no_offload;       /* vif: take no unfinished checksums and no segments */
	uint32_t filter_multicast; /* vif: only groups named by shunt_vif_multicast */
};

/*
 * Open a port. `options` may be NULL. The port is closed by shunt_port_close.
 * -EINVAL (no such kind, bad name), -ETIMEDOUT (the link did not come up in wait_ms), or what the port's kind says;
 * shunt_context_error has one line about it.
 */
int shunt_open(struct shunt_context *context, const char *name,
	const struct shunt_open_options *options, struct shunt_port **out);
const char *shunt_context_error(const struct shunt_context *context);

/* A vif's pool of memory that the host can reach: packets out of it are sent without a copy. NULL: not a vif, or not
 * connected. Ask again after the link was down: the pool is a new one. */
struct shunt_pool *shunt_vif_pool(struct shunt_port *port, unsigned queue);

/* Add to, or delete from, the multicast groups that a vif receives. -EOPNOTSUPP: not a vif. -ENOTCONN, -EAGAIN. */
int shunt_vif_multicast(struct shunt_port *port, const uint8_t mac[6], bool add);

/*
 * Where the library's log lines go, for the whole process; NULL: nowhere, as at the start. Levels: 0 error, 1 warning,
 * 2 information. Call it before anything else; `sink` may be called from any thread that uses the library.
 */
void shunt_log_to(void (*sink)(void *arg, int level, const char *line), void *arg);

#ifdef __cplusplus
}
#endif
