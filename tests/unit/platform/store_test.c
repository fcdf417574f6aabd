/* SPDX-License-Identifier: BSD-3-Clause */
/* The store's tree: paths, permissions, quotas, transactions, watches, domains; and its agreement with a model. */
#include "platform/local/store.h"

#include "base/util.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GUEST 5
#define OTHER 6

/* Small limits, so that each can be reached. */
static const struct store_limits tight = {
	.nodes = 8,
	.node_size = 16,
	.watches = 3,
	.transactions = 2,
	.transaction_nodes = 12,
	.transaction_bytes = 40,
	.path = 64,
	.perms = 2,
	.events = 6,
	.backlog = 8192,
};

struct world {
	struct store *store;
	struct store_session *zero, *guest, *other;
	char log[4096]; /* events: "path token\n" */
	unsigned ended;
	enum store_refusal why;
	unsigned woken;
};

static void on_wake(void *arg)
{
	((struct world *)arg)->woken++;
}

static void on_ended(void *arg, enum store_refusal why)
{
	struct world *w = arg;

	w->ended++;
	w->why = why;
}

static void on_event(void *arg, const char *path, const char *token)
{
	struct world *w = arg;
	size_t at = strlen(w->log);

	(void)snprintf(w->log + at, sizeof(w->log) - at, "%s %s\n", path, token);
}

static int start(void **state, const struct store_limits *limits)
{
	static const struct store_perm home[] = {{GUEST, STORE_PERM_NONE}};
	static const struct store_perm home2[] = {{OTHER, STORE_PERM_NONE}};
	struct world *w = calloc(1, sizeof(*w));

	w->store = store_new(limits);
	w->zero = store_open(w->store, 0, on_ended, w);
	w->guest = store_open(w->store, GUEST, on_ended, w);
	w->other = store_open(w->store, OTHER, on_ended, w);
	store_on_wake(w->store, on_wake, w);
	assert_int_equal(store_mkdir(w->zero, 0, "/local/domain/5"), 0);
	assert_int_equal(store_mkdir(w->zero, 0, "/local/domain/6"), 0);
	assert_int_equal(store_set_perms(w->zero, 0, "/local/domain/5", home, 1), 0);
	assert_int_equal(store_set_perms(w->zero, 0, "/local/domain/6", home2, 1), 0);
	*state = w;
	return 0;
}

static int setup(void **state)
{
	return start(state, NULL);
}

static int setup_tight(void **state)
{
	return start(state, &tight);
}

static int teardown(void **state)
{
	struct world *w = *state;
	int err = store_check(w->store);

	store_close(w->zero);
	store_close(w->guest);
	store_close(w->other);
	store_free(w->store);
	free(w);
	return err;
}

static int put(struct store_session *s, uint32_t tx, const char *path, const char *value)
{
	return store_write(s, tx, path, value, strlen(value));
}

/* What events have come, in order; then none. */
static void assert_events(struct world *w, const char *expected)
{
	while (store_pending(w->store))
		(void)store_process(w->store);
	assert_string_equal(w->log, expected);
	w->log[0] = '\0';
}

static void assert_value(
	struct store_session *s, uint32_t tx, const char *path, const char *expected)
{
	char buf[STORE_VALUE_MAX + 1];

	assert_int_equal(store_read(s, tx, path, buf, sizeof(buf)), strlen(expected));
	assert_string_equal(buf, expected);
}

/* The children as "a b c". */
static void assert_children(
	struct store_session *s, uint32_t tx, const char *path, const char *expected)
{
	char *names, *end;
	size_t len;
	int n = store_directory(s, tx, path, &names, &len, NULL);

	assert_true(n >= 0);
	for (end = names; end < names + len; end++) {
		if (!*end) {
			*end = end + 1 == names + len ? '\0' : ' ';
			n--;
		}
	}
	assert_int_equal(n, 0);
	assert_string_equal(len ? names : "", expected);
	free(names);
}

static int read_error(struct store_session *s, uint32_t tx, const char *path)
{
	char buf[STORE_VALUE_MAX + 1];

	return store_read(s, tx, path, buf, sizeof(buf));
}

static void test_values(void **state)
{
	struct world *w = *state;
	char buf[8], big[STORE_VALUE_MAX + 1];

	assert_int_equal(put(w->zero, 0, "/a/b/c", "one"), 0);
	assert_value(w->zero, 0, "/a/b/c", "one");
	assert_value(w->zero, 0, "/a/b", "");
	assert_children(w->zero, 0, "/a", "b");
	assert_int_equal(put(w->zero, 0, "/a/b/c", ""), 0);
	assert_value(w->zero, 0, "/a/b/c", "");
	assert_int_equal(store_write(w->zero, 0, "/bin", "\0x\0", 3), 0);
	assert_int_equal(store_read(w->zero, 0, "/bin", buf, sizeof(buf)), 3);
	assert_memory_equal(buf, "\0x\0", 4);
	assert_int_equal(store_read(w->zero, 0, "/bin", buf, 3), -ENOBUFS);
	assert_int_equal(store_read(w->zero, 0, "/bin", buf, 4), 3);
	memset(big, 'x', sizeof(big));
	assert_int_equal(store_write(w->zero, 0, "/big", big, STORE_VALUE_MAX), 0);
	assert_int_equal(store_write(w->zero, 0, "/big", big, STORE_VALUE_MAX + 1), -E2BIG);
	assert_int_equal(put(w->zero, 0, "/", "root"), 0);
	assert_value(w->zero, 0, "/", "root");
	assert_int_equal(read_error(w->zero, 0, "/none"), -ENOENT);
}

static void test_directory_is_sorted(void **state)
{
	struct world *w = *state;
	uint64_t gen[4];
	char *names;
	size_t len;

	assert_int_equal(put(w->zero, 0, "/d/b", ""), 0);
	assert_int_equal(put(w->zero, 0, "/d/ab", ""), 0);
	assert_int_equal(put(w->zero, 0, "/d/a", ""), 0);
	assert_int_equal(put(w->zero, 0, "/d/B/x", ""), 0);
	assert_children(w->zero, 0, "/d", "B a ab b");
	assert_children(w->zero, 0, "/d/a", "");
	assert_int_equal(store_directory(w->zero, 0, "/d", &names, &len, &gen[0]), 4);
	free(names);
	assert_int_equal(put(w->zero, 0, "/d/a", "new value below"), 0);
	assert_int_equal(store_directory(w->zero, 0, "/d", &names, &len, &gen[1]), 4);
	free(names);
	assert_true(gen[0] == gen[1]);
	assert_int_equal(store_rm(w->zero, 0, "/d/a"), 0);
	assert_int_equal(store_directory(w->zero, 0, "/d", &names, &len, &gen[2]), 3);
	free(names);
	assert_true(gen[2] > gen[1]);
	assert_int_equal(put(w->zero, 0, "/d", "own"), 0);
	assert_int_equal(store_directory(w->zero, 0, "/d", &names, &len, &gen[3]), 3);
	free(names);
	assert_true(gen[3] > gen[2]);
}

