/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Copying heads of frames: lengths from 0 to 128, most often 60 to 128. Two overlapping runs of a constant length, one
 * from each end, instead of a call or a loop; never a byte beyond len.
 */
#pragma once

#include <stdint.h>
#include <string.h>

static inline void copy_head(uint8_t *to, const uint8_t *from, uint32_t len)
{
	if (len > 64) {
		memcpy(to, from, 64);
		memcpy(to + len - 64, from + len - 64, 64);
	} else if (len >= 32) {
		memcpy(to, from, 32);
		memcpy(to + len - 32, from + len - 32, 32);
	} else {
		memcpy(to, from, len);
	}
}
