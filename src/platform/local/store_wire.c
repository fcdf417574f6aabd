/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One connection of the store. Input gathers in a buffer that holds exactly one largest message; each whole message
 * goes to the handler of its type, which fills a reply or names an errno. docs/store.md lists what is answered how.
 */
#include "platform/local/store_wire.h"

#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/xs_wire.h>

static_assert(sizeof(struct xsd_sockmsg) == 16, "xs_wire.h");

#define MESSAGE_MAX (sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX)

struct store_conn {
	struct store *store;
	struct store_session *session;
	const struct store_conn_ops *ops;
	void *arg;
	enum store_refusal why; /* STORE_REFUSALS: alive */
	size_t in_len;
	char *out; /* what waits: out_len bytes from out_at on */
	size_t out_at, out_len, out_room;
	char in[MESSAGE_MAX];
};

struct request {
	struct store_conn *conn;
	struct store_session *session;
	uint32_t tx;
	const char *data;
	size_t len;
};

struct reply {
	size_t len;
	char data[XENSTORE_PAYLOAD_MAX];
};

/*
 * Names.
 */

const char *store_error_name(int error)
{
	for (unsigned i = 0; i < ARRAY_SIZE(xsd_errors); i++) {
		if (xsd_errors[i].errnum == -error)
			return xsd_errors[i].errstring;
	}
	return "EINVAL";
}

int store_error_value(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(xsd_errors); i++) {
		if (strcmp(xsd_errors[i].errstring, name) == 0)
			return -xsd_errors[i].errnum;
	}
	return -EIO;
}

static const char perm_letters[] = {
	[STORE_PERM_NONE] = 'n',
	[STORE_PERM_READ] = 'r',
	[STORE_PERM_WRITE] = 'w',
	[STORE_PERM_BOTH] = 'b',
};

void store_perm_format(const struct store_perm *perm, char text[STORE_PERM_TEXT])
{
	(void)snprintf(text, STORE_PERM_TEXT, "%c%u", perm_letters[perm->access & STORE_PERM_BOTH],
		perm->domid);
}

/* A decimal number without sign or space. */
static int number(const char *text, uint64_t max, uint64_t *value)
{
	uint64_t v = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		v = v * 10 + (uint64_t)(*text - '0');
		if (v > max)
			return -EINVAL;
	}
	*value = v;
	return 0;
}

int store_perm_parse(const char *text, struct store_perm *perm)
{
	const char *letter = *text ? memchr(perm_letters, *text, sizeof(perm_letters)) : NULL;
	uint64_t domid;

	if (!letter || number(text + 1, UINT16_MAX, &domid))
		return -EINVAL;
	perm->access = (uint8_t)(letter - perm_letters);
	perm->domid = (uint16_t)domid;
	return 0;
}

/*
 * Output.
 */

static void conn_end(struct store_conn *conn, enum store_refusal why)
{
	if (conn->why != STORE_REFUSALS)
		return;
	conn->why = why;
	conn->in_len = 0;
	conn->out_at = conn->out_len = 0;
	store_end(conn->session, why);
}

static void conn_keep(struct store_conn *conn, const char *bytes, size_t len)
{
	size_t limit = MAX(store_limits(conn->store)->backlog, MESSAGE_MAX);

	if (len > limit - MIN(limit, conn->out_len)) {
		conn_end(conn, STORE_ENDED_BACKLOG);
		return;
	}
	if (conn->out_at && conn->out_at + conn->out_len + len > conn->out_room) {
		memmove(conn->out, conn->out + conn->out_at, conn->out_len);
		conn->out_at = 0;
	}
	if (conn->out_len + len > conn->out_room) {
		size_t room = MAX(conn->out_room * 2, conn->out_len + len);
		char *out = realloc(conn->out, room);

		if (!out) {
			conn_end(conn, STORE_ENDED_MEMORY);
			return;
		}
		conn->out = out;
		conn->out_room = room;
	}
	memcpy(conn->out + conn->out_at + conn->out_len, bytes, len);
	conn->out_len += len;
}

/* Bytes that the transport took, at most `len`. */
static size_t conn_push(struct store_conn *conn, const char *bytes, size_t len)
{
	ssize_t n = conn->ops->send(conn->arg, bytes, len);

	if (n < 0) {
		conn_end(conn, STORE_ENDED_SEND);
		return 0;
	}
	return MIN((size_t)n, len);
}

