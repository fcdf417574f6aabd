/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * hostile SHUNTD GROUP [CASE]: attack a shuntd from raw shared memory (world.h). Exit code 1 if anything went wrong.
 * SANDBOX=no is for a shuntd with sanitizers.
 */
#include <stdio.h>
#include <string.h>

#include "world.h"

int main(int argc, char **argv)
{
	static const struct hostile_group *const groups[] = {&group_indices, &group_slots,
		&group_headers, &group_rewrite, &group_grants, &group_extras, &group_checksums,
		&group_storms, &group_events, &group_receive, &group_death, &group_store,
		&group_keys, &group_regions, &group_attach, &group_fds};

	for (unsigned i = 0; argc >= 3 && i < ARRAY_SIZE(groups); i++) {
		if (!strcmp(groups[i]->name, argv[2]))
			return hostile_run(groups[i], argv[1], argc > 3 ? argv[3] : NULL) != 0;
	}
	(void)fprintf(stderr, "usage: hostile SHUNTD GROUP [CASE]\ngroups:");
	for (unsigned i = 0; i < ARRAY_SIZE(groups); i++)
		(void)fprintf(stderr, " %s", groups[i]->name);
	(void)fputc('\n', stderr);
	return 2;
}