static void test_mkdir_and_rm(void **state)
{
	struct world *w = *state;

	assert_int_equal(put(w->zero, 0, "/a/b", "kept"), 0);
	assert_int_equal(store_mkdir(w->zero, 0, "/a/b"), 0);
	assert_value(w->zero, 0, "/a/b", "kept");
	assert_int_equal(store_mkdir(w->zero, 0, "/a/x/y/z"), 0);
	assert_children(w->zero, 0, "/a", "b x");
	assert_int_equal(store_rm(w->zero, 0, "/a/x"), 0);
	assert_int_equal(read_error(w->zero, 0, "/a/x/y/z"), -ENOENT);
	assert_int_equal(store_rm(w->zero, 0, "/a/x"), 0);
	assert_int_equal(store_rm(w->zero, 0, "/a/x/y"), -ENOENT);
	assert_int_equal(store_rm(w->zero, 0, "/"), -EINVAL);
}

static void test_paths(void **state)
{
	static const char *const bad[] = {"", "//", "/a/", "/a//b", "a/", "/a b", "/a.b", "/..",
		"..", "/a\n", "/a*", "@releaseDomain", "@", "/\xc3\xa4", "/a\\b", "a//b"};
	static const char *const good[] = {
		"/a-b_c@d", "/@releaseDomain", "/A0/9", "rel/ative", "-"};
	struct world *w = *state;
	char path[4096];
	uint64_t refused;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		refused = store_refused(w->store, STORE_REFUSED_PATH);
		assert_int_equal(put(w->zero, 0, bad[i], ""), -EINVAL);
		assert_int_equal(store_refused(w->store, STORE_REFUSED_PATH), refused + 1);
		assert_int_equal(read_error(w->guest, 0, bad[i]), -EINVAL);
		assert_int_equal(store_mkdir(w->guest, 0, bad[i]), -EINVAL);
		assert_int_equal(store_rm(w->guest, 0, bad[i]), -EINVAL);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(put(w->zero, 0, good[i], "v"), 0);
	assert_value(w->zero, 0, "/local/domain/0/rel/ative", "v");

	/* 3072 absolute and 2048 relative are the protocol's, for domain 0; a guest has its own limit. */
	memset(path, 'p', sizeof(path));
	path[0] = '/';
	path[3073] = '\0';
	assert_int_equal(put(w->zero, 0, path, ""), -EINVAL);
	path[3072] = '\0';
	assert_int_equal(put(w->zero, 0, path, ""), 0);
	path[0] = 'p';
	path[2049] = '\0';
	assert_int_equal(put(w->zero, 0, path, ""), -EINVAL);
	path[2048] = '\0';
	assert_int_equal(put(w->zero, 0, path, ""), 0);
	path[store_limits_default.path - strlen("/local/domain/5/") + 1] = '\0';
	assert_int_equal(put(w->guest, 0, path, ""), -EINVAL);
	path[store_limits_default.path - strlen("/local/domain/5/")] = '\0';
	assert_int_equal(put(w->guest, 0, path, ""), 0);

	/* The deepest path there is. */
	for (unsigned i = 0; i < 3072; i++)
		path[i] = i % 2 ? 'd' : '/';
	path[3072] = '\0';
	assert_int_equal(put(w->zero, 0, path, "deep"), 0);
	assert_value(w->zero, 0, path, "deep");
	assert_int_equal(store_watch(w->zero, path, "t", on_event, w), 0);
	while (store_pending(w->store))
		(void)store_process(w->store);
	w->log[0] = '\0';
	assert_int_equal(store_rm(w->zero, 0, "/d"), 0);
	(void)store_process(w->store);
	assert_int_equal(strlen(w->log), 3072 + 3);
}