static void conn_send(struct store_conn *conn, struct xsd_sockmsg header, const char *payload)
{
	char message[MESSAGE_MAX];
	size_t len = sizeof(header) + header.len, taken = 0;

	if (conn->why != STORE_REFUSALS)
		return;
	memcpy(message, &header, sizeof(header));
	memcpy(message + sizeof(header), payload, header.len);
	if (conn->out_len == 0)
		taken = conn_push(conn, message, len);
	if (conn->why == STORE_REFUSALS && taken < len)
		conn_keep(conn, message + taken, len - taken);
}

/* The store's limits let path and token fit. */
static void conn_event(void *arg, const char *path, const char *token)
{
	struct store_conn *conn = arg;
	size_t path_size = strlen(path) + 1, token_size = strlen(token) + 1;
	char payload[XENSTORE_PAYLOAD_MAX];
	struct xsd_sockmsg header = {
		.type = XS_WATCH_EVENT, .len = (uint32_t)(path_size + token_size)};

	memcpy(payload, path, path_size);
	memcpy(payload + path_size, token, token_size);
	conn_send(conn, header, payload);
}

/*
 * Requests.
 */

static int malformed(const struct request *q)
{
	return store_refuse(q->session, STORE_REFUSED_MALFORMED, -EINVAL);
}

/* The first `n` NUL-terminated strings of the payload; returns the offset behind them, 0 if there are fewer. */
static size_t strings(const struct request *q, const char **out, unsigned n)
{
	size_t at = 0;

	for (unsigned i = 0; i < n; i++) {
		const char *nul = memchr(q->data + at, '\0', q->len - at);

		if (!nul)
			return 0;
		out[i] = q->data + at;
		at = (size_t)(nul - q->data) + 1;
	}
	return at;
}

/* The payload is one string and nothing else. */
static const char *only_string(const struct request *q)
{
	const char *s = NULL;

	return strings(q, &s, 1) == q->len ? s : NULL;
}

static int only_domid(const struct request *q, uint16_t *domid)
{
	const char *text = only_string(q);
	uint64_t value;

	if (!text || number(text, UINT16_MAX, &value))
		return malformed(q);
	*domid = (uint16_t)value;
	return 0;
}

static void reply_text(struct reply *r, const char *text)
{
	r->len = strlen(text) + 1;
	memcpy(r->data, text, r->len);
}

static int on_control(const struct request *q, struct reply *r)
{
	const char *command;
	size_t at = 0;

	if (store_domid(q->session) != 0)
		return store_refuse(q->session, STORE_REFUSED_UNSUPPORTED, -ENOSYS);
	if (!strings(q, &command, 1))
		return malformed(q);
	if (strcmp(command, "help") == 0) {
		reply_text(r, "check\nhelp\nstats\n");
	} else if (strcmp(command, "check") == 0) {
		reply_text(r, store_check(q->conn->store) ? "the books are wrong\n" : "OK\n");
	} else if (strcmp(command, "stats") == 0) {
		for (unsigned i = 0; i < STORE_REFUSALS; i++) {
			int n = snprintf(r->data + at, sizeof(r->data) - at, "%s %" PRIu64 "\n",
				store_refusal_names[i], store_refused(q->conn->store, i));

			at = MIN(at + (size_t)n, sizeof(r->data) - 1);
		}
		r->len = at + 1;
	} else {
		return malformed(q);
	}
	return 0;
}

static int on_directory(const struct request *q, struct reply *r)
{
	const char *path = only_string(q);
	char *names;
	size_t len;
	int n;

	if (!path)
		return malformed(q);
	n = store_directory(q->session, q->tx, path, &names, &len, NULL);
	if (n < 0)
		return n;
	if (len <= sizeof(r->data)) {
		memcpy(r->data, names, len);
		r->len = len;
	}
	free(names);
	return len <= sizeof(r->data) ? 0 : store_refuse(q->session, STORE_REFUSED_TOO_BIG, -E2BIG);
}

/* The generation, then as many whole names as fit from a byte offset on; an empty name ends the last part. */
static int on_directory_part(const struct request *q, struct reply *r)
{
	const char *arg[2] = {NULL, NULL};
	uint64_t offset, gen;
	size_t len, end;
	char *names;
	int n;

	if (strings(q, arg, 2) != q->len || !q->len || number(arg[1], UINT32_MAX, &offset))
		return malformed(q);
	n = store_directory(q->session, q->tx, arg[0], &names, &len, &gen);
	if (n < 0)
		return n;
	r->len = (size_t)snprintf(r->data, sizeof(r->data), "%" PRIu64, gen) + 1;
	offset = MIN(offset, len);
	end = MIN(len, (size_t)offset + sizeof(r->data) - r->len - 1);
	while (end > offset && names[end - 1] != '\0')
		end--;
	memcpy(r->data + r->len, names + offset, end - offset);
	r->len += end - offset;
	if (end == len)
		r->data[r->len++] = '\0';
	free(names);
	return 0;
}

