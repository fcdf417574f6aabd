/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The configuration file: [shuntd] once or not at all, then any number of [vif NAME] and [port NAME], with lines
 * `key = value`. A line that begins with '#' or ';' is a comment. man/shuntd.conf.5.scd has the keys.
 */
#pragma once

#include <stdio.h>

#include "programs/shuntd/settings.h"

enum { CONFIG_LINE = 4096 };

struct config {
	struct daemon_settings daemon;
	unsigned nvifs;
	struct vif_settings *vifs;
	unsigned nports;
	struct port_settings *ports;
};

struct config_fault {
	unsigned line; /* the first bad one; 0: the file as a whole */
	struct fault fault;
};

/* Stops at the first bad line. -EINVAL: *fault says what is wrong; -ENOMEM; -EIO. The config is then freed already. */
int config_read(struct config *config, FILE *file, struct config_fault *fault);
void config_free(struct config *config);