static void test_permissions(void **state)
{
	static const struct store_perm shared[] = {{0, STORE_PERM_NONE}, {GUEST, STORE_PERM_READ}};
	static const struct store_perm writable[] = {
		{0, STORE_PERM_READ}, {GUEST, STORE_PERM_WRITE}};
	static const struct store_perm everyone[] = {{0, STORE_PERM_BOTH}};
	static const struct store_perm mine[] = {
		{GUEST, STORE_PERM_NONE}, {OTHER, STORE_PERM_READ}};
	static const struct store_perm away[] = {{OTHER, STORE_PERM_NONE}};
	static const struct store_perm strange[] = {{GUEST, 4}};
	struct store_perm got[STORE_PERMS_MAX];
	struct world *w = *state;

	/* Nothing is readable that nobody opened, and the answer does not tell whether it exists. */
	assert_int_equal(put(w->zero, 0, "/secret", "x"), 0);
	assert_int_equal(read_error(w->guest, 0, "/secret"), -EACCES);
	assert_int_equal(read_error(w->guest, 0, "/secretless"), -EACCES);
	assert_int_equal(put(w->guest, 0, "/secret", "y"), -EACCES);
	assert_int_equal(put(w->guest, 0, "/new", "y"), -EACCES);
	assert_int_equal(store_mkdir(w->guest, 0, "/new"), -EACCES);
	assert_int_equal(store_rm(w->guest, 0, "/secret"), -EACCES);
	assert_int_equal(store_rm(w->guest, 0, "/none"), -EACCES);
	assert_int_equal(store_get_perms(w->guest, 0, "/secret", got, 1), -EACCES);
	assert_true(store_session_refused(w->guest, STORE_REFUSED_PERMISSION) >= 8);
	assert_int_equal(store_session_refused(w->zero, STORE_REFUSED_PERMISSION), 0);

	/* Read only, write only, for all. */
	assert_int_equal(store_set_perms(w->zero, 0, "/secret", shared, 2), 0);
	assert_value(w->guest, 0, "/secret", "x");
	assert_int_equal(put(w->guest, 0, "/secret", "y"), -EACCES);
	assert_int_equal(read_error(w->other, 0, "/secret"), -EACCES);
	assert_int_equal(read_error(w->guest, 0, "/secret/none"), -ENOENT);
	assert_int_equal(put(w->zero, 0, "/drop", ""), 0);
	assert_int_equal(store_set_perms(w->zero, 0, "/drop", writable, 2), 0);
	assert_int_equal(put(w->guest, 0, "/drop", "in"), 0);
	assert_int_equal(read_error(w->guest, 0, "/drop"), -EACCES);
	assert_value(w->other, 0, "/drop", "in");
	assert_int_equal(store_set_perms(w->zero, 0, "/drop", everyone, 1), 0);
	assert_int_equal(put(w->other, 0, "/drop", "too"), 0);

	/* Created nodes inherit, and belong to the guest that creates them. */
	assert_int_equal(put(w->zero, 0, "/secret/below", "z"), 0);
	assert_value(w->guest, 0, "/secret/below", "z");
	assert_int_equal(put(w->other, 0, "/drop/a/b", ""), 0);
	assert_int_equal(store_get_perms(w->zero, 0, "/drop/a", got, STORE_PERMS_MAX), 1);
	assert_int_equal(got[0].domid, OTHER);
	assert_int_equal(got[0].access, STORE_PERM_BOTH);
	assert_int_equal(put(w->zero, 0, "/local/domain/5/made", ""), 0);
	assert_int_equal(store_get_perms(w->guest, 0, "made", got, STORE_PERMS_MAX), 1);
	assert_int_equal(got[0].domid, GUEST);

	/* Only the owner sets permissions, and cannot give the node away. */
	assert_int_equal(put(w->guest, 0, "own", "v"), 0);
	assert_int_equal(read_error(w->other, 0, "/local/domain/5/own"), -EACCES);
	assert_int_equal(store_set_perms(w->guest, 0, "own", mine, 2), 0);
	assert_value(w->other, 0, "/local/domain/5/own", "v");
	assert_int_equal(store_set_perms(w->other, 0, "/local/domain/5/own", away, 1), -EACCES);
	assert_int_equal(store_set_perms(w->other, 0, "/drop", away, 1), -EACCES);
	assert_int_equal(store_set_perms(w->guest, 0, "own", away, 1), -EPERM);
	assert_int_equal(store_set_perms(w->guest, 0, "own", strange, 1), -EINVAL);
	assert_int_equal(store_set_perms(w->guest, 0, "own", mine, 0), -EINVAL);
	assert_int_equal(store_set_perms(w->guest, 0, "none", mine, 1), -ENOENT);
	assert_int_equal(store_set_perms(w->zero, 0, "/local/domain/5/own", away, 1), 0);
	assert_int_equal(read_error(w->guest, 0, "own"), -EACCES);
	assert_int_equal(store_get_perms(w->zero, 0, "/secret", got, 1), -ENOBUFS);
}

static void test_node_quota(void **state)
{
	struct world *w = *state;

	for (char name[] = "a"; name[0] < 'h'; name[0]++) /* the home is the guest's eighth */
		assert_int_equal(put(w->guest, 0, name, "v"), 0);
	assert_int_equal(put(w->guest, 0, "h", "v"), -ENOSPC);
	assert_int_equal(store_mkdir(w->guest, 0, "h"), -ENOSPC);
	assert_int_equal(store_session_refused(w->guest, STORE_REFUSED_NODES), 2);
	assert_int_equal(put(w->guest, 0, "a", "other"), 0);
	assert_int_equal(put(w->other, 0, "h", "v"), 0);
	assert_int_equal(store_rm(w->guest, 0, "a"), 0);
	assert_int_equal(put(w->guest, 0, "x/y", "v"), -ENOSPC); /* two */
	assert_int_equal(read_error(w->guest, 0, "x"), -ENOENT);
	assert_int_equal(put(w->guest, 0, "x", "v"), 0);
	assert_int_equal(
		put(w->zero, 0, "/local/domain/5/more", "v"), 0); /* domain 0 may exceed it */
	assert_int_equal(store_rm(w->guest, 0, "x"), 0);
	assert_int_equal(put(w->guest, 0, "x", "v"), -ENOSPC);
}

static void test_other_quotas(void **state)
{
	static const struct store_perm three[] = {
		{GUEST, STORE_PERM_NONE}, {0, STORE_PERM_READ}, {OTHER, STORE_PERM_READ}};
	struct world *w = *state;
	struct store_session *second;
	uint32_t tx[3];

	assert_int_equal(put(w->guest, 0, "v", "0123456789abcdef"), 0);
	assert_int_equal(put(w->guest, 0, "v", "0123456789abcdefg"), -ENOSPC);
	assert_value(w->guest, 0, "v", "0123456789abcdef");
	assert_int_equal(store_session_refused(w->guest, STORE_REFUSED_NODE_SIZE), 1);
	assert_int_equal(put(w->zero, 0, "/v", "0123456789abcdefg"), 0);

	assert_int_equal(store_set_perms(w->guest, 0, "v", three, 2), 0);
	assert_int_equal(store_set_perms(w->guest, 0, "v", three, 3), -ENOSPC);
	assert_int_equal(store_session_refused(w->guest, STORE_REFUSED_PERMS), 1);
	assert_int_equal(store_set_perms(w->zero, 0, "/v", three, 3), 0);

	/* Watches and transactions are counted over all sessions of the domain. */
	second = store_open(w->store, GUEST, NULL, NULL);
	assert_int_equal(store_watch(w->guest, "a", "1", on_event, w), 0);
	assert_int_equal(store_watch(w->guest, "a", "2", on_event, w), 0);
	assert_int_equal(store_watch(second, "a", "1", on_event, w), 0);
	assert_int_equal(store_watch(w->guest, "a", "3", on_event, w), -E2BIG);
	assert_int_equal(store_session_refused(w->guest, STORE_REFUSED_WATCHES), 1);
	assert_int_equal(store_tx_start(w->guest, &tx[0]), 0);
	assert_int_equal(store_tx_start(second, &tx[1]), 0);
	assert_int_equal(store_tx_start(w->guest, &tx[2]), -ENOSPC);
	assert_int_equal(store_session_refused(w->guest, STORE_REFUSED_TRANSACTIONS), 1);
	store_close(second);
	assert_int_equal(store_watch(w->guest, "a", "3", on_event, w), 0);
	assert_int_equal(store_tx_start(w->guest, &tx[2]), 0);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(store_tx_start(w->zero, &tx[1]), 0);
}