static int on_read(const struct request *q, struct reply *r)
{
	const char *path = only_string(q);
	char value[STORE_VALUE_MAX + 1];
	int n;

	if (!path)
		return malformed(q);
	n = store_read(q->session, q->tx, path, value, sizeof(value));
	if (n < 0)
		return n;
	r->len = (size_t)n;
	memcpy(r->data, value, r->len);
	return 0;
}

static int on_write(const struct request *q, struct reply *r)
{
	const char *path;
	size_t at = strings(q, &path, 1);

	(void)r;
	return at ? store_write(q->session, q->tx, path, q->data + at, q->len - at) : malformed(q);
}

static int on_mkdir(const struct request *q, struct reply *r)
{
	const char *path = only_string(q);

	(void)r;
	return path ? store_mkdir(q->session, q->tx, path) : malformed(q);
}

static int on_rm(const struct request *q, struct reply *r)
{
	const char *path = only_string(q);

	(void)r;
	return path ? store_rm(q->session, q->tx, path) : malformed(q);
}

static int on_get_perms(const struct request *q, struct reply *r)
{
	struct store_perm perms[STORE_PERMS_MAX];
	const char *path = only_string(q);
	int n;

	if (!path)
		return malformed(q);
	n = store_get_perms(q->session, q->tx, path, perms, ARRAY_SIZE(perms));
	if (n < 0)
		return n;
	r->len = 0;
	for (int i = 0; i < n; i++) {
		store_perm_format(&perms[i], r->data + r->len);
		r->len += strlen(r->data + r->len) + 1;
	}
	return 0;
}

static int on_set_perms(const struct request *q, struct reply *r)
{
	struct store_perm perms[STORE_PERMS_MAX];
	struct request rest = *q;
	const char *path, *text;
	unsigned n = 0;
	size_t at = strings(q, &path, 1);

	(void)r;
	if (!at)
		return malformed(q);
	for (rest.data += at, rest.len -= at; rest.len; rest.data += at, rest.len -= at) {
		at = strings(&rest, &text, 1);
		if (!at || n == ARRAY_SIZE(perms) || store_perm_parse(text, &perms[n]))
			return malformed(q);
		n++;
	}
	return store_set_perms(q->session, q->tx, path, perms, n);
}

static int on_watch(const struct request *q, struct reply *r)
{
	const char *arg[2] = {NULL, NULL};

	(void)r;
	if (!strings(q, arg, 2))
		return malformed(q);
	return store_watch(q->session, arg[0], arg[1], conn_event, q->conn);
}

static int on_unwatch(const struct request *q, struct reply *r)
{
	const char *arg[2] = {NULL, NULL};

	(void)r;
	return strings(q, arg, 2) ? store_unwatch(q->session, arg[0], arg[1]) : malformed(q);
}

static int on_reset_watches(const struct request *q, struct reply *r)
{
	(void)r;
	store_reset(q->session);
	return 0;
}

static int on_transaction_start(const struct request *q, struct reply *r)
{
	uint32_t id;
	int err;

	if (q->tx)
		return store_refuse(q->session, STORE_REFUSED_MALFORMED, -EBUSY);
	err = store_tx_start(q->session, &id);
	if (!err)
		r->len = (size_t)snprintf(r->data, sizeof(r->data), "%" PRIu32, id) + 1;
	return err;
}

static int on_transaction_end(const struct request *q, struct reply *r)
{
	const char *text = only_string(q);

	(void)r;
	if (!text || (strcmp(text, "T") != 0 && strcmp(text, "F") != 0))
		return malformed(q);
	return store_tx_end(q->session, q->tx, *text == 'T');
}

static int on_get_domain_path(const struct request *q, struct reply *r)
{
	uint16_t domid = 0;
	int err = only_domid(q, &domid);

	if (!err)
		r->len = (size_t)snprintf(r->data, sizeof(r->data), "/local/domain/%u", domid) + 1;
	return err;
}

static int on_is_domain_introduced(const struct request *q, struct reply *r)
{
	uint16_t domid = 0;
	int err = only_domid(q, &domid);

	if (!err)
		reply_text(r, store_domain_introduced(q->conn->store, domid) ? "T" : "F");
	return err;
}

typedef int handler(const struct request *q, struct reply *r);

