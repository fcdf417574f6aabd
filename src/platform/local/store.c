/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The store's tree. Three tries share one node, the twig: the tree itself, the watches by path, and for each
 * transaction an overlay of what it looked at and wrote.
 *
 * Children are sorted arrays: a lookup costs the path's depth times the logarithm of the fan-out, whatever names a
 * guest picks. A change visits the watches along its path; a removal also those below it, walking only where both a
 * node and a watch exist.
 *
 * Every node carries two generations from one counter: one for its value and permissions, one for its list of
 * children. An overlay notes the generation that it saw first (0: absent), and a commit compares. Creating a child
 * does not touch the parent's first generation, so transactions that fill the same directory do not conflict
 * (STORE-CONFLICT).
 */
#include "platform/local/store.h"

#include "base/checked.h"
#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <xen/io/xs_wire.h>

static_assert(STORE_VALUE_MAX == XENSTORE_PAYLOAD_MAX, "a value fits a message");
static_assert(XENSTORE_ABS_PATH_MAX + STORE_TOKEN_MAX + 2 == XENSTORE_PAYLOAD_MAX,
	"an event fits a message");
static_assert(
	STORE_PERMS_MAX * sizeof("b65535") <= XENSTORE_PAYLOAD_MAX, "permissions fit a message");

#define DOMAIN_BUCKETS 256

/* The defaults of xenstored where it has them, but for a shorter path. */
const struct store_limits store_limits_default = {
	.nodes = 1000,
	.node_size = 2048,
	.watches = 128,
	.transactions = 10,
	.transaction_nodes = 1024,
	.transaction_bytes = 65536,
	.path = 512,
	.perms = 5,
	.events = 4096,
	.backlog = 262144,
};

const char *const store_refusal_names[] = {
	[STORE_REFUSED_MALFORMED] = "malformed",
	[STORE_REFUSED_UNSUPPORTED] = "unsupported",
	[STORE_REFUSED_PATH] = "path",
	[STORE_REFUSED_PERMISSION] = "permission",
	[STORE_REFUSED_NODES] = "nodes",
	[STORE_REFUSED_NODE_SIZE] = "node-size",
	[STORE_REFUSED_WATCHES] = "watches",
	[STORE_REFUSED_TRANSACTIONS] = "transactions",
	[STORE_REFUSED_TRANSACTION_SIZE] = "transaction-size",
	[STORE_REFUSED_NO_TRANSACTION] = "no-transaction",
	[STORE_REFUSED_CONFLICT] = "conflict",
	[STORE_REFUSED_PERMS] = "perms",
	[STORE_REFUSED_TOO_BIG] = "too-big",
	[STORE_ENDED_OVERSIZED] = "ended-oversized",
	[STORE_ENDED_BACKLOG] = "ended-backlog",
	[STORE_ENDED_EVENTS] = "ended-events",
	[STORE_ENDED_SEND] = "ended-send",
	[STORE_ENDED_DOMAIN] = "ended-domain",
	[STORE_ENDED_MEMORY] = "ended-memory",
};
static_assert(ARRAY_SIZE(store_refusal_names) == STORE_REFUSALS, "a name for each");

/* A trie's node; the first member of what it is a node of. The root's name is empty. */
struct twig {
	struct twig *parent;
	struct twig **kids;
	unsigned n_kids, room;
	unsigned len;
	char *name;
};

struct data {
	struct store_perm *perms;
	unsigned n_perms;
	size_t len;
	char *value;
};

struct node {
	struct twig t;
	struct data d;
	uint64_t gen, kids_gen;
};

struct overlay {
	struct twig t;
	enum { INHERIT, PRESENT, ABSENT } state; /* INHERIT: as in the tree */
	bool cut;  /* removed at some time: nothing of the tree shows below */
	bool fire; /* a commit tells the watches */
	bool seen, kids_seen;
	uint64_t seen_gen, seen_kids_gen;
	uint64_t gen, kids_gen;
	struct data d; /* if PRESENT */
};

struct event {
	TAILQ_ENTRY(event) link;
	TAILQ_ENTRY(event) of_watch;
	struct watch *watch;
	uint64_t round; /* of store_process() calls, in which it was queued */
	char path[];
};
TAILQ_HEAD(event_list, event);

struct perch { /* a path that is watched */
	struct twig t;
	LIST_HEAD(watch_list, watch) watches;
};

struct watch {
	LIST_ENTRY(watch) of_perch;
	LIST_ENTRY(watch) of_session;
	struct perch *perch;
	struct store_session *session;
	struct event_list events;
	store_watch_fn *fn;
	void *arg;
	size_t strip; /* bytes to leave out at the front of a path: the watch is relative */
	char token[];
};

struct tx {
	LIST_ENTRY(tx) link;
	struct store_session *session;
	uint32_t id;
	int broken; /* a removal stopped half-way: what the commit returns */
	unsigned n_overlays;
	long nodes; /* change of the number that the session's domain owns */
	struct overlay *root;
};

struct domain {
	LIST_ENTRY(domain) bucket;
	LIST_HEAD(session_list, store_session) sessions;
	uint16_t domid;
	bool introduced;
	unsigned long nodes;
	unsigned long counted; /* by store_check() */
	unsigned watches;
	unsigned transactions;
	size_t tx_bytes;
};

struct store_session {
	LIST_ENTRY(store_session) of_domain;
	TAILQ_ENTRY(store_session) of_ended;
	struct store *store;
	struct domain *domain;
	LIST_HEAD(tx_list, tx) txs;
	struct watch_list watches;
	unsigned n_events;
	uint32_t last_tx;
	bool ended, announced; /* announced: no longer on the list of those whose callback is due */
	enum store_refusal why;
	store_ended_fn *fn;
	void *arg;
	uint64_t refused[STORE_REFUSALS];
};

struct store {
	struct store_limits limits;
	struct node *root;
	struct perch *watched;  /* by path */
	struct perch *specials; /* children only, named "@..." */
	uint64_t gen;
	LIST_HEAD(domain_list, domain) domains[DOMAIN_BUCKETS];
	struct event_list events;
	unsigned n_events;
	uint64_t round;
	TAILQ_HEAD(ended_list, store_session) ended;
	bool woken;
	store_wake_fn *wake;
	void *wake_arg;
	uint64_t refused[STORE_REFUSALS];
};

struct path {
	size_t len; /* 0 for the root */
	size_t strip;
	char s[XENSTORE_ABS_PATH_MAX + 1]; /* "" for the root */
};

