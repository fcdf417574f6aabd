/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What an attack happens in: a shuntd of its own in a temporary directory, with four vifs.
 *
 *	evil	the attacker's
 *	peer	whom the attacker sends to: a library guest in the test's own process, which looks at each frame
 *	left,	two library guests in a process of their own (the bystanders) that exchange numbered frames at a steady
 *	right	pace all the time and expect each of them, in order, once
 *
 * Each attack runs in a process of its own (raw.h). Afterwards the test judges: shuntd is the process that it was, the
 * bystanders lost nothing, the vif is quarantined for the expected reason or its packets were dropped under the expected
 * name, all of the attacker's is given back when it is gone, and an honest guest can use the vif.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <shunt/context.h>

#include "raw.h"

enum {
	FRAMES_ANY = -1,
};

/* What the peer saw since the case began. */
struct peer_counts {
	unsigned good;  /* raw_frame, whole */
	unsigned fresh; /* likewise, from the honest guest that comes after the attacker */
	unsigned bad;   /* begins like one and is not */
	unsigned other; /* something else, from the attacker's MAC */
	unsigned spoof; /* from another source MAC */
	unsigned
		unfinished; /* marked as lacking its checksum, or to be cut, which this peer does not take */
};

struct world;

struct hostile_case {
	const char *name;
	void (*attack)(struct raw *r, unsigned arg);
	unsigned arg;
	enum raw_step start;        /* how far the attacker gets honestly */
	const struct raw_key *keys; /* ... but for these */
	const char *
		reason; /* the vif ends in quarantine, for a reason that contains this; NULL: it does not */
	const char *
		drop; /* a counter of the vif that the attack must move; NULL: none in particular */
	const char *refusal; /* likewise one of shuntd's refused connections */
	int good;            /* whole frames that the peer must get; FRAMES_ANY */
	bool garbled;        /* the peer may get frames that changed on the way */
	bool gone; /* the attacker's connection is ended by the attack: nothing is asked of the vif's state */
	bool may_quarantine; /* whether the vif ends in quarantine is luck */
	unsigned flood;      /* frames that the peer sends to the attacker in each millisecond */
	/* While the attacker is still there; NULL: nothing more. Reports by hostile_fail. */
	void (*judge)(struct world *w, unsigned arg);
	/* In the midst of the attack, again and again. */
	void (*meanwhile)(struct world *w, unsigned arg);
};

struct hostile_group {
	const char *name;
	const struct hostile_case *cases;
	unsigned n;
	unsigned workers;
	bool plain_peer; /* takes no unfinished checksums and no segments */
	unsigned queues; /* of evil; 0: 1 */
};

struct world {
	char dir[64];
	char socket[96]; /* evil's */
	const struct hostile_group *group;
	pid_t shuntd;
	pid_t bystanders;
	struct bystander_counts *seen; /* shared with them */
	struct shunt_context *context;
	struct shunt_port *peer;
	struct peer_counts counts;
	uint8_t macs[4][6];
	unsigned flood;
	uint64_t flooded;  /* ms */
	const char *doing; /* the case */
	unsigned failures;
	bool sanitized;
	double quiet_cpu; /* of shuntd, seconds in a second, when nobody attacks */
	unsigned base_fds;
	unsigned base_maps;
	unsigned base_nodes;
};

/* Run a group against a new shuntd (the program at this path). Returns the number of failures. */
unsigned hostile_run(const struct hostile_group *group, const char *shuntd, const char *only);

__attribute__((format(printf, 2, 3))) void hostile_fail(struct world *w, const char *format, ...);

/* Let the peer work for ms. */
void world_pump(struct world *w, unsigned ms);
/* One request on the control socket; the result, which the caller gives back, or NULL. */
json_t *world_ask(struct world *w, const char *verb, const char *name);
/* A counter of evil's by name ("grant", "rx-packets"), or of shuntd's refusals ("attach-refused"). */
uint64_t world_drop(struct world *w, const char *name);
uint64_t world_refusal(struct world *w, const char *name);
/* Seconds of CPU that shuntd has used; bytes of memory that are its own. */
double world_cpu(const struct world *w);
uint64_t world_rss(const struct world *w);

/* The groups, one file each. */
extern const struct hostile_group group_indices, group_slots, group_headers, group_rewrite,
	group_grants, group_extras, group_checksums, group_storms, group_events, group_receive,
	group_death, group_store, group_keys, group_regions, group_attach, group_fds;
