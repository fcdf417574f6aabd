/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Regions: fixed-size, sealed memory objects, the unit of sharing, granting, DMA mapping and giving back.
 *
 * A region is a memfd that can neither shrink nor grow (a mapping of it never raises SIGBUS). Whoever made it owns it.
 * Everything that makes its memory reachable for somebody else (a grant, a DMA mapping) is an attachment; the memory is
 * given back when the last reference and the last attachment are gone, and is never handed to another domain.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHUNT_PAGE_SIZE 4096u

struct shunt_region;

enum {
	/* Other holders of the fd can map it for reading only; this mapping stays writable. */
	SHUNT_REGION_READONLY = 1u << 0,
};

/*
 * Make a region of `size` bytes (rounded up to whole pages), zeroed, mapped for reading and writing.
 * `name` is shown in /proc/PID/maps. *out holds one reference.
 * Errors: -EINVAL (size 0 or over 1 GiB, unknown flags), -ENOMEM, -EMFILE.
 */
int shunt_region_create(struct shunt_region **out, const char *name, size_t size, unsigned flags);

/*
 * Map a region that somebody else made. Takes ownership of `fd`, also on failure. The fd is not believed: it must be
 * a memfd, sealed against shrinking and growing, of exactly `size` bytes, not sparse, not of huge pages.
 * `prot` as for mmap(2). *why, if not NULL, gets a constant string naming what was wrong.
 * Errors: -EINVAL, -EACCES (cannot be mapped with `prot`), -ENOMEM.
 */
int shunt_region_open(struct shunt_region **out, int fd, size_t size, int prot, const char **why);

/* References may be taken and dropped by any thread. */
struct shunt_region *shunt_region_get(struct shunt_region *region);
void shunt_region_put(struct shunt_region *region);

void *shunt_region_addr(const struct shunt_region *region);
size_t shunt_region_size(const struct shunt_region *region); /* bytes */
int shunt_region_fd(const struct shunt_region *region);      /* stays the region's */

#ifdef __cplusplus
}
#endif
