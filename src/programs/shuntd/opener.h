/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The opener: a process of its own that keeps the privileges shuntd gives up, and uses them for nothing but opening what
 * shuntd asks for: TAP devices and packet sockets in a network namespace, listening sockets in the run directory, capture
 * files below the capture directory. It is forked before there are threads, speaks fixed-size messages over a socket pair,
 * believes nothing in them, and answers each with a status and file descriptors.
 *
 * It ends when its end of the pair closes, that is, when shuntd ends in whatever way, and then removes the sockets it made
 * and the pid file.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "port/port.h"
#include "programs/shuntd/settings.h"

struct opener;

enum { OPENER_QUEUES = 8 };

struct opener_config {
	const char *run;      /* exists; the pid file in it is this process's */
	const char *captures; /* "": the run directory */
	const char *pid_file; /* its name in `run`, removed at the end */
};

/* Fork it. The caller has all privileges, one thread, and no child of the kind yet. -errno. */
int opener_start(struct opener **out, const struct opener_config *config);
/* It removes what it made and ends; waits for that. NULL is allowed. */
void opener_stop(struct opener *opener);

bool opener_alive(struct opener *opener);

/*
 * Requests, from the control thread; each waits for the answer. The errors of the system calls; -EINVAL: the opener does
 * not do such things (a path outside its directory, a name that is none); -EPIPE: it is gone.
 */

/* AF_UNIX, non-blocking, listening, mode 0600 or as given, owner `uid`. A socket of that name that nobody uses is
 * replaced. Returns the descriptor. */
int opener_listen(struct opener *opener, const char *name, int type, uid_t uid, mode_t mode);
int opener_unlink(struct opener *opener, const char *name);
int opener_chown(struct opener *opener, const char *name, uid_t uid);

/* As tap_open_fds, at most OPENER_QUEUES, and af_packet_open_fd. `netns`: a path, "": where the opener is. */
int opener_tap(struct opener *opener, const char *netns, const char *ifname, unsigned queues,
	int *fds, char actual_name[TAP_NAME]);
int opener_packet(struct opener *opener, const char *netns, const char *ifname);

/* A capture file, relative to the capture directory or in it. Returns the descriptor. */
int opener_capture(struct opener *opener, const char *path, bool write);