/* What a path leads to, as one transaction (or none) sees it. */
struct spot {
	struct node *base;       /* in the tree, unless the transaction hides it */
	struct overlay *over;    /* in the transaction */
	const struct data *data; /* NULL: absent */
	const struct data *near; /* the nearest that exists, itself or an ancestor */
	size_t near_len;         /* its path's length */
};

/*
 * Twigs.
 */

/* The place of a name among the children: where it is (true) or would be. */
static bool twig_slot(const struct twig *t, const char *name, size_t len, unsigned *slot)
{
	unsigned low = 0, high = t->n_kids;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;
		const struct twig *kid = t->kids[mid];
		int order = memcmp(name, kid->name, MIN(len, kid->len));

		if (order == 0)
			order = len < kid->len ? -1 : len > kid->len;
		if (order == 0) {
			*slot = mid;
			return true;
		}
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	*slot = low;
	return false;
}

static void *twig_kid(const void *of, const char *name, size_t len)
{
	const struct twig *t = of;
	unsigned slot;

	return t && t->n_kids && twig_slot(t, name, len, &slot) ? t->kids[slot] : NULL;
}

/* A zeroed structure of `size` bytes with a twig in front, not yet anyone's child. */
static void *twig_new(size_t size, const char *name, size_t len)
{
	struct twig *t = calloc(1, size + len + 1);

	if (!t)
		return NULL;
	t->name = (char *)t + size;
	t->len = (unsigned)len;
	if (len)
		memcpy(t->name, name, len);
	return t;
}

static void *twig_add(void *of, size_t size, const char *name, size_t len)
{
	struct twig *parent = of, *t;
	unsigned slot;

	if (parent->n_kids == parent->room) {
		unsigned room = parent->room ? parent->room * 2 : 4;
		struct twig **kids = reallocarray(parent->kids, room, sizeof(struct twig *));

		if (!kids)
			return NULL;
		parent->kids = kids;
		parent->room = room;
	}
	t = twig_new(size, name, len);
	if (!t)
		return NULL;
	(void)twig_slot(parent, name, len, &slot);
	memmove(parent->kids + slot + 1, parent->kids + slot,
		(parent->n_kids - slot) * sizeof(struct twig *));
	parent->kids[slot] = t;
	parent->n_kids++;
	t->parent = parent;
	return t;
}

static void twig_cut(struct twig *t)
{
	struct twig *parent = t->parent;
	unsigned slot;

	if (!parent || !twig_slot(parent, t->name, t->len, &slot))
		return;
	parent->n_kids--;
	memmove(parent->kids + slot, parent->kids + slot + 1,
		(parent->n_kids - slot) * sizeof(struct twig *));
	t->parent = NULL;
}

/* The next in pre-order within `top` that is not below `t`, NULL if there is none. */
static void *twig_after(struct twig *t, const struct twig *top)
{
	while (t != top) {
		struct twig *parent = t->parent;
		unsigned slot;

		(void)twig_slot(parent, t->name, t->len, &slot);
		if (slot + 1 < parent->n_kids)
			return parent->kids[slot + 1];
		t = parent;
	}
	return NULL;
}

/* The next in pre-order within `top`, NULL after the last. */
static void *twig_next(struct twig *t, const struct twig *top)
{
	return t->n_kids ? t->kids[0] : twig_after(t, top);
}

/* Free `top` and all below, leaves first; `release` frees what hangs on one of them. */
static void twig_free(void *of, void (*release)(void *twig, void *arg), void *arg)
{
	struct twig *top = of, *t = top;

	if (!top)
		return;
	twig_cut(top);
	for (;;) {
		struct twig *parent;

		while (t->n_kids)
			t = t->kids[t->n_kids - 1];
		parent = t->parent;
		if (parent)
			parent->n_kids--;
		release(t, arg);
		free(t->kids);
		free(t);
		if (!parent)
			return;
		t = parent;
	}
}

static void twig_path(const struct twig *t, struct path *p)
{
	size_t at = 0;

	for (const struct twig *up = t; up->parent; up = up->parent)
		at += up->len + 1;
	p->len = at;
	p->strip = 0;
	p->s[at] = '\0';
	for (; t->parent; t = t->parent) {
		at -= t->len + 1;
		p->s[at] = '/';
		memcpy(p->s + at + 1, t->name, t->len);
	}
}

/* The next component at `at`, before `end`; `at` moves behind it. */
static bool path_step(const struct path *p, size_t *at, size_t end, const char **name, size_t *len)
{
	if (*at >= end)
		return false;
	*name = p->s + *at + 1;
	*len = strcspn(*name, "/");
	*at += *len + 1;
	return true;
}

/*
 * Data and permissions.
 */

static void data_free(struct data *d)
{
	free(d->perms);
	free(d->value);
	*d = (struct data){0};
}

static int data_new(struct data *d, const struct store_perm *perms, unsigned n_perms,
	const void *value, size_t len)
{
	*d = (struct data){.n_perms = n_perms, .len = len};
	d->perms = reallocarray(NULL, n_perms, sizeof(*perms));
	d->value = malloc(len + 1);
	if (!d->perms || !d->value) {
		data_free(d);
		return -ENOMEM;
	}
	memcpy(d->perms, perms, n_perms * sizeof(*perms));
	if (len)
		memcpy(d->value, value, len);
	d->value[len] = '\0';
	return 0;
}

static uint16_t owner(const struct data *d)
{
	return d->perms[0].domid;
}

static bool may(const struct data *d, uint16_t domid, unsigned access)
{
	unsigned allowed = d->perms[0].access;

	if (domid == 0 || domid == owner(d))
		return true;
	for (unsigned i = 1; i < d->n_perms; i++) {
		if (d->perms[i].domid == domid) {
			allowed = d->perms[i].access;
			break;
		}
	}
	return (allowed & access) == access;
}

/*
 * Domains and sessions.
 */

static struct domain *domain_find(const struct store *store, uint16_t domid)
{
	struct domain *dom;

	LIST_FOREACH (dom, &store->domains[domid % DOMAIN_BUCKETS], bucket) {
		if (dom->domid == domid)
			return dom;
	}
	return NULL;
}

static struct domain *domain_get(struct store *store, uint16_t domid)
{
	struct domain *dom = domain_find(store, domid);

