/* SPDX-License-Identifier: BSD-3-Clause */
/* What systemd wants to hear from a service of Type=notify: sd_notify(3), without its library. */
#pragma once

/* "READY=1", "STOPPING=1". Nothing happens when nobody asked for it. */
void notify(const char *state);