static void test_transaction_quotas(void **state)
{
	struct world *w = *state;
	uint32_t tx;
	char name[] = "a";

	/* /local/domain/5 are three of the twelve nodes that a transaction may look at. */
	assert_int_equal(store_tx_start(w->guest, &tx), 0);
	for (; name[0] <= 'i'; name[0]++)
		assert_int_equal(read_error(w->guest, tx, name), -ENOENT);
	assert_int_equal(read_error(w->guest, tx, name), -ENOSPC);
	assert_int_equal(store_session_refused(w->guest, STORE_REFUSED_TRANSACTION_SIZE), 1);
	assert_int_equal(store_tx_end(w->guest, tx, true), 0);

	assert_int_equal(store_tx_start(w->guest, &tx), 0);
	assert_int_equal(put(w->guest, tx, "a", "0123456789abcdef"), 0);
	assert_int_equal(put(w->guest, tx, "b", "0123456789abcdef"), 0);
	assert_int_equal(put(w->guest, tx, "c", "0123456789abcdef"), -ENOSPC);
	assert_int_equal(store_session_refused(w->guest, STORE_REFUSED_TRANSACTION_SIZE), 2);
	assert_int_equal(put(w->guest, tx, "c", "01234567"), 0);
	assert_int_equal(store_check(w->store), 0);
	assert_int_equal(store_tx_end(w->guest, tx, true), 0);
	assert_children(w->guest, 0, "/local/domain/5", "a b c");

	/* The node quota: within one transaction, and for two that fit only alone. */
	assert_int_equal(store_tx_start(w->guest, &tx), 0);
	assert_int_equal(put(w->guest, tx, "d", ""), 0);
	assert_int_equal(put(w->guest, tx, "e", ""), 0);
	assert_int_equal(put(w->guest, tx, "f", ""), 0);
	assert_int_equal(put(w->guest, tx, "g", ""), 0);
	assert_int_equal(put(w->guest, tx, "h", ""), -ENOSPC);
	assert_int_equal(store_rm(w->guest, tx, "g"), 0);
	assert_int_equal(put(w->guest, tx, "h", ""), 0);
	assert_int_equal(put(w->guest, 0, "z", ""), 0);
	assert_int_equal(store_tx_end(w->guest, tx, true), -ENOSPC);
	assert_children(w->guest, 0, "/local/domain/5", "a b c z");

	/* A removal that does not fit fails the transaction. */
	for (name[0] = 'a'; name[0] <= 'j'; name[0]++) {
		char path[] = "/local/domain/5/big/x";

		path[strlen(path) - 1] = name[0];
		assert_int_equal(put(w->zero, 0, path, ""), 0);
	}
	assert_int_equal(store_tx_start(w->guest, &tx), 0);
	assert_int_equal(store_rm(w->guest, tx, "big"), -ENOSPC);
	assert_int_equal(store_tx_end(w->guest, tx, true), -ENOSPC);
	assert_children(w->guest, 0, "big", "a b c d e f g h i j");
}

static void test_transaction_isolation(void **state)
{
	struct world *w = *state;
	uint32_t tx;

	assert_int_equal(put(w->zero, 0, "/t/a", "1"), 0);
	assert_int_equal(store_tx_start(w->zero, &tx), 0);
	assert_int_equal(put(w->zero, tx, "/t/a", "2"), 0);
	assert_int_equal(put(w->zero, tx, "/t/b/c", "3"), 0);
	assert_value(w->zero, tx, "/t/a", "2");
	assert_value(w->zero, tx, "/t/b", "");
	assert_children(w->zero, tx, "/t", "a b");
	assert_value(w->zero, 0, "/t/a", "1");
	assert_children(w->zero, 0, "/t", "a");
	assert_int_equal(store_tx_end(w->zero, tx, true), 0);
	assert_value(w->zero, 0, "/t/a", "2");
	assert_value(w->zero, 0, "/t/b/c", "3");

	/* Discarded. */
	assert_int_equal(store_tx_start(w->zero, &tx), 0);
	assert_int_equal(store_rm(w->zero, tx, "/t"), 0);
	assert_int_equal(read_error(w->zero, tx, "/t/a"), -ENOENT);
	assert_int_equal(store_tx_end(w->zero, tx, false), 0);
	assert_value(w->zero, 0, "/t/a", "2");

	/* Ids are the session's own, and end with the transaction. */
	assert_int_equal(store_tx_end(w->zero, tx, true), -ENOENT);
	assert_int_equal(read_error(w->zero, tx, "/t"), -ENOENT);
	assert_int_equal(store_tx_start(w->zero, &tx), 0);
	assert_int_equal(read_error(w->guest, tx, "x"), -ENOENT);
	assert_int_equal(store_tx_end(w->guest, tx, true), -ENOENT);
	assert_int_equal(store_session_refused(w->guest, STORE_REFUSED_NO_TRANSACTION), 2);
}

