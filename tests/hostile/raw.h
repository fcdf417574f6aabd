/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest without manners: the local platform's wire protocol, a grant table, rings and the store, each reachable by
 * itself and in any order. Nothing is checked on the way out.
 *
 * What an attack needs to be honest about (the steps up to where it begins to lie) is done by raw_open. It and all
 * helpers that cannot go on print why and end the process with RAW_BROKEN: they run in the attacker's own process.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "channel/netif/netif.h"
#include "platform/local/store_client.h"
#include "platform/local/wire.h"
#include "platform/platform.h"

enum {
	RAW_BROKEN = 3, /* exit code: the attack itself did not work */
	/* Pages of the guest's one region. */
	RAW_PAGE_TX_RING = 0,
	RAW_PAGE_RX_RING = 1,
	RAW_PAGE_TX = 2, /* to send from */
	RAW_TX_PAGES = 64,
	RAW_PAGE_RX = RAW_PAGE_TX + RAW_TX_PAGES,
	RAW_RX_PAGES = 62,
	RAW_PAGES = RAW_PAGE_RX + RAW_RX_PAGES,
	RAW_REF = 16,           /* grant reference of page 0; the others follow */
	RAW_ETHERTYPE = 0x88b5, /* IEEE 802, local experimental 1 */
	RAW_WAIT_MS = 3000,
};

/* How far the guest is; each step includes those before. */
enum raw_step {
	RAW_NOTHING,
	RAW_CONNECTED,
	RAW_HELLO,
	RAW_REGION,
	RAW_GRANTED,
	RAW_EVTCHN,
	RAW_STORE,
	RAW_KEYS,  /* written, state not yet */
	RAW_STATE, /* Connected is written, the back end was not waited for */
	RAW_UP,
};

struct raw_key {
	const char *key;
	const char *value; /* NULL: leave this key out */
};

struct raw {
	const char *path; /* of the vif's socket */
	uint8_t mac[6];   /* the guest's own, */
	uint8_t peer[6];  /* and whom it sends to */
	int socket;
	uint32_t last_id;
	domid_t domid;
	uint32_t handle;
	_Atomic uint64_t *grants;
	uint32_t ngrants;
	int region; /* memfd */
	uint8_t *pages;
	uint32_t frame; /* of page 0 */
	int event;
	evtchn_port_t port;
	int store_fd;
	struct store_client *store;
	char front[64];
	char back[64];
	struct ring_header *tx;
	struct ring_header *rx;
	uint32_t tx_prod; /* requests written */
	uint32_t tx_cons; /* responses taken */
	uint32_t rx_prod;
};

__attribute__((format(printf, 1, 2), noreturn)) void raw_die(const char *format, ...);

uint64_t raw_ms(void);
void raw_sleep_ms(unsigned ms);

/* A socket connected to path, or -errno. */
int raw_connect(const char *path);
/* Go as far as `step`. `keys`, up to one without a name, replaces what would be written to the store. */
void raw_open(struct raw *r, enum raw_step step, const struct raw_key *keys);
/* As if the process were gone: every fd closed, nothing said. */
void raw_drop(struct raw *r);

/*
 * One request with nfds fds, and its reply; the fd that came with it in *fd (-1: none; NULL: close it).
 * The reply's status, or -EPIPE if the host ended the connection instead of answering.
 */
int raw_call_fds(struct raw *r, const struct wire_request *request, const void *refs,
	size_t refs_len, const int *fds, unsigned nfds, struct wire_reply *reply, int *fd);
int raw_call(struct raw *r, enum wire_op op, uint64_t a0, uint64_t a1, uint64_t a2,
	struct wire_reply *reply, int *fd);

/* A sealed memfd of n pages, all there. */
int raw_memfd(size_t bytes, int seals);

uint64_t raw_entry(uint32_t frame, unsigned flags, domid_t to);
void raw_grant(struct raw *r, grant_ref_t ref, uint64_t entry);

/* Write a key of the front end's directory, or of any path that begins with '/'. The store's answer. */
int raw_write(struct raw *r, const char *key, const char *value);
/* Wait until the back end's state is one of the bits 1 << state; false: it did not come. */
bool raw_await_state(struct raw *r, unsigned states, unsigned ms);

/* One byte down the event channel. */
void raw_ring(struct raw *r);

/* The page that TX slot content is put in, by number. */
static inline uint8_t *raw_tx_page(struct raw *r, unsigned n)
{
	return r->pages + (size_t)(RAW_PAGE_TX + n % RAW_TX_PAGES) * SHUNT_PAGE_SIZE;
}

static inline grant_ref_t raw_tx_ref(unsigned n)
{
	return RAW_REF + RAW_PAGE_TX + n % RAW_TX_PAGES;
}

/* Put a request at the private producer index; raw_push publishes and rings. */
void raw_slot(struct raw *r, grant_ref_t ref, unsigned offset, unsigned flags, unsigned id,
	unsigned size);
void raw_extra(struct raw *r, unsigned type, unsigned flags, const void *bytes6);
void raw_push(struct raw *r);
/* Post n RX requests with this reference on each (0: the RX pages in turn). */
void raw_post(struct raw *r, unsigned n, grant_ref_t ref);

/* A frame of `len` >= 20 bytes to the peer whose every byte the receiver can predict. */
void raw_frame(const struct raw *r, uint8_t *at, unsigned len, uint32_t sequence);
/* Send such a frame in one slot and wait for its response: its status. */
int raw_send(struct raw *r, unsigned len, uint32_t sequence);
/* Wait for n more TX responses; each must have `status` (RAW_ANY: whatever), except NULL ones. */
enum { RAW_ANY = 99 };
void raw_await(struct raw *r, unsigned n, int status);
/* The same without judging: how many came in ms. */
unsigned raw_collect(struct raw *r, unsigned n, unsigned ms);
