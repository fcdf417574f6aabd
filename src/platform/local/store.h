/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The store of the local platform: XenStore's tree of small values, with permissions, quotas, watches and
 * transactions, and no transport. store_wire.h puts it on a byte stream; docs/store.md has the rules.
 *
 * A session is one user of the store acting as one domain: it owns its transactions and watches. The host role opens
 * one for domain 0 and calls in directly; each guest's connection has one of its own. Domain 0 may do everything and
 * has no limits.
 *
 * Not thread-safe: a store, its sessions and its connections belong to one thread.
 *
 * Paths are NUL-terminated. One that does not begin with '/' is relative to /local/domain/<the session's domain>.
 * Every function that returns int returns a negative errno on refusal; common to all are
 *   -EINVAL    a path that breaks the rules, or is longer than the domain may use
 *   -EACCES    the permissions of the node, or of its nearest existing ancestor, forbid it
 *   -ENOENT    no such node, or no such transaction in this session
 *   -ENOSPC    a limit of the domain (store_refused() says which)
 *   -ENOTCONN  the session has ended
 *   -ENOMEM    no memory; a commit may then have been applied in part, the tree is sound
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;
struct store_session;

/* Limits of a domain other than 0. Exceeding one is refused with -ENOSPC unless said otherwise. */
struct store_limits {
	unsigned nodes;             /* owned by the domain */
	size_t node_size;           /* bytes of a node's value */
	unsigned watches;           /* -E2BIG */
	unsigned transactions;      /* open at the same time */
	unsigned transaction_nodes; /* that one transaction looks at, ancestors counted */
	size_t transaction_bytes;   /* values written in all open transactions */
	size_t path;                /* bytes of an absolute path; -EINVAL */
	unsigned perms;             /* entries of one node */
	unsigned events;            /* queued for one session: beyond it the session ends */
	size_t backlog;             /* bytes that a connection's peer has not taken; domain 0 too */
};

extern const struct store_limits store_limits_default;

/* Bounds for everyone, domain 0 included. */
#define STORE_VALUE_MAX 4096 /* bytes: XENSTORE_PAYLOAD_MAX */
#define STORE_TOKEN_MAX 1022 /* bytes: with the longest path it still fits a message */
#define STORE_PERMS_MAX 256  /* entries: all of them fit a message */

enum { STORE_PERM_NONE = 0, STORE_PERM_READ = 1, STORE_PERM_WRITE = 2, STORE_PERM_BOTH = 3 };

/* One permission. The first of a node names its owner, who may do everything, and the access of those not listed. */
struct store_perm {
	uint16_t domid;
	uint8_t access;
};

/* Why a request was refused or a session ended; each has a counter. */
enum store_refusal {
	STORE_REFUSED_MALFORMED,
	STORE_REFUSED_UNSUPPORTED,
	STORE_REFUSED_PATH,
	STORE_REFUSED_PERMISSION,
	STORE_REFUSED_NODES,
	STORE_REFUSED_NODE_SIZE,
	STORE_REFUSED_WATCHES,
	STORE_REFUSED_TRANSACTIONS,
	STORE_REFUSED_TRANSACTION_SIZE,
	STORE_REFUSED_NO_TRANSACTION,
	STORE_REFUSED_CONFLICT,
	STORE_REFUSED_PERMS,
	STORE_REFUSED_TOO_BIG,
	/* These end the session. */
	STORE_ENDED_OVERSIZED,
	STORE_ENDED_BACKLOG,
	STORE_ENDED_EVENTS,
	STORE_ENDED_SEND,
	STORE_ENDED_DOMAIN,
	STORE_ENDED_MEMORY,
	STORE_REFUSALS
};

extern const char *const store_refusal_names[STORE_REFUSALS];

/* `limits` is copied; NULL means store_limits_default. NULL if there is no memory. */
struct store *store_new(const struct store_limits *limits);

/* Every connection must have been freed; sessions still open are closed. NULL is allowed. */
void store_free(struct store *store);

const struct store_limits *store_limits(const struct store *store);

/* How often `which` happened: in the whole store, ever; in this session. */
uint64_t store_refused(const struct store *store, enum store_refusal which);
uint64_t store_session_refused(const struct store_session *session, enum store_refusal which);

/* Counts and returns `error`: for the layer that reads requests. */
int store_refuse(struct store_session *session, enum store_refusal which, int error);

/*
 * Events. A change queues an event for each watch that matches; store_process() delivers them, and nothing else does,
 * so no call into the store ever runs a callback.
 */

/* Called when the queue becomes non-empty, to make the owner's loop call store_process(); from inside any call. */
typedef void store_wake_fn(void *arg);
void store_on_wake(struct store *store, store_wake_fn *fn, void *arg);

/* Deliver what is queued now and tell ended sessions; what callbacks queue waits for the next call (and wakes).
 * Callbacks may call anything except store_process() and store_free(). Returns the number of events delivered. */