static void test_transaction_rm(void **state)
{
	struct world *w = *state;
	uint32_t tx;

	assert_int_equal(put(w->zero, 0, "/t/a/x", "1"), 0);
	assert_int_equal(put(w->zero, 0, "/t/a/y", "2"), 0);
	assert_int_equal(store_tx_start(w->zero, &tx), 0);
	assert_int_equal(put(w->zero, tx, "/t/a/z", "3"), 0);
	assert_int_equal(store_rm(w->zero, tx, "/t/a"), 0);
	assert_children(w->zero, tx, "/t", "");
	assert_int_equal(store_rm(w->zero, tx, "/t/a/x"), -ENOENT);
	assert_int_equal(put(w->zero, tx, "/t/a/y", "4"), 0);
	assert_children(w->zero, tx, "/t/a", "y");
	assert_int_equal(read_error(w->zero, tx, "/t/a/x"), -ENOENT);
	assert_int_equal(store_tx_end(w->zero, tx, true), 0);
	assert_children(w->zero, 0, "/t/a", "y");
	assert_value(w->zero, 0, "/t/a/y", "4");

	/* What others put below a removed node does not show, even if it is made again. */
	assert_int_equal(store_tx_start(w->zero, &tx), 0);
	assert_int_equal(store_rm(w->zero, tx, "/t/a"), 0);
	assert_int_equal(put(w->zero, 0, "/t/a/z", ""), 0);
	assert_int_equal(read_error(w->zero, tx, "/t/a/z"), -ENOENT);
	assert_int_equal(store_mkdir(w->zero, tx, "/t/a"), 0);
	assert_children(w->zero, tx, "/t/a", "");
	assert_int_equal(read_error(w->zero, tx, "/t/a/z"), -ENOENT);
	assert_int_equal(store_tx_end(w->zero, tx, true), -EAGAIN);
	assert_int_equal(store_rm(w->zero, 0, "/t/a/z"), 0);

	/* Somebody else changes what was removed. */
	assert_int_equal(store_tx_start(w->zero, &tx), 0);
	assert_int_equal(store_rm(w->zero, tx, "/t"), 0);
	assert_int_equal(put(w->zero, 0, "/t/a/new", ""), 0);
	assert_int_equal(store_tx_end(w->zero, tx, true), -EAGAIN);
	assert_children(w->zero, 0, "/t/a", "new y");

	/* Somebody else removes what was read or will hold a new node. */
	assert_int_equal(store_tx_start(w->zero, &tx), 0);
	assert_int_equal(put(w->zero, tx, "/t/a/b/c", ""), 0);
	assert_int_equal(store_rm(w->zero, 0, "/t/a"), 0);
	assert_int_equal(store_tx_end(w->zero, tx, true), -EAGAIN);
	assert_children(w->zero, 0, "/t", "");
}

static void test_transaction_conflicts(void **state)
{
	struct world *w = *state;
	uint32_t one, two;

	assert_int_equal(put(w->zero, 0, "/t/a", "1"), 0);
	assert_int_equal(put(w->zero, 0, "/t/b", "1"), 0);

	/* Read, then changed: even to the same value. */
	assert_int_equal(store_tx_start(w->zero, &one), 0);
	assert_value(w->zero, one, "/t/a", "1");
	assert_int_equal(put(w->zero, 0, "/t/a", "1"), 0);
	assert_int_equal(store_tx_end(w->zero, one, true), -EAGAIN);
	assert_int_equal(store_refused(w->store, STORE_REFUSED_CONFLICT), 1);

	/* Absent, then there; and there, gone, and there again. */
	assert_int_equal(store_tx_start(w->zero, &one), 0);
	assert_int_equal(read_error(w->zero, one, "/t/c"), -ENOENT);
	assert_int_equal(put(w->zero, 0, "/t/c", ""), 0);
	assert_int_equal(store_tx_end(w->zero, one, true), -EAGAIN);
	assert_int_equal(store_tx_start(w->zero, &one), 0);
	assert_value(w->zero, one, "/t/c", "");
	assert_int_equal(store_rm(w->zero, 0, "/t/c"), 0);
	assert_int_equal(put(w->zero, 0, "/t/c", ""), 0);
	assert_int_equal(store_tx_end(w->zero, one, true), -EAGAIN);

	/* Listed, then a child more. */
	assert_int_equal(store_tx_start(w->zero, &one), 0);
	assert_children(w->zero, one, "/t", "a b c");
	assert_int_equal(put(w->zero, 0, "/t/d", ""), 0);
	assert_int_equal(store_tx_end(w->zero, one, true), -EAGAIN);

	/* Two that write the same; the first wins. */
	assert_int_equal(store_tx_start(w->zero, &one), 0);
	assert_int_equal(store_tx_start(w->zero, &two), 0);
	assert_int_equal(put(w->zero, one, "/t/a", "one"), 0);
	assert_int_equal(put(w->zero, two, "/t/a", "two"), 0);
	assert_int_equal(store_tx_end(w->zero, two, true), 0);
	assert_int_equal(store_tx_end(w->zero, one, true), -EAGAIN);
	assert_value(w->zero, 0, "/t/a", "two");

	/* Those that do not meet do not disturb each other: siblings, new children, other domains. */
	assert_int_equal(store_tx_start(w->zero, &one), 0);
	assert_int_equal(store_tx_start(w->zero, &two), 0);
	assert_int_equal(put(w->zero, one, "/t/a", "3"), 0);
	assert_int_equal(put(w->zero, one, "/t/new1", ""), 0);
	assert_int_equal(put(w->zero, two, "/t/b", "4"), 0);
	assert_int_equal(put(w->zero, two, "/t/new2", ""), 0);
	assert_int_equal(put(w->guest, 0, "noise", ""), 0);
	assert_int_equal(store_tx_end(w->zero, one, true), 0);
	assert_int_equal(store_tx_end(w->zero, two, true), 0);
	assert_children(w->zero, 0, "/t", "a b c d new1 new2");
}

static void test_transaction_permissions(void **state)
{
	static const struct store_perm open[] = {{GUEST, STORE_PERM_READ}};
	struct store_perm got[2];
	struct world *w = *state;
	uint32_t tx;

	assert_int_equal(put(w->guest, 0, "p", "v"), 0);
	assert_int_equal(store_tx_start(w->guest, &tx), 0);
	assert_int_equal(store_set_perms(w->guest, tx, "p", open, 1), 0);
	assert_int_equal(store_get_perms(w->guest, tx, "p", got, 2), 1);
	assert_int_equal(got[0].access, STORE_PERM_READ);
	assert_int_equal(read_error(w->other, 0, "/local/domain/5/p"), -EACCES);
	assert_int_equal(put(w->guest, tx, "/local/domain/6/p", ""), -EACCES);
	assert_int_equal(read_error(w->guest, tx, "/local/domain/6/p"), -EACCES);
	assert_int_equal(store_tx_end(w->guest, tx, true), 0);
	assert_value(w->other, 0, "/local/domain/5/p", "v");

	/* The right to write is taken away before the commit. */
	assert_int_equal(store_tx_start(w->guest, &tx), 0);
	assert_int_equal(put(w->guest, tx, "p/q", "late"), 0);
	assert_int_equal(
		store_set_perms(w->zero, 0, "/local/domain/5/p", (struct store_perm[]){{0, 0}}, 1),
		0);
	assert_int_equal(store_tx_end(w->guest, tx, true), -EAGAIN);
	assert_int_equal(read_error(w->zero, 0, "/local/domain/5/p/q"), -ENOENT);
}