	if (dom)
		return dom;
	dom = calloc(1, sizeof(*dom));
	if (!dom)
		return NULL;
	dom->domid = domid;
	LIST_INSERT_HEAD(&store->domains[domid % DOMAIN_BUCKETS], dom, bucket);
	return dom;
}

static bool limited(const struct store_session *s)
{
	return s->domain->domid != 0;
}

int store_refuse(struct store_session *s, enum store_refusal which, int error)
{
	s->refused[which]++;
	s->store->refused[which]++;
	return error;
}

static void wake(struct store *store)
{
	if (store->woken)
		return;
	store->woken = true;
	if (store->wake)
		store->wake(store->wake_arg);
}

/* Only marks: whoever calls may be in the middle of a list of watches. store_process() cleans up. */
void store_end(struct store_session *s, enum store_refusal why)
{
	if (s->ended)
		return;
	s->ended = true;
	s->why = why;
	(void)store_refuse(s, why, 0);
	TAILQ_INSERT_TAIL(&s->store->ended, s, of_ended);
	wake(s->store);
}

/*
 * Watches and events.
 */

static void event_free(struct store *store, struct event *e)
{
	TAILQ_REMOVE(&store->events, e, link);
	TAILQ_REMOVE(&e->watch->events, e, of_watch);
	store->n_events--;
	e->watch->session->n_events--;
	free(e);
}

/* Queue one event for one watch if its session may read the node: as it is (`now`) or as it was (`old`, NULL if there
 * is none). With neither, always. An event equal to the last one is not queued (STORE-EVENTS). */
static void watch_event(
	struct watch *w, const struct path *p, const struct data *now, const struct data *old)
{
	struct store_session *s = w->session;
	struct store *store = s->store;
	const char *path = p->len ? p->s : "/";
	struct event *e = TAILQ_LAST(&w->events, event_list);
	size_t size;

	if (s->ended)
		return;
	if ((now || old) && !(now && may(now, s->domain->domid, STORE_PERM_READ)) &&
		!(old && may(old, s->domain->domid, STORE_PERM_READ)))
		return;
	if (e && strcmp(e->path, path) == 0)
		return;
	if (limited(s) && s->n_events >= store->limits.events) {
		store_end(s, STORE_ENDED_EVENTS);
		return;
	}
	size = strlen(path) + 1;
	e = malloc(sizeof(*e) + size);
	if (!e) {
		store_end(s, STORE_ENDED_MEMORY);
		return;
	}
	e->watch = w;
	e->round = store->round;
	memcpy(e->path, path, size);
	TAILQ_INSERT_TAIL(&store->events, e, link);
	TAILQ_INSERT_TAIL(&w->events, e, of_watch);
	store->n_events++;
	s->n_events++;
	wake(store);
}

static void perch_event(
	struct perch *perch, const struct path *p, const struct data *now, const struct data *old)
{
	struct watch *w;

	LIST_FOREACH (w, &perch->watches, of_perch)
		watch_event(w, p, now, old);
}

/* The node at `p` changed from `old` to `now`, either of which may be NULL. */
static void fire(
	struct store *store, const struct path *p, const struct data *now, const struct data *old)
{
	struct perch *perch = store->watched;
	const char *name;
	size_t at = 0, len;

	while (perch) {
		perch_event(perch, p, now, old);
		perch = path_step(p, &at, p->len, &name, &len) ? twig_kid(perch, name, len) : NULL;
	}
}

/* All nodes below `node` are about to go. Recursion is bounded by the longest path. */
static void fire_below(const struct perch *perch, const struct node *node)
{
	struct path p;

	for (unsigned i = 0; perch && i < perch->t.n_kids; i++) {
		struct perch *kid = (struct perch *)perch->t.kids[i];
		const struct node *gone = twig_kid(node, kid->t.name, kid->t.len);

		if (!gone)
			continue;
		if (!LIST_EMPTY(&kid->watches)) {
			twig_path(&kid->t, &p);
			perch_event(kid, &p, NULL, &gone->d);
		}
		fire_below(kid, gone);
	}
}

/* For domain 0 only (STORE-SPECIAL). */
static void fire_special(struct store *store, const char *name)
{
	struct perch *perch = twig_kid(store->specials, name, strlen(name));
	struct path p = {.len = strlen(name)};
	struct watch *w;

	if (!perch)
		return;
	memcpy(p.s, name, p.len + 1);
	LIST_FOREACH (w, &perch->watches, of_perch) {
		if (!limited(w->session))
			watch_event(w, &p, NULL, NULL);
	}
}

static void perch_release(void *twig, void *arg)
{
	(void)twig;
	(void)arg;
}

/* Free it and its ancestors as far as nobody needs them. */
static void perch_prune(struct perch *perch)
{
	while (perch->t.parent && LIST_EMPTY(&perch->watches) && !perch->t.n_kids) {
		struct perch *parent = (struct perch *)perch->t.parent;

		twig_free(perch, perch_release, NULL);
		perch = parent;
	}
}

static void watch_free(struct watch *w)
{
	struct event *e;

	while ((e = TAILQ_FIRST(&w->events)))
		event_free(w->session->store, e);
	LIST_REMOVE(w, of_perch);
	LIST_REMOVE(w, of_session);
	w->session->domain->watches--;
	perch_prune(w->perch);
	free(w);
}

void store_on_wake(struct store *store, store_wake_fn *fn, void *arg)
{
	store->wake = fn;
	store->wake_arg = arg;
}

bool store_pending(const struct store *store)
{
	return store->n_events || !TAILQ_EMPTY(&store->ended);
}

unsigned store_process(struct store *store)
{
	unsigned done = 0;
	struct store_session *s;
	struct event *e;

	store->woken = false;
	store->round++;
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it left the list. */
	while ((e = TAILQ_FIRST(&store->events)) && e->round != store->round) {
		struct watch *w = e->watch;
		struct path p;
		size_t size = strlen(e->path) + 1;
		bool drop = w->session->ended;

		memcpy(p.s, e->path, size);
		event_free(store, e);
		if (drop)
			continue;
		w->fn(w->arg, p.s + w->strip, w->token);
		done++;
	}
	while ((s = TAILQ_FIRST(&store->ended))) {
		TAILQ_REMOVE(&store->ended, s, of_ended);
		s->announced = true;
		store_reset(s);
		if (s->fn)
			s->fn(s->arg, s->why);
	}
	if (store_pending(store))
		wake(store);
	return done;
}

/*
 * The tree.
 */

