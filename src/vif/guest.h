/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's side of a vif: a port that is a netif front end while there is a host, and that looks for the host again
 * when it went away, for as long as it takes.
 */
#pragma once

#include <shunt/port.h>

#include "channel/netif/frontend.h"

struct vif_guest;

struct vif_guest_config {
	const char *socket;
	struct netif_frontend_config front; /* name, device and callbacks are filled in */
};

/* Connect. *why gets one line on failure. Errors: the platform's (local_connect) and netif_frontend_new's. */
int vif_guest_open(
	struct vif_guest **out, const struct vif_guest_config *config, char *why, size_t why_len);

struct shunt_port *vif_guest_port(struct vif_guest *guest);
struct vif_guest *vif_guest_of(struct shunt_port *port); /* NULL: not one */

/* What its owner's loop waits for and calls. fd changes when the host comes back: vif_guest_fd after each process. */
int vif_guest_fd(const struct vif_guest *guest);
uint64_t vif_guest_deadline(const struct vif_guest *guest);
void vif_guest_process(struct vif_guest *guest);

/* Called once, when the port is closed, before it is freed. */
void vif_guest_on_close(
	struct vif_guest *guest, void (*fn)(void *arg, struct vif_guest *guest), void *arg);

struct netif_frontend *vif_guest_frontend(struct vif_guest *guest); /* NULL: the host is away */
