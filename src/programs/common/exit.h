/* SPDX-License-Identifier: BSD-3-Clause */
/* What programs exit with. */
#pragma once

enum exit_code {
	EXIT_OK = 0,
	EXIT_REFUSED = 1,     /* understood, and could not be done */
	EXIT_BAD = 2,         /* a command or configuration that makes no sense */
	EXIT_UNREACHABLE = 3, /* shuntd does not answer */
};