static void node_release(void *twig, void *arg)
{
	struct node *n = twig;
	struct domain *dom = domain_find(arg, owner(&n->d));

	if (dom)
		dom->nodes--;
	data_free(&n->d);
}

static struct node *node_find(const struct store *store, const struct path *p, size_t end)
{
	struct node *n = store->root;
	const char *name;
	size_t at = 0, len;

	while (n && path_step(p, &at, end, &name, &len))
		n = twig_kid(n, name, len);
	return n;
}

/* Set or create the node at the first `end` bytes of the path; its parent exists. Takes what `d` holds. */
static int node_put(
	struct store *store, const struct path *p, size_t end, struct data *d, bool tell)
{
	struct node *n = node_find(store, p, end);
	struct domain *dom = domain_get(store, owner(d)), *was;
	struct data old = {0};

	if (dom && !n) {
		const char *slash = memrchr(p->s, '/', end);
		size_t parent_len = (size_t)(slash - p->s);
		struct node *parent = node_find(store, p, parent_len);

		n = twig_add(parent, sizeof(*n), slash + 1, end - parent_len - 1);
		if (n)
			parent->kids_gen = ++store->gen;
	}
	if (!dom || !n) {
		data_free(d);
		return -ENOMEM;
	}
	old = n->d;
	n->d = *d;
	n->gen = ++store->gen;
	dom->nodes++;
	if (old.perms && (was = domain_find(store, owner(&old))))
		was->nodes--;
	if (tell)
		fire(store, p, &n->d, old.perms ? &old : NULL);
	data_free(&old);
	return 0;
}

static void node_remove(struct store *store, const struct path *p, struct node *n)
{
	const struct perch *perch = store->watched;
	const char *name;
	size_t at = 0, len;

	fire(store, p, NULL, &n->d);
	while (perch && path_step(p, &at, p->len, &name, &len))
		perch = twig_kid(perch, name, len);
	fire_below(perch, n);
	((struct node *)n->t.parent)->kids_gen = ++store->gen;
	twig_free(n, node_release, store);
}

/*
 * Transactions.
 */

static void overlay_drop(struct tx *tx, struct overlay *o)
{
	if (o->state == PRESENT)
		tx->session->domain->tx_bytes -= o->d.len;
	data_free(&o->d);
}

static void overlay_release(void *twig, void *arg)
{
	overlay_drop(arg, twig);
}

static void tx_free(struct tx *tx)
{
	twig_free(tx->root, overlay_release, tx);
	LIST_REMOVE(tx, link);
	tx->session->domain->transactions--;
	free(tx);
}

/* The child of an overlay, made if needed. */
static int overlay_get(
	struct tx *tx, struct overlay *of, const char *name, size_t len, struct overlay **out)
{
	struct store_session *s = tx->session;

	*out = twig_kid(of, name, len);
	if (*out)
		return 0;
	if (limited(s) && tx->n_overlays >= s->store->limits.transaction_nodes)
		return store_refuse(s, STORE_REFUSED_TRANSACTION_SIZE, -ENOSPC);
	*out = twig_add(of, sizeof(**out), name, len);
	if (!*out)
		return -ENOMEM;
	tx->n_overlays++;
	return 0;
}

static void overlay_see(struct overlay *o, const struct node *base)
{
	if (!o->seen)
		o->seen_gen = base ? base->gen : 0;
	o->seen = true;
}

static void overlay_see_kids(struct overlay *o, const struct node *base)
{
	if (!o->kids_seen)
		o->seen_kids_gen = base ? base->kids_gen : 0;
	o->kids_seen = true;
}

/* Note all nodes on the path from `from` on as looked at; the last one's overlay goes to `out`. */
static int tx_see(struct tx *tx, const struct path *p, size_t from, struct overlay **out)
{
	struct node *base = tx->session->store->root;
	struct overlay *o = tx->root;
	const char *name;
	size_t at = 0, len;

	if (from == 0)
		overlay_see(o, base);
	while (path_step(p, &at, p->len, &name, &len)) {
		int err;

		base = o->cut ? NULL : twig_kid(base, name, len);
		err = overlay_get(tx, o, name, len, &o);
		if (err)
			return err;
		if (at >= from)
			overlay_see(o, base);
	}
	*out = o;
	return 0;
}

static const struct data *visible(const struct node *base, const struct overlay *o)
{
	if (o && o->state != INHERIT)
		return o->state == PRESENT ? &o->d : NULL;
	return base ? &base->d : NULL;
}

static void spot_find(
	const struct store *store, const struct tx *tx, const struct path *p, struct spot *spot)
{
	const char *name;
	size_t at = 0, len;

	*spot = (struct spot){.base = store->root, .over = tx ? tx->root : NULL};
	spot->data = visible(spot->base, spot->over);
	spot->near = spot->data ? spot->data : &store->root->d;
	while (path_step(p, &at, p->len, &name, &len)) {
		if (spot->over && spot->over->cut)
			spot->base = NULL;
		spot->base = twig_kid(spot->base, name, len);
		spot->over = twig_kid(spot->over, name, len);
		spot->data = visible(spot->base, spot->over);
		if (spot->data) {
			spot->near = spot->data;
			spot->near_len = at;
		}
	}
}

/* Set or create a node whose path has been looked at; its parent exists in the view. Takes what `d` holds. */
static void tx_put(struct tx *tx, const struct path *p, size_t end, struct data *d, bool tell)
{
	struct store *store = tx->session->store;
	struct domain *dom = tx->session->domain;
	struct overlay *o = tx->root, *parent = NULL;
	const struct node *base = store->root;
	const char *name;
	size_t at = 0, len;

	while (path_step(p, &at, end, &name, &len)) {
		base = o->cut ? NULL : twig_kid(base, name, len);
		parent = o;
		o = twig_kid(o, name, len);
	}
	if (parent && !visible(base, o)) {
		parent->kids_gen = ++store->gen;
		tx->nodes += owner(d) == dom->domid;
	}
	overlay_drop(tx, o);
	o->d = *d;
	o->state = PRESENT;
	o->gen = ++store->gen;
	o->fire |= tell;
	dom->tx_bytes += d->len;
}

