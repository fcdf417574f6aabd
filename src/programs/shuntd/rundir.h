/* SPDX-License-Identifier: BSD-3-Clause */
/* The run directory: one shuntd at a time, by a lock on its pid file. */
#pragma once

#define PID_FILE "shuntd.pid"

/*
 * Make the directory if it is not there (0755), lock its pid file and write this process's id to it. Returns the
 * descriptor that holds the lock. -EBUSY: another shuntd has it; or the kernel's error. *what (static text) says what
 * failed.
 */
int rundir_claim(const char *run, const char **what);