static handler *const handlers[XS_TYPE_COUNT] = {
	[XS_CONTROL] = on_control,
	[XS_DIRECTORY] = on_directory,
	[XS_READ] = on_read,
	[XS_GET_PERMS] = on_get_perms,
	[XS_WATCH] = on_watch,
	[XS_UNWATCH] = on_unwatch,
	[XS_TRANSACTION_START] = on_transaction_start,
	[XS_TRANSACTION_END] = on_transaction_end,
	[XS_GET_DOMAIN_PATH] = on_get_domain_path,
	[XS_WRITE] = on_write,
	[XS_MKDIR] = on_mkdir,
	[XS_RM] = on_rm,
	[XS_SET_PERMS] = on_set_perms,
	[XS_IS_DOMAIN_INTRODUCED] = on_is_domain_introduced,
	[XS_RESET_WATCHES] = on_reset_watches,
	[XS_DIRECTORY_PART] = on_directory_part,
};

static void conn_answer(struct store_conn *conn, const struct xsd_sockmsg *header)
{
	struct request q = {
		.conn = conn,
		.session = conn->session,
		.tx = header->tx_id,
		.data = conn->in + sizeof(*header),
		.len = header->len,
	};
	struct xsd_sockmsg answer = {
		.type = header->type, .req_id = header->req_id, .tx_id = header->tx_id};
	struct reply r;
	int err;

	reply_text(&r, "OK");
	if (header->type < XS_TYPE_COUNT && handlers[header->type])
		err = handlers[header->type](&q, &r);
	else
		err = store_refuse(conn->session, STORE_REFUSED_UNSUPPORTED, -ENOSYS);
	if (err == -ENOTCONN) /* the session ended, the connection follows */
		return;
	if (err) {
		answer.type = XS_ERROR;
		reply_text(&r, store_error_name(err));
	}
	answer.len = (uint32_t)r.len;
	conn_send(conn, answer, r.data);
}

/* Answer whole messages until one is missing bytes or the peer does not take an answer. */
static void conn_run(struct store_conn *conn)
{
	struct xsd_sockmsg header;

	while (conn->why == STORE_REFUSALS && conn->out_len == 0 &&
		conn->in_len >= sizeof(header)) {
		size_t size;

		memcpy(&header, conn->in, sizeof(header));
		if (header.len > XENSTORE_PAYLOAD_MAX) {
			conn_end(conn, STORE_ENDED_OVERSIZED);
			return;
		}
		size = sizeof(header) + header.len;
		if (conn->in_len < size)
			return;
		conn_answer(conn, &header);
		if (conn->why != STORE_REFUSALS)
			return;
		conn->in_len -= size;
		memmove(conn->in, conn->in + size, conn->in_len);
	}
}

/*
 * The connection.
 */

static void conn_ended(void *arg, enum store_refusal why)
{
	struct store_conn *conn = arg;

	conn_end(conn, why);
	if (conn->ops->closed)
		conn->ops->closed(conn->arg, why);
}

struct store_conn *store_conn_new(
	struct store *store, uint16_t domid, const struct store_conn_ops *ops, void *arg)
{
	struct store_conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		return NULL;
	conn->session = store_open(store, domid, conn_ended, conn);
	if (!conn->session) {
		free(conn);
		return NULL;
	}
	conn->store = store;
	conn->ops = ops;
	conn->arg = arg;
	conn->why = STORE_REFUSALS;
	return conn;
}

void store_conn_free(struct store_conn *conn)
{
	if (!conn)
		return;
	store_close(conn->session);
	free(conn->out);
	free(conn);
}

size_t store_conn_room(const struct store_conn *conn)
{
	return sizeof(conn->in) - conn->in_len;
}

int store_conn_input(struct store_conn *conn, const void *bytes, size_t len)
{
	if (conn->why != STORE_REFUSALS)
		return -ENOTCONN;
	if (len > store_conn_room(conn))
		return -ENOBUFS;
	if (len)
		memcpy(conn->in + conn->in_len, bytes, len);
	conn->in_len += len;
	conn_run(conn);
	return conn->why == STORE_REFUSALS ? 0 : -ENOTCONN;
}

int store_conn_flush(struct store_conn *conn)
{
	if (conn->why == STORE_REFUSALS && conn->out_len) {
		size_t n = conn_push(conn, conn->out + conn->out_at, conn->out_len);

		conn->out_at += n;
		conn->out_len -= n;
		if (conn->out_len == 0) {
			free(conn->out);
			conn->out = NULL;
			conn->out_at = conn->out_room = 0;
		}
	}
	conn_run(conn);
	return conn->why == STORE_REFUSALS ? 0 : -ENOTCONN;
}

size_t store_conn_backlog(const struct store_conn *conn)
{
	return conn->out_len;
}

const char *store_conn_reason(const struct store_conn *conn)
{
	return conn->why == STORE_REFUSALS ? NULL : store_refusal_names[conn->why];
}

struct store_session *store_conn_session(struct store_conn *conn)
{
	return conn->session;
}