/* Remove what the transaction sees at `o`, over `base`. Recursion is bounded by the longest path. */
static int tx_remove(struct tx *tx, struct overlay *o, struct node *base)
{
	const struct data *d = visible(base, o);
	int err = 0;

	if (!d)
		return 0;
	overlay_see(o, base);
	overlay_see_kids(o, base);
	for (unsigned i = 0; base && !o->cut && i < base->t.n_kids; i++) {
		const struct twig *kid = base->t.kids[i];
		struct overlay *over;

		err = overlay_get(tx, o, kid->name, kid->len, &over);
		if (err)
			return err;
	}
	for (unsigned i = 0; i < o->t.n_kids; i++) {
		struct twig *kid = o->t.kids[i];

		err = tx_remove(tx, (struct overlay *)kid,
			o->cut ? NULL : twig_kid(base, kid->name, kid->len));
		if (err)
			return err;
	}
	tx->nodes -= owner(d) == tx->session->domain->domid;
	overlay_drop(tx, o);
	o->state = ABSENT;
	o->cut = true;
	return 0;
}

static bool tx_conflicts(const struct store *store, struct tx *tx)
{
	struct path p;

	for (struct overlay *o = tx->root; o; o = twig_next(&o->t, &tx->root->t)) {
		const struct node *n;

		if (!o->seen && !o->kids_seen)
			continue;
		twig_path(&o->t, &p);
		n = node_find(store, &p, p.len);
		if (o->seen && o->seen_gen != (n ? n->gen : 0))
			return true;
		if (o->kids_seen && o->seen_kids_gen != (n ? n->kids_gen : 0))
			return true;
	}
	return false;
}

/* Parents come before children: each node finds its parent as the transaction left it. */
static int tx_apply(struct store *store, struct tx *tx)
{
	struct path p;

	for (struct overlay *o = tx->root; o; o = twig_next(&o->t, &tx->root->t)) {
		struct node *n;
		int err;

		if (o->state == INHERIT)
			continue;
		twig_path(&o->t, &p);
		n = node_find(store, &p, p.len);
		if (n && o->cut)
			node_remove(store, &p, n);
		if (o->state == ABSENT)
			continue;
		tx->session->domain->tx_bytes -= o->d.len;
		o->state = INHERIT;
		err = node_put(store, &p, p.len, &o->d, o->fire);
		o->d = (struct data){0};
		if (err)
			return err;
	}
	return 0;
}

static struct tx *tx_find(const struct store_session *s, uint32_t id)
{
	struct tx *tx;

	LIST_FOREACH (tx, &s->txs, link) {
		if (tx->id == id)
			return tx;
	}
	return NULL;
}

int store_tx_start(struct store_session *s, uint32_t *id)
{
	struct tx *tx;

	if (s->ended)
		return -ENOTCONN;
	if (limited(s) && s->domain->transactions >= s->store->limits.transactions)
		return store_refuse(s, STORE_REFUSED_TRANSACTIONS, -ENOSPC);
	tx = calloc(1, sizeof(*tx));
	if (!tx)
		return -ENOMEM;
	tx->root = twig_new(sizeof(*tx->root), "", 0);
	if (!tx->root) {
		free(tx);
		return -ENOMEM;
	}
	do {
		s->last_tx++;
	} while (s->last_tx == 0 || tx_find(s, s->last_tx));
	tx->id = s->last_tx;
	tx->session = s;
	LIST_INSERT_HEAD(&s->txs, tx, link);
	s->domain->transactions++;
	*id = tx->id;
	return 0;
}

int store_tx_end(struct store_session *s, uint32_t id, bool commit)
{
	struct store *store = s->store;
	struct tx *tx;
	int err = 0;

	if (s->ended)
		return -ENOTCONN;
	tx = tx_find(s, id);
	if (!tx)
		return store_refuse(s, STORE_REFUSED_NO_TRANSACTION, -ENOENT);
	if (commit) {
		if (tx->broken)
			err = tx->broken;
		else if (tx_conflicts(store, tx))
			err = store_refuse(s, STORE_REFUSED_CONFLICT, -EAGAIN);
		else if (limited(s) && tx->nodes > 0 &&
			 s->domain->nodes + (unsigned long)tx->nodes > store->limits.nodes)
			err = store_refuse(s, STORE_REFUSED_NODES, -ENOSPC);
		else
			err = tx_apply(store, tx);
	}
	tx_free(tx);
	return err;
}

/*
 * Requests.
 */

static bool path_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '/' || c == '_' || c == '@';
}

/* The one check of a path: makes it absolute, and "" for the root. */
static int path_parse(struct store_session *s, const char *text, bool special_ok, struct path *p)
{
	size_t max = limited(s) ? MIN(s->store->limits.path, XENSTORE_ABS_PATH_MAX)
				: XENSTORE_ABS_PATH_MAX;
	size_t len = strnlen(text, XENSTORE_ABS_PATH_MAX + 1);
	bool special = text[0] == '@', relative = text[0] != '/' && !special;

	p->len = 0;
	p->strip = 0;
	if (len == 0 || (special && !special_ok))
		goto bad;
	for (size_t i = 0; i < len; i++) {
		if (!path_char(text[i]) || (text[i] == '/' && i + 1 < len && text[i + 1] == '/'))
			goto bad;
	}
	if (len == 1 && text[0] == '/') {
		p->s[0] = '\0';
		return 0;
	}
	if (text[len - 1] == '/' || (relative && len > XENSTORE_REL_PATH_MAX))
		goto bad;
	if (relative) {
		int n = snprintf(
			p->s, sizeof(p->s), "/local/domain/%u/", (unsigned)s->domain->domid);

		p->strip = (size_t)n;
	}
	if (!checked_within(p->strip, len, max))
		goto bad;
	memcpy(p->s + p->strip, text, len + 1);
	p->len = p->strip + len;
	return 0;
bad:
	return store_refuse(s, STORE_REFUSED_PATH, -EINVAL);
}

static int begin(
	struct store_session *s, uint32_t id, const char *text, struct path *p, struct tx **tx)
{
	if (s->ended)
		return -ENOTCONN;
	*tx = NULL;
	if (id) {
		*tx = tx_find(s, id);
		if (!*tx)
			return store_refuse(s, STORE_REFUSED_NO_TRANSACTION, -ENOENT);
	}
	return path_parse(s, text, false, p);
}

/* Look up a path for `access`. -ENOENT means that it is absent and access to the nearest ancestor is granted
 * (STORE-HIDDEN). In a transaction all that the answer hangs on is noted, and spot->over exists. */
