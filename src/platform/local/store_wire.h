/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * XenStore's wire protocol (xen/io/xs_wire.h, docs/misc/xenstore.txt of Xen) over a byte stream, the serving side: one
 * connection, one session of the store. No sockets: the owner feeds it what it received and is asked to send.
 *
 * How to drive it, with a non-blocking socket:
 *   readable, and store_conn_room() is not 0: receive at most that much, store_conn_input()
 *   writable, after `send` took less than it was given: store_conn_flush()
 *   then, once for all connections: store_process()
 * Requests are answered only while nothing waits to be sent, so a peer that does not read stops its own input, and only
 * watch events can add to what waits: up to store_limits.backlog bytes, then the connection ends.
 *
 * Not thread-safe: belongs to its store's thread.
 */
#pragma once

#include "platform/local/store.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct store_conn;

struct store_conn_ops {
	/* Send bytes to the peer: returns how many were taken (0: call store_conn_flush() when there is room), or a
	 * negative errno, which ends the connection. Called from input, flush and store_process(); calls nothing back. */
	ssize_t (*send)(void *arg, const void *bytes, size_t len);

	/* The connection ended by itself, because of `why`; may free it. Called once, from store_process(). May be
	 * NULL. */
	void (*closed)(void *arg, enum store_refusal why);
};

/* A connection whose peer acts as `domid`. `ops` must outlive it. NULL if there is no memory. */
struct store_conn *store_conn_new(
	struct store *store, uint16_t domid, const struct store_conn_ops *ops, void *arg);

/* Ends its session at once; `closed` is not called. NULL is allowed. */
void store_conn_free(struct store_conn *conn);

/* How many bytes store_conn_input() takes now; it comes to 0 when the peer does not take its answers. */
size_t store_conn_room(const struct store_conn *conn);

/* Bytes from the peer, in pieces of any size. 0; -ENOBUFS if there are more than store_conn_room(), none is taken
 * then; -ENOTCONN if the connection has ended. */
int store_conn_input(struct store_conn *conn, const void *bytes, size_t len);

/* Send what waits, then answer requests that waited for it. 0, or -ENOTCONN if the connection has ended. */
int store_conn_flush(struct store_conn *conn);

/* Bytes that wait to be sent: watch for the stream to be writable while it is not 0. */
size_t store_conn_backlog(const struct store_conn *conn);

/* Why the connection ended, one of store_refusal_names; NULL while it is alive. */
const char *store_conn_reason(const struct store_conn *conn);

struct store_session *store_conn_session(struct store_conn *conn);

/*
 * What both ends of the wire need.
 */

/* The protocol's name of a negative errno, "EINVAL" for those that it does not know. */
const char *store_error_name(int error);

/* The negative errno of a name, -EIO for an unknown one. */
int store_error_value(const char *name);

#define STORE_PERM_TEXT 8 /* bytes, NUL included: "b65535" */

/* "r5": a letter of n, r, w, b and a domain id. Parsing returns -EINVAL for anything else. */
void store_perm_format(const struct store_perm *perm, char text[STORE_PERM_TEXT]);
int store_perm_parse(const char *text, struct store_perm *perm);
