/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Values as people write them, in the configuration file and on the command line, and back. Each parser takes all of
 * its text or nothing: false, and what it was to fill in is unspecified.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "switch/rate.h"
#include "switch/switch.h"

enum { VALUE_TEXT = 64 }; /* enough for any of the formatters */

/* Decimal, in [min, max]. */
bool value_uint(const char *text, uint64_t min, uint64_t max, uint64_t *out);
/* Bytes: a number and perhaps K, M or G (powers of 1024). */
bool value_size(const char *text, uint64_t *out);
/* yes, no, true, false. */
bool value_bool(const char *text, bool *out);
/* One of `n` names; *out is its index. */
bool value_choice(const char *text, const char *const *names, unsigned n, unsigned *out);
/* aa:bb:cc:dd:ee:ff, not a group address and not zero. */
bool value_mac(const char *text, uint8_t mac[6]);
/* IPv4 or IPv6, without a prefix length. */
bool value_ip(const char *text, struct vswitch_ip *ip);
/* Kept in lower case. */
bool value_uuid(const char *text, char uuid[37]);
/* A user's name or number. */
bool value_user(const char *text, uid_t *uid);
/* Letters, digits, '-', '_' and '.', the first no dot; at most `max` of them. */
bool value_name(const char *text, size_t max);
/* "all", "none", or numbers and spans of them: "2,5-9"; sets bits of VLANs 1 .. VSWITCH_VLAN_MAX. */
bool value_vlans(const char *text, uint64_t vlans[VSWITCH_VLANS / 64]);

/*
 * Call `each` for every element of a list separated by commas or spaces, which may be empty or "none". False when
 * `each` said so, or when an element is longer than VALUE_TEXT - 1.
 */
bool value_list(const char *text, bool (*each)(void *arg, const char *element), void *arg);

/* They return `out`, VALUE_TEXT bytes. */
const char *value_mac_text(const uint8_t mac[6], char *out);
const char *value_ip_text(const struct vswitch_ip *ip, char *out);
const char *value_rate_text(const struct rate_limit *rate, char *out); /* "BYTES,USEC", or "none" */
const char *value_size_text(uint64_t bytes, char *out);                /* "64M" */
