/* SPDX-License-Identifier: BSD-3-Clause */
/* Arithmetic on numbers that somebody else chose. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True, and *sum set, if a + b fits. */
static inline bool checked_add(size_t a, size_t b, size_t *sum)
{
	return !__builtin_add_overflow(a, b, sum);
}

/* True, and *product set, if a * b fits. */
static inline bool checked_mul(size_t a, size_t b, size_t *product)
{
	return !__builtin_mul_overflow(a, b, product);
}

/* Does [offset, offset + len) lie inside [0, size)? */
static inline bool checked_within(size_t offset, size_t len, size_t size)
{
	return offset <= size && len <= size - offset;
}