static void test_watch_paths(void **state)
{
	struct world *w = *state;

	assert_int_equal(store_watch(w->zero, "/w/x", "here", on_event, w), 0);
	assert_int_equal(w->woken, 1);
	assert_true(store_pending(w->store));
	assert_events(w, "/w/x here\n");
	assert_int_equal(store_watch(w->zero, "/", "root", on_event, w), 0);
	assert_int_equal(store_watch(w->zero, "/w/x/deep/down", "down", on_event, w), 0);
	assert_events(w, "/ root\n/w/x/deep/down down\n");

	assert_int_equal(put(w->zero, 0, "/w/x", "1"), 0);
	assert_events(w, "/w/x root\n/w/x here\n");
	assert_int_equal(put(w->zero, 0, "/w/x/deep/down/under", "1"), 0);
	assert_events(w,
		"/w/x/deep/down/under root\n/w/x/deep/down/under here\n/w/x/deep/down/under down\n");
	assert_int_equal(put(w->zero, 0, "/w/xy", "1"), 0);
	assert_events(w, "/w/xy root\n");
	assert_int_equal(store_mkdir(w->zero, 0, "/w/x"), 0);
	assert_events(w, "");

	/* A removal also tells those below. */
	assert_int_equal(store_rm(w->zero, 0, "/w/x"), 0);
	assert_events(w, "/w/x root\n/w/x here\n/w/x/deep/down down\n");
	assert_int_equal(store_rm(w->zero, 0, "/w/x"), 0);
	assert_events(w, "");

	/* The same again and again is one event. */
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(put(w->zero, 0, "/w/x", "2"), 0);
	assert_events(w, "/w/x root\n/w/x here\n");

	/* A watch that goes takes its events along. */
	assert_int_equal(put(w->zero, 0, "/w/x", "3"), 0);
	assert_int_equal(store_unwatch(w->zero, "/w/x", "here"), 0);
	assert_int_equal(store_unwatch(w->zero, "/w/x", "here"), -ENOENT);
	assert_int_equal(store_unwatch(w->guest, "/", "root"), -ENOENT);
	assert_events(w, "/w/x root\n");
	store_reset(w->zero);
	assert_int_equal(put(w->zero, 0, "/w/x", "4"), 0);
	assert_events(w, "");
}

static void test_watch_refusals(void **state)
{
	struct world *w = *state;
	char token[STORE_TOKEN_MAX + 2];

	assert_int_equal(store_watch(w->guest, "x", "t", on_event, w), 0);
	assert_int_equal(store_watch(w->guest, "x", "t", on_event, w), -EEXIST);
	assert_int_equal(store_watch(w->guest, "/local/domain/5/x", "t", on_event, w), -EEXIST);
	assert_int_equal(store_watch(w->guest, "x", "", on_event, w), 0);
	assert_int_equal(store_watch(w->guest, "/a//b", "t", on_event, w), -EINVAL);
	memset(token, 't', sizeof(token));
	token[STORE_TOKEN_MAX + 1] = '\0';
	assert_int_equal(store_watch(w->guest, "x", token, on_event, w), -EINVAL);
	token[STORE_TOKEN_MAX] = '\0';
	assert_int_equal(store_watch(w->guest, "x", token, on_event, w), 0);
}

static void test_watch_relative_and_permissions(void **state)
{
	static const struct store_perm shared[] = {{0, STORE_PERM_NONE}, {GUEST, STORE_PERM_READ}};
	static const struct store_perm closed[] = {{0, STORE_PERM_NONE}};
	struct world *w = *state;

	assert_int_equal(store_watch(w->guest, "dev", "rel", on_event, w), 0);
	assert_int_equal(store_watch(w->guest, "/local/domain/5/dev", "abs", on_event, w), 0);
	assert_events(w, "dev rel\n/local/domain/5/dev abs\n");
	assert_int_equal(put(w->guest, 0, "dev/state", "1"), 0);
	assert_events(w, "/local/domain/5/dev/state abs\ndev/state rel\n");
	assert_int_equal(store_rm(w->zero, 0, "/local/domain/5/dev"), 0);
	assert_events(w, "/local/domain/5/dev abs\ndev rel\n");

	/* What may not be read is not told, but its end is told to those who could read it. */
	assert_int_equal(store_watch(w->guest, "/b", "b", on_event, w), 0);
	assert_int_equal(store_watch(w->other, "/b", "other", on_event, w), 0);
	assert_events(w, "/b b\n/b other\n");
	assert_int_equal(put(w->zero, 0, "/b", "1"), 0);
	assert_events(w, "");
	assert_int_equal(store_set_perms(w->zero, 0, "/b", shared, 2), 0);
	assert_events(w, "/b b\n");
	assert_int_equal(put(w->zero, 0, "/b/c", "1"), 0);
	assert_events(w, "/b/c b\n");
	assert_int_equal(store_set_perms(w->zero, 0, "/b", closed, 1), 0);
	assert_events(w, "/b b\n");
	assert_int_equal(put(w->zero, 0, "/b", "2"), 0);
	assert_events(w, "");
	assert_int_equal(store_set_perms(w->zero, 0, "/b", shared, 2), 0);
	assert_int_equal(store_rm(w->zero, 0, "/b"), 0);
	assert_events(w, "/b b\n");
}

static void test_watch_and_transaction(void **state)
{
	struct world *w = *state;
	uint32_t tx;

	assert_int_equal(put(w->zero, 0, "/t/old/x", "1"), 0);
	assert_int_equal(store_watch(w->zero, "/t", "t", on_event, w), 0);
	assert_int_equal(store_watch(w->zero, "/t/old/x", "x", on_event, w), 0);
	assert_events(w, "/t t\n/t/old/x x\n");
	assert_int_equal(store_tx_start(w->zero, &tx), 0);
	assert_int_equal(put(w->zero, tx, "/t/new/y", "1"), 0);
	assert_int_equal(put(w->zero, tx, "/t/new/y", "2"), 0);
	assert_int_equal(store_rm(w->zero, tx, "/t/old"), 0);
	assert_events(w, "");
	assert_int_equal(store_tx_end(w->zero, tx, true), 0);
	assert_events(w, "/t/new/y t\n/t/old t\n/t/old/x x\n");
	assert_int_equal(store_tx_start(w->zero, &tx), 0);
	assert_int_equal(put(w->zero, tx, "/t/new/y", "3"), 0);
	assert_int_equal(store_tx_end(w->zero, tx, false), 0);
	assert_events(w, "");
}

