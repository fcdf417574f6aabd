/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the headers are: by hand-made frames, each also cut at every byte, its head against an untouchable page. */
#include "frames.h"

#include "base/util.h"
#include "packet/headers.h"

#define MACS "\x02\x11\x22\x33\x44\x55\x02\x66\x77\x88\x99\xaa"
#define TCP  "\x9c\x40\x14\x51\0\0\0\1\0\0\0\2\x50\x10\x72\x10\0\0\0\0"
#define UDP  "\x9c\x40\x14\x51\0\x08\0\0"
#define V4A  "\x0a\0\0\1\x0a\0\0\2"
#define V6A  "\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2"

struct example {
	const char *name;
	const char *bytes;
	uint32_t len;
	struct packet_headers expected;
};

#define EXAMPLE(NAME, BYTES, ...)                                                                  \
	{                                                                                          \
		NAME, BYTES, sizeof(BYTES) - 1,                                                    \
		{                                                                                  \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}

/* clang-format off */
static const struct example examples[] = {
	EXAMPLE("ipv4 tcp", MACS "\x08\0" "\x45\0\0\x28\0\1\x40\0\x40\6\0\0" V4A TCP,
		.type = 0x0800, .l3 = 14, .l4 = 34, .protocol = 6),
	EXAMPLE("ipv4 with options", MACS "\x08\0" "\x47\0\0\x24\0\1\x40\0\x40\x11\0\0" V4A "\1\1\1\1\1\1\1\1" UDP,
		.type = 0x0800, .l3 = 14, .l4 = 42, .protocol = 17),
	EXAMPLE("one tag", MACS "\x81\0\x01\x23\x08\0" "\x45\0\0\x1c\0\1\x40\0\x40\x11\0\0" V4A UDP,
		.type = 0x0800, .l3 = 18, .l4 = 38, .tag = 14, .protocol = 17),
	EXAMPLE("two tags", MACS "\x88\xa8\0\1\x81\0\0\2\x08\0" "\x45\0\0\x1c\0\1\x40\0\x40\x11\0\0" V4A UDP,
		.type = 0x0800, .l3 = 22, .l4 = 42, .tag = 14, .protocol = 17),
	EXAMPLE("three tags", MACS "\x88\xa8\0\1\x81\0\0\2\x81\0\0\3\x08\0" "\x45\0\0\x1c",
		.type = 0x8100, .tag = 14),
	EXAMPLE("arp", MACS "\x08\6" "\0\1\x08\0\6\4\0\1" "\x02\x66\x77\x88\x99\xaa" "\x0a\0\0\1" "\0\0\0\0\0\0" "\x0a\0\0\2",
		.type = 0x0806, .l3 = 14),
	EXAMPLE("unknown type", MACS "\x88\xcc" "abcdef", .type = 0x88cc),
	EXAMPLE("802.3 length", MACS "\0\6" "\x42\x42\3\0\0\0", .type = 6),
	EXAMPLE("ipv4 first fragment", MACS "\x08\0" "\x45\0\0\x28\0\1\x20\0\x40\6\0\0" V4A TCP,
		.type = 0x0800, .l3 = 14, .l4 = 34, .protocol = 6, .fragment = true),
	EXAMPLE("ipv4 later fragment", MACS "\x08\0" "\x45\0\0\x28\0\1\x20\1\x40\6\0\0" V4A TCP,
		.type = 0x0800, .l3 = 14, .protocol = 6, .fragment = true),
	EXAMPLE("ipv4 last fragment", MACS "\x08\0" "\x45\0\0\x18\0\1\0\7\x40\6\0\0" V4A "abcd",
		.type = 0x0800, .l3 = 14, .protocol = 6, .fragment = true),
	EXAMPLE("ipv4 icmp", MACS "\x08\0" "\x45\0\0\x1c\0\1\x40\0\x40\1\0\0" V4A "\x08\0\0\0\0\1\0\1",
		.type = 0x0800, .l3 = 14, .l4 = 34, .protocol = 1),
	EXAMPLE("ipv4 unknown protocol", MACS "\x08\0" "\x45\0\0\x15\0\1\x40\0\x40\xfd\0\0" V4A "x",
		.type = 0x0800, .l3 = 14, .l4 = 34, .protocol = 253),
	EXAMPLE("ipv4 unknown protocol, empty", MACS "\x08\0" "\x45\0\0\x14\0\1\x40\0\x40\xfd\0\0" V4A,
		.type = 0x0800, .l3 = 14, .protocol = 253),
	EXAMPLE("ipv4 padded frame", MACS "\x08\0" "\x45\0\0\x1c\0\1\x40\0\x40\x11\0\0" V4A UDP "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
		.type = 0x0800, .l3 = 14, .l4 = 34, .protocol = 17),
	EXAMPLE("ipv4 longer than the frame", MACS "\x08\0" "\x45\0\0\x29\0\1\x40\0\x40\6\0\0" V4A TCP,
		.type = 0x0800, .l3 = 14, .protocol = 6, .truncated = true),
	EXAMPLE("ipv4 shorter than its header", MACS "\x08\0" "\x46\0\0\x14\0\1\x40\0\x40\6\0\0" V4A TCP TCP,
		.type = 0x0800, .l3 = 14, .protocol = 6, .truncated = true),
	EXAMPLE("ipv4 shorter than tcp", MACS "\x08\0" "\x45\0\0\x27\0\1\x40\0\x40\6\0\0" V4A TCP,
		.type = 0x0800, .l3 = 14, .protocol = 6, .truncated = true),
	EXAMPLE("ipv4 header length 4", MACS "\x08\0" "\x44\0\0\x28\0\1\x40\0\x40\6\0\0" V4A TCP,
		.type = 0x0800, .l3 = 14, .protocol = 6, .truncated = true),
	EXAMPLE("ipv4 type, version 6", MACS "\x08\0" "\x65\0\0\x28\0\1\x40\0\x40\6\0\0" V4A TCP,
		.type = 0x0800, .truncated = true),
	EXAMPLE("ipv6 udp", MACS "\x86\xdd" "\x60\0\0\0\0\x08\x11\x40" V6A UDP,
		.type = 0x86dd, .l3 = 14, .l4 = 54, .protocol = 17),
	EXAMPLE("ipv6 icmp", MACS "\x86\xdd" "\x60\0\0\0\0\4\x3a\x40" V6A "\x80\0\0\0",
		.type = 0x86dd, .l3 = 14, .l4 = 54, .protocol = 58),
	EXAMPLE("ipv6 type, version 4", MACS "\x86\xdd" "\x45\0\0\0\0\x08\x11\x40" V6A UDP,
		.type = 0x86dd, .truncated = true),
	EXAMPLE("ipv6 longer than the frame", MACS "\x86\xdd" "\x60\0\0\0\0\x09\x11\x40" V6A UDP,
		.type = 0x86dd, .l3 = 14, .protocol = 17, .truncated = true),
	EXAMPLE("ipv6 extensions", MACS "\x86\xdd" "\x60\0\0\0\0\x34\0\x40" V6A
		"\x3c\0\1\4\0\0\0\0" "\x2b\1\1\x0c\0\0\0\0\0\0\0\0\0\0\0\0" "\6\0\0\0\0\0\0\0" TCP "\0\0\0\0",
		.type = 0x86dd, .l3 = 14, .l4 = 86, .protocol = 6),
	EXAMPLE("ipv6 routed", MACS "\x86\xdd" "\x60\0\0\0\0\x10\x2b\x40" V6A "\x11\0\4\1\0\0\0\0" UDP,
		.type = 0x86dd, .l3 = 14, .l4 = 62, .protocol = 17, .routed = true),
	EXAMPLE("ipv6 first fragment", MACS "\x86\xdd" "\x60\0\0\0\0\x10\x2c\x40" V6A "\x11\0\0\1\0\0\0\7" UDP,
		.type = 0x86dd, .l3 = 14, .l4 = 62, .protocol = 17, .fragment = true),
	EXAMPLE("ipv6 later fragment", MACS "\x86\xdd" "\x60\0\0\0\0\x10\x2c\x40" V6A "\x11\0\0\x08\0\0\0\7" UDP,
		.type = 0x86dd, .l3 = 14, .protocol = 17, .fragment = true),
	EXAMPLE("ipv6 atomic fragment", MACS "\x86\xdd" "\x60\0\0\0\0\x10\x2c\x40" V6A "\x11\0\0\0\0\0\0\7" UDP,
		.type = 0x86dd, .l3 = 14, .l4 = 62, .protocol = 17),
	EXAMPLE("ipv6 no next header", MACS "\x86\xdd" "\x60\0\0\0\0\0\x3b\x40" V6A,
		.type = 0x86dd, .l3 = 14, .protocol = 59),
	EXAMPLE("ipv6 8 extensions", MACS "\x86\xdd" "\x60\0\0\0\0\x48\x3c\x40" V6A
		"\x3c\0\1\4\0\0\0\0" "\x3c\0\1\4\0\0\0\0" "\x3c\0\1\4\0\0\0\0" "\x3c\0\1\4\0\0\0\0"
		"\x3c\0\1\4\0\0\0\0" "\x3c\0\1\4\0\0\0\0" "\x3c\0\1\4\0\0\0\0" "\x11\0\1\4\0\0\0\0" UDP,
		.type = 0x86dd, .l3 = 14, .l4 = 118, .protocol = 17),
	EXAMPLE("ipv6 9 extensions", MACS "\x86\xdd" "\x60\0\0\0\0\x50\x3c\x40" V6A
		"\x3c\0\1\4\0\0\0\0" "\x3c\0\1\4\0\0\0\0" "\x3c\0\1\4\0\0\0\0" "\x3c\0\1\4\0\0\0\0" "\x3c\0\1\4\0\0\0\0"
		"\x3c\0\1\4\0\0\0\0" "\x3c\0\1\4\0\0\0\0" "\x3c\0\1\4\0\0\0\0" "\x11\0\1\4\0\0\0\0" UDP,
		.type = 0x86dd, .l3 = 14, .protocol = 60, .truncated = true),
	EXAMPLE("ipv6 extension beyond the datagram", MACS "\x86\xdd" "\x60\0\0\0\0\x10\x3c\x40" V6A "\x11\2\1\4\0\0\0\0" UDP,
		.type = 0x86dd, .l3 = 14, .protocol = 60, .truncated = true),
};
/* clang-format on */

static uint8_t *edge;

static struct packet_headers parse_at_edge(const void *bytes, uint32_t head_len, uint32_t len)
{
	struct shunt_packet packet = {
		.data = edge_at(edge, head_len), .head_len = head_len, .len = len};
	struct packet_headers headers;

	memcpy(packet.data, bytes, head_len);
	memset(&headers, 0xee, sizeof(headers));
	packet_parse(&packet, &headers);
	return headers;
}

static void assert_same(const struct packet_headers *a, const struct packet_headers *b)
{
	assert_int_equal(a->type, b->type);
	assert_int_equal(a->l3, b->l3);
	assert_int_equal(a->l4, b->l4);
	assert_int_equal(a->tag, b->tag);
	assert_int_equal(a->protocol, b->protocol);
	assert_int_equal(a->fragment, b->fragment);
	assert_int_equal(a->routed, b->routed);
	assert_int_equal(a->truncated, b->truncated);
}

static void assert_inside(const struct packet_headers *headers, uint32_t head_len)
{
	uint32_t fixed = headers->protocol == 6 ? 20 : headers->protocol == 17 ? 8 : 1;

	if (headers->tag)
		assert_true(headers->tag + 4u <= head_len);
	if (headers->l3)
		assert_true(headers->l3 + (headers->type == TYPE_IPV6         ? 40u
						  : headers->type == TYPE_ARP ? 28u
									      : 20u) <=
			    head_len);
	if (headers->l4) {
		assert_true(headers->l3 && headers->l4 > headers->l3);
		assert_true(headers->l4 + fixed <= head_len);
	}
}

static void test_examples(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(examples); i++) {
		struct packet_headers headers =
			parse_at_edge(examples[i].bytes, examples[i].len, examples[i].len);

		print_message("%s\n", examples[i].name);
		assert_same(&headers, &examples[i].expected);
	}
}

