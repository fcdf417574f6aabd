/* SPDX-License-Identifier: BSD-3-Clause */
#include "programs/common/value.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool value_uint(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || __builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return false;
	}
	*out = value;
	return value >= min && value <= max;
}

bool value_size(const char *text, uint64_t *out)
{
	static const char units[] = "KMG";
	char digits[VALUE_TEXT];
	size_t len = strlen(text);
	const char *unit = len ? strchr(units, text[len - 1]) : NULL;
	uint64_t factor = 1;

	if (len == 0 || len >= sizeof(digits))
		return false;
	memcpy(digits, text, len + 1);
	if (unit) {
		digits[len - 1] = '\0';
		factor = 1ull << (10 * (unit - units + 1));
	}
	return value_uint(digits, 0, UINT64_MAX / factor, out) &&
	       !__builtin_mul_overflow(*out, factor, out);
}

bool value_bool(const char *text, bool *out)
{
	static const char *const names[] = {"no", "yes", "false", "true"};
	unsigned which;

	if (!value_choice(text, names, ARRAY_SIZE(names), &which))
		return false;
	*out = which & 1;
	return true;
}

bool value_choice(const char *text, const char *const *names, unsigned n, unsigned *out)
{
	for (unsigned i = 0; i < n; i++) {
		if (!strcmp(text, names[i])) {
			*out = i;
			return true;
		}
	}
	return false;
}

bool value_mac(const char *text, uint8_t mac[6])
{
	static const char zero[6];

	for (unsigned i = 0; i < 6; i++, text += 3) {
		char digits[3] = {text[0], (char)(text[0] ? text[1] : '\0'), '\0'};

		if (!isxdigit((unsigned char)digits[0]) || !isxdigit((unsigned char)digits[1]) ||
			text[2] != (i < 5 ? ':' : '\0'))
			return false;
		mac[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return !(mac[0] & 1) && memcmp(mac, zero, sizeof(zero)) != 0;
}

bool value_ip(const char *text, struct vswitch_ip *ip)
{
	memset(ip, 0, sizeof(*ip));
	if (inet_pton(AF_INET, text, ip->addr) == 1) {
		ip->version = 4;
		return true;
	}
	ip->version = 6;
	return inet_pton(AF_INET6, text, ip->addr) == 1;
}

bool value_uuid(const char *text, char uuid[37])
{
	if (strlen(text) != 36)
		return false;
	for (unsigned i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
		uuid[i] = (char)tolower((unsigned char)text[i]);
	}
	uuid[36] = '\0';
	return true;
}

bool value_user(const char *text, uid_t *uid)
{
	uint64_t number;
	struct passwd *user;

	if (value_uint(text, 0, UINT32_MAX - 1, &number)) {
		*uid = (uid_t)number;
		return true;
	}
	user = value_name(text, VALUE_TEXT) ? getpwnam(text) : NULL;
	if (user)
		*uid = user->pw_uid;
	return user != NULL;
}

bool value_name(const char *text, size_t max)
{
	size_t len = strlen(text);

	if (len == 0 || len > max || text[0] == '.')
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)text[i]) && !strchr("-_.", text[i]))
			return false;
	}
	return true;
}

bool value_list(const char *text, bool (*each)(void *arg, const char *element), void *arg)
{
	if (!strcmp(text, "none"))
		return true;
	for (;;) {
		char element[VALUE_TEXT];
		size_t len;

		text += strspn(text, ", \t");
		len = strcspn(text, ", \t");
		if (len == 0)
			return true;
		if (len >= sizeof(element))
			return false;
		memcpy(element, text, len);
		element[len] = '\0';
		if (!each(arg, element))
			return false;
		text += len;
	}
}

static bool vlan_span(void *arg, const char *element)
{
	uint64_t *vlans = arg;
	char first[VALUE_TEXT];
	const char *dash = strchr(element, '-');
	size_t len = dash ? (size_t)(dash - element) : strlen(element);
	uint64_t from;
	uint64_t to;

	memcpy(first, element, len);
	first[len] = '\0';
	if (!value_uint(first, 1, VSWITCH_VLAN_MAX, &from))
		return false;
	to = from;
	if (dash && (!value_uint(dash + 1, from, VSWITCH_VLAN_MAX, &to)))
		return false;
	for (uint64_t v = from; v <= to; v++)
		vlans[v / 64] |= 1ull << (v % 64);
	return true;
}

bool value_vlans(const char *text, uint64_t vlans[VSWITCH_VLANS / 64])
{
	memset(vlans, 0, VSWITCH_VLANS / 8);
	if (!strcmp(text, "all"))
		text = "1-4094";
	return value_list(text, vlan_span, vlans);
}

const char *value_mac_text(const uint8_t mac[6], char *out)
{
	(void)snprintf(out, VALUE_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		mac[3], mac[4], mac[5]);
	return out;
}

const char *value_ip_text(const struct vswitch_ip *ip, char *out)
{
	(void)inet_ntop(ip->version == 4 ? AF_INET : AF_INET6, ip->addr, out, VALUE_TEXT);
	return out;
}

const char *value_rate_text(const struct rate_limit *rate, char *out)
{
	if (rate->bytes && rate->usec)
		(void)snprintf(out, VALUE_TEXT, "%" PRIu64 ",%" PRIu64, rate->bytes, rate->usec);
	else
		(void)snprintf(out, VALUE_TEXT, "none");
	return out;
}

const char *value_size_text(uint64_t bytes, char *out)
{
	unsigned unit = 0;

	while (unit < 3 && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	(void)snprintf(out, VALUE_TEXT, "%" PRIu64 "%.*s", bytes, unit ? 1 : 0, &" KMG"[unit]);
	return out;
}