static int reach(struct store_session *s, struct tx *tx, const struct path *p, unsigned access,
	struct spot *spot)
{
	spot_find(s->store, tx, p, spot);
	if (tx) {
		int err = tx_see(tx, p, spot->data ? p->len : spot->near_len, &spot->over);

		if (err)
			return err;
	}
	if (!may(spot->near, s->domain->domid, access))
		return store_refuse(s, STORE_REFUSED_PERMISSION, -EACCES);
	return spot->data ? 0 : -ENOENT;
}

/* May the transaction hold another `len` bytes of values? */
static int tx_room(struct tx *tx, size_t len)
{
	struct store_session *s = tx->session;

	if (limited(s) && len > s->store->limits.transaction_bytes - s->domain->tx_bytes)
		return store_refuse(s, STORE_REFUSED_TRANSACTION_SIZE, -ENOSPC);
	return 0;
}

static int put(
	struct store_session *s, struct tx *tx, const struct path *p, size_t end, struct data *d)
{
	bool tell = end == p->len;

	if (!tx)
		return node_put(s->store, p, end, d, tell);
	tx_put(tx, p, end, d, tell);
	return 0;
}

/* Create the node and its missing ancestors. */
static int create(struct store_session *s, struct tx *tx, const struct path *p,
	const struct spot *spot, const void *value, size_t value_len)
{
	const struct store *store = s->store;
	struct data model, d;
	const char *name;
	size_t at = spot->near_len, len;
	long missing = 0;
	int err;

	while (path_step(p, &at, p->len, &name, &len))
		missing++;
	if (limited(s) &&
		(long)s->domain->nodes + (tx ? tx->nodes : 0) + missing > (long)store->limits.nodes)
		return store_refuse(s, STORE_REFUSED_NODES, -ENOSPC);
	err = data_new(&model, spot->near->perms, spot->near->n_perms, value, value_len);
	if (err)
		return err;
	if (limited(s))
		model.perms[0].domid = s->domain->domid;
	at = spot->near_len;
	while (!err && path_step(p, &at, p->len, &name, &len)) {
		err = data_new(&d, model.perms, model.n_perms, value, at == p->len ? value_len : 0);
		if (!err)
			err = put(s, tx, p, at, &d);
	}
	data_free(&model);
	return err;
}

int store_read(struct store_session *s, uint32_t id, const char *path, void *buf, size_t size)
{
	struct spot spot;
	struct path p;
	struct tx *tx;
	int err = begin(s, id, path, &p, &tx);

	if (!err)
		err = reach(s, tx, &p, STORE_PERM_READ, &spot);
	if (err)
		return err;
	if (size <= spot.data->len)
		return -ENOBUFS;
	memcpy(buf, spot.data->value, spot.data->len + 1);
	return (int)spot.data->len;
}

int store_write(
	struct store_session *s, uint32_t id, const char *path, const void *value, size_t len)
{
	struct spot spot;
	struct path p;
	struct data d;
	struct tx *tx;
	int err = begin(s, id, path, &p, &tx);

	if (err)
		return err;
	if (len > STORE_VALUE_MAX)
		return store_refuse(s, STORE_REFUSED_TOO_BIG, -E2BIG);
	if (limited(s) && len > s->store->limits.node_size)
		return store_refuse(s, STORE_REFUSED_NODE_SIZE, -ENOSPC);
	err = tx ? tx_room(tx, len) : 0;
	if (err)
		return err;
	err = reach(s, tx, &p, STORE_PERM_WRITE, &spot);
	if (err == -ENOENT)
		return create(s, tx, &p, &spot, value, len);
	if (!err)
		err = data_new(&d, spot.data->perms, spot.data->n_perms, value, len);
	return err ? err : put(s, tx, &p, p.len, &d);
}

int store_mkdir(struct store_session *s, uint32_t id, const char *path)
{
	struct spot spot;
	struct path p;
	struct tx *tx;
	int err = begin(s, id, path, &p, &tx);

	if (err)
		return err;
	err = reach(s, tx, &p, STORE_PERM_WRITE, &spot);
	return err == -ENOENT ? create(s, tx, &p, &spot, "", 0) : err;
}

int store_rm(struct store_session *s, uint32_t id, const char *path)
{
	struct overlay *parent;
	struct spot spot;
	struct path p;
	struct tx *tx;
	int err = begin(s, id, path, &p, &tx);

	if (err)
		return err;
	if (p.len == 0)
		return store_refuse(s, STORE_REFUSED_PATH, -EINVAL);
	err = reach(s, tx, &p, STORE_PERM_WRITE, &spot);
	if (err == -ENOENT && memrchr(p.s, '/', p.len) == p.s + spot.near_len)
		return 0;
	if (err)
		return err;
	if (!tx) {
		node_remove(s->store, &p, spot.base);
		return 0;
	}
	parent = (struct overlay *)spot.over->t.parent;
	parent->kids_gen = ++s->store->gen;
	err = tx_remove(tx, spot.over, spot.base);
	if (err)
		tx->broken = err;
	return err;
}

int store_directory(struct store_session *s, uint32_t id, const char *path, char **names,
	size_t *len, uint64_t *gen)
{
	const struct twig *lists[2] = {NULL, NULL}; /* in the tree, in the transaction */
	unsigned at[2] = {0, 0};
	size_t room = 1, used = 0;
	struct spot spot;
	struct path p;
	struct tx *tx;
	int count = 0;
	int err = begin(s, id, path, &p, &tx);

	if (!err)
		err = reach(s, tx, &p, STORE_PERM_READ, &spot);
	if (err)
		return err;
	if (tx)
		overlay_see_kids(spot.over, spot.base);
	if (spot.base && !(spot.over && spot.over->cut))
		lists[0] = &spot.base->t;
	if (spot.over)
		lists[1] = &spot.over->t;
	for (unsigned l = 0; l < 2; l++) {
		for (unsigned i = 0; lists[l] && i < lists[l]->n_kids; i++)
			room += lists[l]->kids[i]->len + 1;
	}
	*names = malloc(room);
	if (!*names)
		return -ENOMEM;
	for (;;) { /* merge the two sorted lists */
		const struct twig *kid[2] = {NULL, NULL}, *pick;
		int order;

		for (unsigned l = 0; l < 2; l++) {
			if (lists[l] && at[l] < lists[l]->n_kids)
				kid[l] = lists[l]->kids[at[l]];
		}
		if (!kid[0] && !kid[1])
			break;
		order = !kid[0] ? 1 : !kid[1] ? -1 : strcmp(kid[0]->name, kid[1]->name);
		at[0] += order <= 0;
		at[1] += order >= 0;
		pick = kid[order > 0];
		if (!visible(order <= 0 ? (const struct node *)kid[0] : NULL,
			    order >= 0 ? (const struct overlay *)kid[1] : NULL))
			continue;
		memcpy(*names + used, pick->name, pick->len + 1);
		used += pick->len + 1;
		count++;
	}
	*len = used;
	if (gen) {
		*gen = spot.base ? MAX(spot.base->gen, spot.base->kids_gen) : 0;
		if (spot.over)
			*gen = MAX(*gen, MAX(spot.over->gen, spot.over->kids_gen));
	}
	return count;
}