/* A view's head that ends anywhere, and a frame that ends anywhere. */
static void test_every_cut(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(examples); i++) {
		const struct example *example = &examples[i];

		for (uint32_t cut = 0; cut < example->len; cut++) {
			struct packet_headers view =
				parse_at_edge(example->bytes, cut, example->len);
			struct packet_headers frame = parse_at_edge(example->bytes, cut, cut);

			assert_inside(&view, cut);
			assert_inside(&frame, cut);
			if (!view.truncated)
				assert_same(&view, &example->expected);
			if (cut < 14) {
				assert_int_equal(view.type, 0);
				assert_true(view.truncated && frame.truncated);
			}
			if (example->expected.l4 && cut <= example->expected.l4)
				assert_true(view.truncated && view.l4 == 0);
			/* The IP length says more than there is. */
			if (frame.l3 && frame.type != TYPE_ARP && example->len < 60)
				assert_true(frame.truncated);
		}
	}
}

/* A tag of which a part is missing gives neither a tag nor a type. */
static void test_cut_tag(void **state)
{
	(void)state;
	for (uint32_t cut = 14; cut < 18; cut++) {
		struct packet_headers headers = parse_at_edge(MACS "\x81\0\x01\x23\x08\0", cut, 60);

		assert_true(headers.truncated);
		assert_int_equal(headers.tag, 0);
		assert_int_equal(headers.type, 0);
	}
}