static void test_too_many_events(void **state)
{
	struct world *w = *state;
	char name[] = "x/a";

	assert_int_equal(store_watch(w->guest, "x", "t", on_event, w), 0);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(put(w->zero, 0, "/local/domain/5/x/a", ""), 0);
		assert_int_equal(put(w->zero, 0, "/local/domain/5/x/b", ""), 0);
	}
	assert_int_equal(put(w->guest, 0, name, ""), -ENOTCONN);
	assert_int_equal(w->ended, 0);
	assert_events(w, "");
	assert_int_equal(w->ended, 1);
	assert_int_equal(w->why, STORE_ENDED_EVENTS);
	assert_int_equal(store_watch(w->guest, "y", "t", on_event, w), -ENOTCONN);
	assert_int_equal(store_refused(w->store, STORE_ENDED_EVENTS), 1);
	assert_int_equal(put(w->other, 0, "fine", ""), 0);
}

/* A callback that changes the store, drops a watch and closes sessions, all at once. */
static void on_event_meddle(void *arg, const char *path, const char *token)
{
	struct world *w = arg;

	on_event(arg, path, token);
	assert_int_equal(put(w->zero, 0, "/m/echo", "x"), 0);
	(void)store_unwatch(w->zero, "/m", "victim");
	store_close(w->other);
	w->other = NULL;
}

static void test_callbacks_may_do_anything(void **state)
{
	struct world *w = *state;

	assert_int_equal(put(w->zero, 0, "/m", "1"), 0);
	assert_int_equal(store_watch(w->zero, "/m", "meddler", on_event_meddle, w), 0);
	assert_int_equal(store_watch(w->zero, "/m", "victim", on_event, w), 0);
	assert_int_equal(store_watch(w->other, "mine", "other", on_event, w), 0);
	assert_int_equal(w->woken, 1);
	assert_int_equal(store_process(w->store), 1);
	assert_string_equal(w->log, "/m meddler\n");
	assert_true(store_pending(w->store)); /* its own change: for the next round */
	assert_int_equal(w->woken, 2);
	assert_int_equal(store_process(w->store), 1);
	assert_string_equal(w->log, "/m meddler\n/m/echo meddler\n");
}

static void test_domains(void **state)
{
	static const struct store_perm granted[] = {{0, STORE_PERM_NONE}, {GUEST, STORE_PERM_READ}};
	struct store_perm got[4];
	struct world *w = *state;
	uint32_t tx;

	assert_int_equal(store_watch(w->zero, "@introduceDomain", "in", on_event, w), 0);
	assert_int_equal(store_watch(w->zero, "@releaseDomain", "out", on_event, w), 0);
	assert_int_equal(store_watch(w->zero, "/@releaseDomain", "not", on_event, w), 0);
	assert_int_equal(store_watch(w->other, "@releaseDomain", "guest", on_event, w), 0);
	assert_int_equal(store_watch(w->zero, "/local/domain/5", "home", on_event, w), 0);
	assert_events(w,
		"@introduceDomain in\n@releaseDomain out\n/@releaseDomain not\n@releaseDomain guest\n"
		"/local/domain/5 home\n");
	assert_false(store_domain_introduced(w->store, GUEST));
	assert_true(store_domain_introduced(w->store, 0));
	assert_int_equal(store_domain_introduce(w->store, GUEST), 0);
	assert_int_equal(store_domain_introduce(w->store, GUEST), -EEXIST);
	assert_true(store_domain_introduced(w->store, GUEST));
	assert_events(w, "@introduceDomain in\n");

	assert_int_equal(put(w->zero, 0, "/backend/5", "b"), 0);
	assert_int_equal(store_set_perms(w->zero, 0, "/backend/5", granted, 2), 0);
	assert_int_equal(put(w->guest, 0, "a/b", "v"), 0);
	assert_int_equal(store_watch(w->guest, "a", "t", on_event, w), 0);
	assert_int_equal(store_tx_start(w->guest, &tx), 0);
	assert_int_equal(put(w->guest, tx, "c", "v"), 0);
	assert_events(w, "/local/domain/5/a/b home\na t\n");

	store_domain_gone(w->store, GUEST);
	assert_int_equal(put(w->guest, 0, "a", ""), -ENOTCONN);
	assert_events(w, "/local/domain/5 home\n@releaseDomain out\n");
	assert_int_equal(w->ended, 1);
	assert_int_equal(w->why, STORE_ENDED_DOMAIN);
	assert_children(w->zero, 0, "/local/domain", "6");
	assert_int_equal(store_get_perms(w->zero, 0, "/backend/5", got, 4), 1);
	assert_int_equal(store_check(w->store), 0);

	/* The next one of this number starts from nothing. */
	store_close(w->guest);
	w->guest = store_open(w->store, GUEST, on_ended, w);
	assert_int_equal(read_error(w->guest, 0, "/backend/5"), -EACCES);
	assert_int_equal(read_error(w->guest, 0, "a"), -EACCES);
	store_domain_gone(w->store, GUEST);
	assert_events(w, "");
	store_domain_gone(w->store, 0);
	store_domain_gone(w->store, 1234);
	assert_value(w->zero, 0, "/backend/5", "b");
}

static void test_names_of_refusals(void **state)
{
	(void)state;
	for (unsigned i = 0; i < STORE_REFUSALS; i++)
		assert_non_null(store_refusal_names[i]);
}

/*
 * Against a model: a list of values by path, where a transaction is the list of what it was asked and answered, and
 * committing asks the model the same. What commits must read the same there: it ran as if in one piece, at its end.
 */

enum {
	FAN = 3,
	LEVELS = 3,
	PATHS = FAN + FAN * FAN + FAN * FAN * FAN,
	STEPS = 20000,
	TXS = 4,
	LOG = 64
};

struct model {
	int value[PATHS]; /* -1: absent */
};

struct step {
	int op, path, value, answer;
};

enum { OP_READ, OP_WRITE, OP_MKDIR, OP_RM, OP_LIST, OPS };

/* Path 0..2 are "/0".."/2"; the children of p are FAN * (p + 1) ... */
static int parent_of(int p)
{
	return p / FAN - 1;
}

static void name_of(int p, char *out)
{
	char reversed[LEVELS];
	int n = 0;

	for (; p >= 0; p = parent_of(p))
		reversed[n++] = (char)('0' + p % FAN);
	while (n) {
		*out++ = '/';
		*out++ = reversed[--n];
	}
	*out = '\0';
}