int store_get_perms(struct store_session *s, uint32_t id, const char *path,
	struct store_perm *perms, unsigned max)
{
	struct spot spot;
	struct path p;
	struct tx *tx;
	int err = begin(s, id, path, &p, &tx);

	if (!err)
		err = reach(s, tx, &p, STORE_PERM_READ, &spot);
	if (err)
		return err;
	if (spot.data->n_perms > max)
		return -ENOBUFS;
	memcpy(perms, spot.data->perms, spot.data->n_perms * sizeof(*perms));
	return (int)spot.data->n_perms;
}

int store_set_perms(struct store_session *s, uint32_t id, const char *path,
	const struct store_perm *perms, unsigned n)
{
	struct spot spot;
	struct path p;
	struct data d;
	struct tx *tx;
	int err = begin(s, id, path, &p, &tx);

	if (err)
		return err;
	if (n == 0 || n > STORE_PERMS_MAX)
		return store_refuse(s, STORE_REFUSED_PERMS, -EINVAL);
	for (unsigned i = 0; i < n; i++) {
		if (perms[i].access > STORE_PERM_BOTH)
			return store_refuse(s, STORE_REFUSED_PERMS, -EINVAL);
	}
	if (limited(s) && n > s->store->limits.perms)
		return store_refuse(s, STORE_REFUSED_PERMS, -ENOSPC);
	err = reach(s, tx, &p, STORE_PERM_WRITE, &spot);
	if (err)
		return err;
	if (limited(s) && owner(spot.data) != s->domain->domid)
		return store_refuse(s, STORE_REFUSED_PERMISSION, -EACCES);
	if (limited(s) && perms[0].domid != s->domain->domid)
		return store_refuse(s, STORE_REFUSED_PERMISSION, -EPERM);
	err = tx ? tx_room(tx, spot.data->len) : 0;
	if (!err)
		err = data_new(&d, perms, n, spot.data->value, spot.data->len);
	return err ? err : put(s, tx, &p, p.len, &d);
}

static struct watch *watch_find(
	const struct store_session *s, const struct perch *perch, const char *token)
{
	struct watch *w;

	LIST_FOREACH (w, &perch->watches, of_perch) {
		if (w->session == s && strcmp(w->token, token) == 0)
			return w;
	}
	return NULL;
}

static struct perch *perch_find(const struct store *store, const struct path *p)
{
	struct perch *perch = store->watched;
	const char *name;
	size_t at = 0, len;

	if (p->s[0] == '@')
		return twig_kid(store->specials, p->s, p->len);
	while (perch && path_step(p, &at, p->len, &name, &len))
		perch = twig_kid(perch, name, len);
	return perch;
}

static struct perch *perch_get(struct store *store, const struct path *p)
{
	struct perch *perch = perch_find(store, p), *kid;
	const char *name;
	size_t at = 0, len;

	if (perch)
		return perch;
	if (p->s[0] == '@')
		return twig_add(store->specials, sizeof(*perch), p->s, p->len);
	for (perch = store->watched; path_step(p, &at, p->len, &name, &len); perch = kid) {
		kid = twig_kid(perch, name, len);
		if (!kid)
			kid = twig_add(perch, sizeof(*perch), name, len);
		if (!kid) {
			perch_prune(perch);
			return NULL;
		}
	}
	return perch;
}

int store_watch(
	struct store_session *s, const char *path, const char *token, store_watch_fn *fn, void *arg)
{
	size_t size = strnlen(token, STORE_TOKEN_MAX + 1) + 1;
	struct watch *w;
	struct path p;
	int err;

	if (s->ended)
		return -ENOTCONN;
	err = path_parse(s, path, true, &p);
	if (err)
		return err;
	if (size > STORE_TOKEN_MAX + 1)
		return store_refuse(s, STORE_REFUSED_MALFORMED, -EINVAL);
	if (limited(s) && s->domain->watches >= s->store->limits.watches)
		return store_refuse(s, STORE_REFUSED_WATCHES, -E2BIG);
	w = calloc(1, sizeof(*w) + size);
	if (!w)
		return -ENOMEM;
	w->perch = perch_get(s->store, &p);
	if (!w->perch || watch_find(s, w->perch, token)) {
		err = w->perch ? -EEXIST : -ENOMEM;
		free(w);
		return err;
	}
	w->session = s;
	w->fn = fn;
	w->arg = arg;
	w->strip = p.strip;
	memcpy(w->token, token, size);
	TAILQ_INIT(&w->events);
	LIST_INSERT_HEAD(&w->perch->watches, w, of_perch);
	LIST_INSERT_HEAD(&s->watches, w, of_session);
	s->domain->watches++;
	watch_event(w, &p, NULL, NULL);
	return 0;
}

int store_unwatch(struct store_session *s, const char *path, const char *token)
{
	struct perch *perch;
	struct watch *w;
	struct path p;
	int err;

	if (s->ended)
		return -ENOTCONN;
	err = path_parse(s, path, true, &p);
	if (err)
		return err;
	perch = perch_find(s->store, &p);
	w = perch ? watch_find(s, perch, token) : NULL;
	if (!w)
		return -ENOENT;
	watch_free(w);
	return 0;
}

void store_reset(struct store_session *s)
{
	struct watch *w;
	struct tx *tx;

	while ((w = LIST_FIRST(&s->watches)))
		watch_free(w); /* NOLINT(clang-analyzer-unix.Malloc): it left the list. */
	while ((tx = LIST_FIRST(&s->txs)))
		tx_free(tx); /* NOLINT(clang-analyzer-unix.Malloc): it left the list. */
}

struct store_session *store_open(
	struct store *store, uint16_t domid, store_ended_fn *ended, void *arg)
{
	struct domain *dom = domain_get(store, domid);
	struct store_session *s = dom ? calloc(1, sizeof(*s)) : NULL;