/* Options that the head does not hold are missing from a later fragment too. */
static void test_cut_options(void **state)
{
	static const char bytes[] = MACS "\x08\0"
					 "\x47\0\0\x1c\0\1\0\7\x40\6\0\0" V4A "\1\1\1\1\1\1\1\1";

	(void)state;
	for (uint32_t cut = 34; cut <= 42; cut++) {
		struct packet_headers headers = parse_at_edge(bytes, cut, 42);

		assert_int_equal(headers.l3, 14);
		assert_int_equal(headers.l4, 0);
		assert_true(headers.fragment);
		assert_int_equal(headers.truncated, cut < 42);
	}
}

static void test_random_damage(void **state)
{
	uint64_t seed = 3;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		const struct example *example =
			&examples[next_random(&seed) % ARRAY_SIZE(examples)];
		uint32_t len = 1 + next_random(&seed) % example->len;
		struct packet_headers headers;
		uint8_t bytes[256];

		memcpy(bytes, example->bytes, example->len);
		for (unsigned n = next_random(&seed) % 4; n > 0; n--)
			bytes[12 + next_random(&seed) % (example->len - 12)] =
				(uint8_t)next_random(&seed);
		headers = parse_at_edge(bytes, len, len + next_random(&seed) % 64);
		assert_inside(&headers, len);
	}
}

static void test_numbers(void **state)
{
	uint8_t bytes[6];

	(void)state;
	assert_true(mac_load((const uint8_t *)"\x01\x02\x03\x04\xf5\xf6") == 0x01020304f5f6ull);
	mac_store(bytes, 0x01020304f5f6ull);
	assert_memory_equal(bytes, "\x01\x02\x03\x04\xf5\xf6", 6);
	assert_true(mac_load((const uint8_t *)"\x01\0\x5e\0\0\1") & MAC_GROUP_BIT);
	assert_false(mac_load((const uint8_t *)"\xfe\xff\xff\xff\xff\xff") & MAC_GROUP_BIT);
	assert_true(mac_load((const uint8_t *)"\xff\xff\xff\xff\xff\xff") == MAC_BROADCAST);
	store_be32(bytes, 0xfedcba98);
	assert_memory_equal(bytes, "\xfe\xdc\xba\x98", 4);
	assert_true(load_be32(bytes) == 0xfedcba98);
	assert_int_equal(load_be16(bytes), 0xfedc);
}

static int setup(void **state)
{
	(void)state;
	edge = edge_make();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	edge_free(edge);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_cut_tag),
		cmocka_unit_test(test_cut_options),
		cmocka_unit_test(test_random_damage),
		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