static void model_rm(struct model *m, int p)
{
	m->value[p] = -1;
	for (int c = FAN * (p + 1); c < FAN * (p + 2) && c < PATHS; c++)
		model_rm(m, c);
}

static void model_make(struct model *m, int p)
{
	for (; p >= 0; p = parent_of(p)) {
		if (m->value[p] < 0)
			m->value[p] = 0;
	}
}

static int model_do(struct model *m, const struct step *s)
{
	int p = s->path, mask = 0;
	bool there = m->value[p] >= 0;

	switch (s->op) {
	case OP_READ:
		return there ? m->value[p] : -ENOENT;
	case OP_WRITE:
		model_make(m, p);
		m->value[p] = s->value;
		return 0;
	case OP_MKDIR:
		model_make(m, p);
		return 0;
	case OP_RM:
		if (!there && parent_of(p) >= 0 && m->value[parent_of(p)] < 0)
			return -ENOENT;
		model_rm(m, p);
		return 0;
	default:
		if (!there)
			return -ENOENT;
		for (int i = 0; i < FAN && FAN * (p + 1) + i < PATHS; i++)
			mask |= (m->value[FAN * (p + 1) + i] >= 0) << i;
		return mask;
	}
}

static int store_do(struct store_session *s, uint32_t tx, const struct step *step)
{
	char path[2 * LEVELS + 1], text[16], *names;
	int n, mask = 0;
	size_t len;

	name_of(step->path, path);
	switch (step->op) {
	case OP_READ:
		n = store_read(s, tx, path, text, sizeof(text));
		return n < 0 ? n : n == 0 ? 0 : atoi(text);
	case OP_WRITE:
		(void)snprintf(text, sizeof(text), "%d", step->value);
		return put(s, tx, path, text);
	case OP_MKDIR:
		return store_mkdir(s, tx, path);
	case OP_RM:
		return store_rm(s, tx, path);
	default:
		n = store_directory(s, tx, path, &names, &len, NULL);
		if (n < 0)
			return n;
		for (size_t at = 0; at < len; at += 2)
			mask |= 1 << (names[at] - '0');
		free(names);
		return mask;
	}
}

static void test_against_model(void **state)
{
	struct world *w = *state;
	struct {
		uint32_t id; /* 0: none */
		unsigned n;
		struct step log[LOG];
	} txs[TXS] = {0};
	struct model m;
	unsigned committed = 0, conflicts = 0;
	uint64_t seed = 0x5eed;

	memset(m.value, 0xff, sizeof(m.value));
	for (unsigned i = 0; i < STEPS; i++) {
		struct step step;
		unsigned pick, t;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		pick = (unsigned)(seed >> 33);
		t = pick % (2 * TXS); /* the upper half: no transaction */
		pick /= 2 * TXS;
		if (t < TXS && !txs[t].id) {
			assert_int_equal(store_tx_start(w->zero, &txs[t].id), 0);
			txs[t].n = 0;
		} else if (t < TXS && (txs[t].n == LOG || pick % 8 == 0)) {
			bool commit = pick / 8 % 8 != 0;
			int err = store_tx_end(w->zero, txs[t].id, commit);

			txs[t].id = 0;
			assert_true(err == 0 || (commit && err == -EAGAIN));
			conflicts += err != 0;
			for (unsigned k = 0; commit && !err && k < txs[t].n; k++)
				assert_int_equal(
					model_do(&m, &txs[t].log[k]), txs[t].log[k].answer);
			committed += commit && !err;
		} else {
			step = (struct step){.op = (int)(pick / 8 % OPS),
				.path = (int)(pick / 64 % PATHS),
				.value = 1 + (int)(pick / 4096 % 1000)};
			if (t < TXS) {
				step.answer = store_do(w->zero, txs[t].id, &step);
				txs[t].log[txs[t].n++] = step;
			} else {
				assert_int_equal(store_do(w->zero, 0, &step), model_do(&m, &step));
			}
		}
		if (i % 100 == 0) {
			assert_int_equal(store_check(w->store), 0);
			for (int p = 0; p < PATHS; p++) {
				step = (struct step){.op = OP_READ, .path = p};
				assert_int_equal(store_do(w->zero, 0, &step),
					m.value[p] < 0 ? -ENOENT : m.value[p]);
			}
		}
	}
	assert_true(committed > 100);
	assert_true(conflicts > 100);
}

static void test_many_domains(void **state)
{
	struct world *w = *state;
	char path[128];

	for (unsigned d = 1000; d < 2000; d++) {
		struct store_perm perm = {(uint16_t)d, STORE_PERM_NONE};

		(void)snprintf(path, sizeof(path), "/local/domain/%u", d);
		assert_int_equal(store_mkdir(w->zero, 0, path), 0);
		assert_int_equal(store_set_perms(w->zero, 0, path, &perm, 1), 0);
		(void)snprintf(path, sizeof(path), "/local/domain/%u/device/vif/0/state", d);
		assert_int_equal(store_watch(w->zero, path, "front", on_event, w), 0);
		for (unsigned k = 0; k < 40; k++) {
			(void)snprintf(
				path, sizeof(path), "/local/domain/%u/device/vif/0/key-%u", d, k);
			assert_int_equal(put(w->zero, 0, path, "1"), 0);
		}
	}
	while (store_pending(w->store))
		(void)store_process(w->store);
	for (uint16_t d = 1000; d < 1020; d++)
		store_domain_gone(w->store, d);
	(void)snprintf(path, sizeof(path), "/local/domain/1020/device/vif/0");
	assert_int_equal(put(w->zero, 0, path, "still"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_values, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directory_is_sorted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mkdir_and_rm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_permissions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_node_quota, setup_tight, teardown),
		cmocka_unit_test_setup_teardown(test_other_quotas, setup_tight, teardown),
		cmocka_unit_test_setup_teardown(test_transaction_quotas, setup_tight, teardown),
		cmocka_unit_test_setup_teardown(test_transaction_isolation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transaction_rm, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transaction_conflicts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transaction_permissions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_watch_relative_and_permissions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_watch_and_transaction, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_events, setup_tight, teardown),
		cmocka_unit_test_setup_teardown(test_callbacks_may_do_anything, setup, teardown),
		cmocka_unit_test_setup_teardown(test_domains, setup, teardown),
		cmocka_unit_test(test_names_of_refusals),
		cmocka_unit_test_setup_teardown(test_against_model, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_domains, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
