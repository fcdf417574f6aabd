/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What there is to say about vifs, ports, workers and the switch, as JSON: what every output of `shunt` is made from.
 * Each returns a value that is the caller's, NULL without memory. Counters are numbers; drops are an object of the ones
 * that are not 0, by name. The control thread.
 */
#pragma once

#include <jansson.h>

#include "programs/shuntd/daemon.h"

/* What somebody who made it wants to know. */
json_t *report_vif_made(struct daemon *d, struct vif *vif);
json_t *report_vif_line(struct vif *vif);
json_t *report_vif(struct daemon *d, struct vif *vif);
json_t *report_port_line(struct host_port *port);
json_t *report_port(struct host_port *port);
json_t *report_fdb(struct daemon *d);
json_t *report_stats(struct daemon *d);
/* A list of what was looked at: status ("ok", "note", "fail"), what, value, cause, cure. */
json_t *report_doctor(struct daemon *d);
