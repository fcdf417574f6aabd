/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What shuntd gives up, in stages:
 *
 *	1. the opener is forked; it keeps the capabilities for what it opens, and no others
 *	2. the rest drops every capability, for good (no_new_privs), and becomes another user if one is configured
 *	3. each worker confines itself to the system calls that move packets
 *	4. the control thread, once all is set up, to those plus accepting guests and answering requests
 *
 * A system call outside the lists fails with EPERM and is logged by the kernel, or kills shuntd in mode `kill`, which is
 * for finding what a list lacks.
 */
#pragma once

#include "programs/shuntd/settings.h"

/* Stage 1, in the opener: only the capabilities to open things remain. -errno. */
int opener_confine(void);

/* Stage 2. `user` "" or a name. -errno; -ENOENT: no such user. */
int sandbox_drop(const char *user);

/* Stages 3 and 4: of the calling thread. -errno. */
int sandbox_worker(enum sandbox_mode mode);
int sandbox_control(enum sandbox_mode mode);