unsigned store_process(struct store *store);

/* Is there anything for store_process() to do? */
bool store_pending(const struct store *store);

/* The session was ended by the store, for `why`; its watches and transactions are gone and every call on it fails.
 * Called once, from store_process(). It may close the session. */
typedef void store_ended_fn(void *arg, enum store_refusal why);

/* A new session of `domid`. `ended` may be NULL. NULL if there is no memory. */
struct store_session *store_open(
	struct store *store, uint16_t domid, store_ended_fn *ended, void *arg);

/* Drops its watches, undelivered events and transactions. `ended` is not called. NULL is allowed. */
void store_close(struct store_session *session);

/* End a session from outside: as if the store had found `why`. Nothing if it has ended already. */
void store_end(struct store_session *session, enum store_refusal why);

uint16_t store_domid(const struct store_session *session);

/*
 * The tree. `tx` is 0 or a transaction of this session.
 */

/* Copies the value and a NUL to `buf`. Returns its length, -ENOBUFS if `size` is not at least that plus one
 * (STORE_VALUE_MAX + 1 always does). */
int store_read(
	struct store_session *session, uint32_t tx, const char *path, void *buf, size_t size);

/* Creates the node and its missing ancestors (empty) with the permissions of the nearest existing one; what a domain
 * other than 0 creates, it owns. -E2BIG beyond STORE_VALUE_MAX. */
int store_write(struct store_session *session, uint32_t tx, const char *path, const void *value,
	size_t len);

/* As store_write() of an empty value, but a node that exists stays as it is. */
int store_mkdir(struct store_session *session, uint32_t tx, const char *path);

/* Removes the node and all below it, whose permissions are not asked. An absent node is fine if its parent exists.
 * -EINVAL for the root. */
int store_rm(struct store_session *session, uint32_t tx, const char *path);

/* The children's names, sorted, each with its NUL, in `*names` (`*len` bytes, free()d by the caller). Returns their
 * number. `*gen`, if not NULL, changes whenever the node or its list of children does. */
int store_directory(struct store_session *session, uint32_t tx, const char *path, char **names,
	size_t *len, uint64_t *gen);

/* Copies the permissions. Returns their number, -ENOBUFS if it is above `max` (STORE_PERMS_MAX always does). */
int store_get_perms(struct store_session *session, uint32_t tx, const char *path,
	struct store_perm *perms, unsigned max);

/* Only for the owner and domain 0; -EPERM if another tries to change the owner. `n` is at least 1. */
int store_set_perms(struct store_session *session, uint32_t tx, const char *path,
	const struct store_perm *perms, unsigned n);

/*
 * Transactions. Reads see the transaction's own writes over the tree as it is now; commit fails with -EAGAIN unless
 * every node it looked at (its value, permissions, absence, or list of children, whichever it was) is still as it was
 * at first sight. So a transaction that commits is as if it had run in one piece at its end, and only those who change
 * what it looked at can make it fail.
 */

int store_tx_start(struct store_session *session, uint32_t *tx);

/* The transaction is gone afterwards, whatever is returned. -EAGAIN: a conflict, start again; -ENOSPC: over a limit. */
int store_tx_end(struct store_session *session, uint32_t tx, bool commit);

/*
 * Watches. `path` may also be "@introduceDomain" or "@releaseDomain"; only domain 0 gets those events.
 * The event's path is the node that changed (at or below the watch's), or the watch's own if an ancestor was removed;
 * it is relative if the watch's is. Nobody gets events of nodes that it may not read. Equal events in a row are one.
 */

/* Both strings are valid until the callback returns or removes the watch. */
typedef void store_watch_fn(void *arg, const char *path, const char *token);

/* One event with `path` is queued at once. -EEXIST if the session has this path and token; -E2BIG at the limit;
 * -EINVAL for a token beyond STORE_TOKEN_MAX. */
int store_watch(struct store_session *session, const char *path, const char *token,
	store_watch_fn *fn, void *arg);

/* Undelivered events of the watch are dropped. -ENOENT. */
int store_unwatch(struct store_session *session, const char *path, const char *token);

/* Drops all watches and transactions of the session. */
void store_reset(struct store_session *session);

/*
 * Domains, as the host role sees them come and go.
 */

/* Fires @introduceDomain. -EEXIST if it is there already. */
int store_domain_introduce(struct store *store, uint16_t domid);

/* Domain 0 always is. */
bool store_domain_introduced(const struct store *store, uint16_t domid);

/* The domain died: ends its sessions, removes every node that it owns with all below, strikes it from the permissions
 * of all others (so that the next domain of this number inherits nothing: STORE-DEATH), and, if it was introduced, fires
 * @releaseDomain. Walks the whole tree. Nothing for domain 0. */
void store_domain_gone(struct store *store, uint16_t domid);

/* Recounts what the quotas count; 0, or -EUCLEAN if the books are wrong. For tests and XS_CONTROL's "check". */
int store_check(struct store *store);