	if (!s)
		return NULL;
	s->store = store;
	s->domain = dom;
	s->fn = ended;
	s->arg = arg;
	LIST_INSERT_HEAD(&dom->sessions, s, of_domain);
	return s;
}

void store_close(struct store_session *s)
{
	if (!s)
		return;
	store_reset(s);
	if (s->ended && !s->announced)
		TAILQ_REMOVE(&s->store->ended, s, of_ended);
	LIST_REMOVE(s, of_domain);
	free(s);
}

uint16_t store_domid(const struct store_session *s)
{
	return s->domain->domid;
}

/*
 * Domains come and go.
 */

int store_domain_introduce(struct store *store, uint16_t domid)
{
	struct domain *dom = domain_get(store, domid);

	if (!dom)
		return -ENOMEM;
	if (domid == 0 || dom->introduced)
		return -EEXIST;
	dom->introduced = true;
	fire_special(store, "@introduceDomain");
	return 0;
}

bool store_domain_introduced(const struct store *store, uint16_t domid)
{
	const struct domain *dom = domain_find(store, domid);

	return domid == 0 || (dom && dom->introduced);
}

static void strike(struct data *d, uint16_t domid)
{
	unsigned kept = 1;

	for (unsigned i = 1; i < d->n_perms; i++) {
		if (d->perms[i].domid != domid)
			d->perms[kept++] = d->perms[i];
	}
	d->n_perms = kept;
}

void store_domain_gone(struct store *store, uint16_t domid)
{
	struct domain *dom = domain_find(store, domid);
	struct store_session *s;
	struct node *n, *next;
	struct path p;

	if (domid == 0)
		return;
	if (dom) {
		LIST_FOREACH (s, &dom->sessions, of_domain) {
			store_end(s, STORE_ENDED_DOMAIN);
			store_reset(s);
		}
	}
	if (dom && owner(&store->root->d) == domid) {
		store->root->d.perms[0].domid = 0;
		dom->nodes--;
		domain_find(store, 0)->nodes++;
	}
	for (n = store->root; n; n = next) {
		if (owner(&n->d) != domid) {
			strike(&n->d, domid);
			next = twig_next(&n->t, &store->root->t);
			continue;
		}
		twig_path(&n->t, &p);
		next = twig_after(&n->t, &store->root->t);
		node_remove(store, &p, n);
	}
	if (dom && dom->introduced) {
		dom->introduced = false;
		fire_special(store, "@releaseDomain");
	}
}

/*
 * The store.
 */

struct store *store_new(const struct store_limits *limits)
{
	static const struct store_perm nobody = {0, STORE_PERM_NONE};
	struct store *store = calloc(1, sizeof(*store));
	struct domain *zero;

	if (!store)
		return NULL;
	store->limits = limits ? *limits : store_limits_default;
	TAILQ_INIT(&store->events);
	TAILQ_INIT(&store->ended);
	store->root = twig_new(sizeof(*store->root), "", 0);
	store->watched = twig_new(sizeof(*store->watched), "", 0);
	store->specials = twig_new(sizeof(*store->specials), "", 0);
	zero = domain_get(store, 0);
	if (!store->root || !store->watched || !store->specials || !zero ||
		data_new(&store->root->d, &nobody, 1, "", 0)) {
		store_free(store);
		return NULL;
	}
	store->root->gen = store->root->kids_gen = ++store->gen;
	zero->nodes = 1;
	return store;
}

void store_free(struct store *store)
{
	struct domain *dom;

	if (!store)
		return;
	for (unsigned i = 0; i < DOMAIN_BUCKETS; i++) {
		LIST_FOREACH (dom, &store->domains[i], bucket) {
			while (!LIST_EMPTY(&dom->sessions))
				/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it left the list. */
				store_close(LIST_FIRST(&dom->sessions));
		}
	}
	if (store->root && store->root->d.perms)
		twig_free(store->root, node_release, store);
	else
		free(store->root);
	twig_free(store->watched, perch_release, NULL);
	twig_free(store->specials, perch_release, NULL);
	for (unsigned i = 0; i < DOMAIN_BUCKETS; i++) {
		while ((dom = LIST_FIRST(&store->domains[i]))) {
			LIST_REMOVE(dom, bucket);
			free(dom);
		}
	}
	free(store);
}

const struct store_limits *store_limits(const struct store *store)
{
	return &store->limits;
}

uint64_t store_refused(const struct store *store, enum store_refusal which)
{
	return store->refused[which];
}

uint64_t store_session_refused(const struct store_session *s, enum store_refusal which)
{
	return s->refused[which];
}

static bool domain_sound(const struct domain *dom)
{
	const struct store_session *s;
	const struct overlay *o;
	const struct event *e;
	const struct watch *w;
	const struct tx *tx;
	unsigned watches = 0, transactions = 0;
	size_t bytes = 0;

	LIST_FOREACH (s, &dom->sessions, of_domain) {
		unsigned events = 0;

		LIST_FOREACH (w, &s->watches, of_session) {
			watches++;
			TAILQ_FOREACH (e, &w->events, of_watch)
				events++;
		}
		if (events != s->n_events)
			return false;
		LIST_FOREACH (tx, &s->txs, link) {
			transactions++;
			for (o = tx->root; o; o = twig_next((struct twig *)&o->t, &tx->root->t))
				bytes += o->state == PRESENT ? o->d.len : 0;
		}
	}
	return dom->counted == dom->nodes && watches == dom->watches &&
	       transactions == dom->transactions && bytes == dom->tx_bytes;
}

int store_check(struct store *store)
{
	const struct event *e;
	struct domain *dom;
	unsigned events = 0;

	for (unsigned i = 0; i < DOMAIN_BUCKETS; i++) {
		LIST_FOREACH (dom, &store->domains[i], bucket)
			dom->counted = 0;
	}
	for (struct node *n = store->root; n; n = twig_next(&n->t, &store->root->t)) {
		dom = domain_find(store, owner(&n->d));
		if (!dom)
			return -EUCLEAN;
		dom->counted++;
	}
	for (unsigned i = 0; i < DOMAIN_BUCKETS; i++) {
		LIST_FOREACH (dom, &store->domains[i], bucket) {
			if (!domain_sound(dom))
				return -EUCLEAN;
		}
	}
	TAILQ_FOREACH (e, &store->events, link)
		events++;
	return events == store->n_events ? 0 : -EUCLEAN;
}
