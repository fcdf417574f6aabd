/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Regions are memfds. F_SEAL_SHRINK and F_SEAL_GROW make a mapping safe from SIGBUS; F_SEAL_SEAL keeps it so.
 * A read-only region also gets F_SEAL_FUTURE_WRITE, after its own writable mapping is made, and mode 0400: a memfd is
 * 0777 by default and could be opened again for writing through /proc/PID/fd.
 *
 * Punching a hole stays possible for whoever can write the fd. It costs the puncher its data and the host nothing but
 * the pages it accounted for already, except on huge pages, where a refault can fail with SIGBUS: those are refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <shunt/region.h>

#include "base/util.h"

#define REGION_MAX ((size_t)1 << 30)
#define STEP       ((size_t)2 << 20)

struct shunt_region {
	atomic_uint refs;
	int fd;
	size_t size;
	void *addr;
};

static int region_new(struct shunt_region **out, int fd, size_t size, int prot)
{
	struct shunt_region *region = malloc(sizeof(*region));

	if (!region)
		return -ENOMEM;
	region->addr = mmap(NULL, size, prot, MAP_SHARED, fd, 0);
	if (region->addr == MAP_FAILED) {
		int err = -errno;

		free(region);
		return err == -EPERM ? -EACCES : err;
	}
	atomic_init(&region->refs, 1);
	region->fd = fd;
	region->size = size;
	*out = region;
	return 0;
}

/*
 * Back a region by memory from the start, so that running out is an error here, not a signal later.
 * In steps: a signal undoes the whole call that it interrupts.
 */
static int region_fill(int fd, size_t size)
{
	for (size_t at = 0; at < size;) {
		if (!fallocate(fd, 0, (off_t)at, (off_t)MIN(STEP, size - at)))
			at += STEP;
		else if (errno != EINTR)
			return errno == ENOSPC ? -ENOMEM : -errno;
	}
	return 0;
}

int shunt_region_create(struct shunt_region **out, const char *name, size_t size, unsigned flags)
{
	int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	int fd;
	int err;

	if (size == 0 || size > REGION_MAX || (flags & ~(unsigned)SHUNT_REGION_READONLY))
		return -EINVAL;
	size = (size + SHUNT_PAGE_SIZE - 1) & ~(size_t)(SHUNT_PAGE_SIZE - 1);
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	err = ftruncate(fd, (off_t)size) ? -errno : region_fill(fd, size);
	if (err)
		goto fail;
	err = region_new(out, fd, size, PROT_READ | PROT_WRITE);
	if (err)
		goto fail;
	if (flags & SHUNT_REGION_READONLY)
		seals |= F_SEAL_FUTURE_WRITE;
	if (fcntl(fd, F_ADD_SEALS, seals) ||
		((flags & SHUNT_REGION_READONLY) && fchmod(fd, 0400))) {
		err = -errno;
		shunt_region_put(*out);
		return err;
	}
	return 0;
fail:
	(void)close(fd);
	return err;
}

/* The first thing that is wrong with a region's fd from elsewhere, or NULL. */
static const char *region_fault(int fd, size_t size)
{
	struct statfs fs;
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return "not a memfd";
	if (!(seals & F_SEAL_SHRINK))
		return "not sealed against shrinking";
	if (!(seals & F_SEAL_GROW))
		return "not sealed against growing";
	if (fstat(fd, &st) || fstatfs(fd, &fs))
		return "cannot be examined";
	if (fs.f_type == HUGETLBFS_MAGIC)
		return "made of huge pages";
	if (size == 0 || size > REGION_MAX || size % SHUNT_PAGE_SIZE)
		return "size is not a number of pages within the limit";
	if ((size_t)st.st_size != size)
		return "not of the size announced";
	if ((size_t)st.st_blocks * 512 < size)
		return "sparse";
	return NULL;
}

int shunt_region_open(struct shunt_region **out, int fd, size_t size, int prot, const char **why)
{
	const char *fault = region_fault(fd, size);
	int err = fault ? -EINVAL : region_new(out, fd, size, prot);

	if (!fault && err)
		fault = err == -EACCES ? "cannot be mapped for writing" : "cannot be mapped";
	if (why)
		*why = fault;
	if (err)
		(void)close(fd);
	return err;
}

struct shunt_region *shunt_region_get(struct shunt_region *region)
{
	(void)atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
	return region;
}

void shunt_region_put(struct shunt_region *region)
{
	if (!region || atomic_fetch_sub_explicit(&region->refs, 1, memory_order_acq_rel) != 1)
		return;
	(void)munmap(region->addr, region->size);
	(void)close(region->fd);
	free(region);
}

void *shunt_region_addr(const struct shunt_region *region)
{
	return region->addr;
}

size_t shunt_region_size(const struct shunt_region *region)
{
	return region->size;
}

int shunt_region_fd(const struct shunt_region *region)
{
	return region->fd;
}
