/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "platform/platform.h"

static int join(char *path, const char *dir, const char *key)
{
	int n = snprintf(path, PLATFORM_PATH_MAX, "%s/%s", dir, key);

	return n < 0 || n >= PLATFORM_PATH_MAX ? -ENAMETOOLONG : 0;
}

int store_printf(
	struct platform *p, uint32_t tx, const char *dir, const char *key, const char *format, ...)
{
	char path[PLATFORM_PATH_MAX];
	char value[PLATFORM_VALUE_MAX];
	va_list ap;
	int n;

	if (join(path, dir, key))
		return -ENAMETOOLONG;
	va_start(ap, format);
	n = vsnprintf(value, sizeof(value), format, ap);
	va_end(ap);
	if (n < 0 || n >= (int)sizeof(value))
		return -E2BIG;
	return p->ops->store_write(p, tx, path, value);
}

int store_gets(
	struct platform *p, uint32_t tx, const char *dir, const char *key, char *buf, size_t size)
{
	char path[PLATFORM_PATH_MAX];

	return join(path, dir, key) ? -ENAMETOOLONG : p->ops->store_read(p, tx, path, buf, size);
}

int store_get_uint(struct platform *p, uint32_t tx, const char *dir, const char *key, uint64_t max,
	uint64_t *value)
{
	char text[24];
	uint64_t v = 0;
	int n = store_gets(p, tx, dir, key, text, sizeof(text));

	if (n < 0)
		return n;
	if (n == 0 || n >= (int)sizeof(text))
		return -EINVAL;
	for (int i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10u, &v) ||
			__builtin_add_overflow(v, (unsigned)(text[i] - '0'), &v))
			return -ERANGE;
	}
	if (v > max)
		return -ERANGE;
	*value = v;
	return 0;
}

uint64_t store_get_uint_or(
	struct platform *p, const char *dir, const char *key, uint64_t max, uint64_t otherwise)
{
	uint64_t value;

	return store_get_uint(p, 0, dir, key, max, &value) ? otherwise : value;
}

int store_rm_key(struct platform *p, uint32_t tx, const char *dir, const char *key)
{
	char path[PLATFORM_PATH_MAX];

	return join(path, dir, key) ? -ENAMETOOLONG : p->ops->store_rm(p, tx, path);
}
