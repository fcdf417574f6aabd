/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest's end of the store: XenStore's wire protocol over a connected stream socket, one request at a time, each
 * bounded by a deadline (CLOCK_MONOTONIC nanoseconds, base/clock.h; CLOCK_NEVER waits for ever).
 *
 * Requests carry ids. A reply that comes after its deadline is recognised and thrown away, so the client lives on; a
 * request that was sent in part is finished by the next call. A request that timed out may still take effect (and a
 * transaction that it started lasts until store_client_reset()).
 * The server is trusted to hold the data but not to keep the protocol: lengths and ids are checked, queues are bounded.
 *
 * Common errors of all requests, besides those that the server answers (store.h):
 *   -ETIMEDOUT  no answer before the deadline
 *   -EPROTO     the server broke the protocol; the client is dead
 *   -ENOTCONN   the client is dead: closed by the server, broken, or STORE_CLIENT_LATE_MAX answers are overdue
 *   -E2BIG      the request is longer than a message
 *   -ENOMEM     no memory for an answer, or for an event: the client is then dead
 *   -EIO        the server answered with an error that the protocol does not know
 *
 * Not thread-safe: one thread for each client, or the caller's lock.
 */
#pragma once

#include "platform/local/store.h"

#include <stddef.h>
#include <stdint.h>

#define STORE_CLIENT_LATE_MAX      64
#define STORE_CLIENT_DIRECTORY_MAX 1048576u /* bytes of names */

struct store_client;

/* Takes `fd`, a connected AF_UNIX stream socket, and closes it in the end. Up to `max_events` watch events wait for
 * store_client_next_event(). NULL if there is no memory; `fd` is then still the caller's. */
struct store_client *store_client_new(int fd, unsigned max_events);

void store_client_free(struct store_client *client);

/* Readable when there is something for store_client_process(). */
int store_client_fd(const struct store_client *client);

/* As store.h says of store_read() and its sisters; `deadline` ends the wait. */
int store_client_read(struct store_client *client, uint32_t tx, const char *path, void *buf,
	size_t size, uint64_t deadline);
int store_client_write(struct store_client *client, uint32_t tx, const char *path,
	const void *value, size_t len, uint64_t deadline);
int store_client_mkdir(
	struct store_client *client, uint32_t tx, const char *path, uint64_t deadline);
int store_client_rm(struct store_client *client, uint32_t tx, const char *path, uint64_t deadline);
int store_client_get_perms(struct store_client *client, uint32_t tx, const char *path,
	struct store_perm *perms, unsigned max, uint64_t deadline);
int store_client_set_perms(struct store_client *client, uint32_t tx, const char *path,
	const struct store_perm *perms, unsigned n, uint64_t deadline);
int store_client_tx_start(struct store_client *client, uint32_t *tx, uint64_t deadline);
int store_client_tx_end(struct store_client *client, uint32_t tx, bool commit, uint64_t deadline);
int store_client_watch(
	struct store_client *client, const char *path, const char *token, uint64_t deadline);
int store_client_unwatch(
	struct store_client *client, const char *path, const char *token, uint64_t deadline);

/* As store_directory(). Lists longer than a message come in parts: -EAGAIN if the list kept changing meanwhile. */
int store_client_directory(struct store_client *client, uint32_t tx, const char *path, char **names,
	size_t *len, uint64_t deadline);

/* Drops all watches and transactions that this connection has. */
int store_client_reset(struct store_client *client, uint64_t deadline);

/* Take in, without waiting, what the server sent. Returns how many events wait, or -ENOTCONN or -EPROTO. */
int store_client_process(struct store_client *client);

/* The oldest event that waits, also after a request took it in: ask after every request, not only when the fd is
 * readable. The strings are valid until the next call or store_client_free(). Returns 1; 0 if there is none;
 * -EOVERFLOW once, at its place in the order, if events were lost because too many waited. */
int store_client_next_event(struct store_client *client, const char **path, const char **token);
