/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pcap: what is written is read back equal, and no file, however broken, does harm.
 * `test-port-pcap copy IN OUT` instead copies a capture file through two ports, for other programs to look at.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <pcap/pcap.h>

#include <cmocka.h>

#include <shunt/pool.h>

#include "base/util.h"
#include "packet/headers.h"
#include "port/port.h"

enum { FRAMES = 200, BUFFER = 4096, PIECES = 18 };

static char directory[] = "/tmp/shunt-pcap-XXXXXX";
static char file[64];       /* in the directory */
static char file_write[72]; /* the same, to be written */
static struct shunt_pool *pool;

static int setup(void **state)
{
	const struct shunt_pool_config config = {
		.name = "frames", .packets = 256, .buffer_size = BUFFER, .max_segs = PIECES - 1};

	(void)state;
	srandom(7); /* NOLINT(bugprone-random-generator-seed) */
	return shunt_pool_create(&pool, &config);
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(shunt_pool_available(pool), 256);
	shunt_pool_destroy(pool);
	(void)unlink(file);
	return 0;
}

/* Frame number i of a series: its length and its bytes depend on i alone. */
static uint32_t frame_bytes(unsigned i, uint8_t *bytes)
{
	static const uint32_t lengths[] = {
		14, 60, 64, 1514, 1515, 4096, 4097, 9018, 65549, SHUNT_MAX_FRAME};
	uint32_t x = i * 2654435761u + 1;
	uint32_t len = i < ARRAY_SIZE(lengths) ? lengths[i] : 14 + (x >> 8) % 2000;

	for (uint32_t at = 0; at < len; at++) {
		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		bytes[at] = (uint8_t)x;
	}
	return len;
}

static struct shunt_packet *make_packet(const uint8_t *bytes, uint32_t len)
{
	struct shunt_packet *chain[PIECES];
	unsigned n = (len + BUFFER - 1) / BUFFER;
	struct shunt_packet *packet;

	assert_int_equal(shunt_pool_take(pool, chain, n), n);
	packet = chain[0];
	packet->len = len;
	packet->head_len = MIN(len, (uint32_t)BUFFER);
	packet->nsegs = (uint8_t)(n - 1);
	memcpy(packet->data, bytes, packet->head_len);
	for (unsigned i = 1; i < n; i++) {
		uint32_t part = MIN(len - i * BUFFER, (uint32_t)BUFFER);

		memcpy(chain[i]->data, bytes + (size_t)i * BUFFER, part);
		packet->segs[i - 1] = (struct shunt_seg){chain[i]->data, chain[i], part};
	}
	return packet;
}

/* The counters agree with what the caller saw. */
static void close_checked(struct shunt_port *port, uint64_t received, uint64_t taken)
{
	uint64_t rx_drops = 0;
	uint64_t tx_drops = 0;

	for (unsigned i = 0; i < SHUNT_DROPS; i++) {
		rx_drops += counter_read(&port->stats[0].rx_drops[i]);
		tx_drops += counter_read(&port->stats[0].tx_drops[i]);
	}
	assert_int_equal(counter_read(&port->stats[0].rx_packets), received + rx_drops);
	assert_int_equal(taken, counter_read(&port->stats[0].tx_packets) + tx_drops);
	shunt_port_close(port);
}

static void write_frames(unsigned n)
{
	static uint8_t bytes[SHUNT_MAX_FRAME];
	struct shunt_port *port;

	assert_int_equal(port_pcap_open(&port, file_write), 0);
	for (unsigned i = 0; i < n; i++) {
		struct shunt_packet *packet = make_packet(bytes, frame_bytes(i, bytes));

		assert_int_equal(shunt_port_tx(port, 0, &packet, 1), 1);
	}
	assert_int_equal(counter_read(&port->stats[0].tx_packets), n);
	assert_true(shunt_port_arm(port, 0));
	close_checked(port, 0, n);
}

static bool link_up(struct shunt_port *port)
{
	struct shunt_port_info info;

	shunt_port_info(port, &info);
	return info.link_up;
}

/* The next packet is frame i, all of it. */
static void expect_frame(const struct shunt_packet *packet, unsigned i)
{
	static uint8_t want[SHUNT_MAX_FRAME];
	static uint8_t got[SHUNT_MAX_FRAME];
	uint32_t len = frame_bytes(i, want);

	assert_int_equal(packet->len, len);
	assert_int_equal(packet->flags, 0);
	assert_int_equal(shunt_packet_copy_out(packet, 0, got, sizeof(got)), len);
	assert_memory_equal(got, want, len);
}

static void read_frames(struct shunt_pool *into)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	struct shunt_port *port;
	unsigned seen = 0;

	assert_int_equal(port_pcap_open(&port, file), 0);
	if (into)
		assert_int_equal(shunt_port_use_pool(port, 0, into), 0);
	while (link_up(port)) {
		unsigned n;

		assert_false(shunt_port_arm(port, 0));
		n = shunt_port_rx(port, 0, packets, 7);
		assert_true(n <= 7);
		for (unsigned i = 0; i < n; i++)
			expect_frame(packets[i], seen++);
		shunt_packets_release(packets, n);
	}
	assert_int_equal(seen, FRAMES);
	assert_int_equal(shunt_port_rx(port, 0, packets, 7), 0);
	assert_true(shunt_port_arm(port, 0));
	assert_int_equal(shunt_port_fd(port, 0), -1);
	close_checked(port, seen, 0);
}

static void test_round_trip(void **state)
{
	(void)state;
	write_frames(FRAMES);
	read_frames(NULL);
	read_frames(pool);
}

/* The tag goes into the bytes, the time is now, and the whole file is as libpcap itself sees it. */
static void test_written(void **state)
{
	static uint8_t bytes[SHUNT_MAX_FRAME];
	char error[PCAP_ERRBUF_SIZE];
	struct pcap_pkthdr *header;
	struct shunt_packet *packet;
	struct shunt_port *port;
	const uint8_t *got;
	struct stat st;
	uint32_t len = frame_bytes(6, bytes);
	pcap_t *pcap;

	(void)state;
	write_frames(FRAMES); /* is overwritten, not appended to */
	assert_int_equal(port_pcap_open(&port, file_write), 0);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_size, 24);
	packet = make_packet(bytes, len);
	packet->flags |= SHUNT_PKT_VLAN;
	packet->vlan = 0x2005;
	assert_int_equal(shunt_port_tx(port, 0, &packet, 1), 1);
	/* Flushed: the reader need not wait for the end. */
	pcap = pcap_open_offline_with_tstamp_precision(file, PCAP_TSTAMP_PRECISION_NANO, error);
	assert_non_null(pcap);
	assert_int_equal(pcap_datalink(pcap), DLT_EN10MB);
	assert_int_equal(pcap_next_ex(pcap, &header, &got), 1);
	assert_int_equal(header->len, len + 4);
	assert_int_equal(header->caplen, len + 4);
	assert_memory_equal(got, bytes, 12);
	assert_memory_equal(got + 12, "\x81\x00\x20\x05", 4);
	assert_memory_equal(got + 16, bytes + 12, len - 12);
	assert_true(labs((long)(header->ts.tv_sec - time(NULL))) < 10);
	assert_true(header->ts.tv_usec < 1000000000);
	assert_int_equal(pcap_next_ex(pcap, &header, &got), PCAP_ERROR_BREAK);
	pcap_close(pcap);
	close_checked(port, 0, 1);
}

static uint64_t tx_drops(struct shunt_port *port, enum shunt_drop why)
{
	return counter_read(&port->stats[0].tx_drops[why]);
}

static void test_tx_drops(void **state)
{
	static uint8_t bytes[SHUNT_MAX_FRAME];
	struct shunt_packet *packets[4];
	struct shunt_port *port;

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		packets[i] = make_packet(bytes, 100);
	packets[0]->len = packets[0]->head_len = 13;
	packets[1]->flags |= SHUNT_PKT_CSUM_PARTIAL;
	packets[2]->gso_type = SHUNT_GSO_TCPV4;
	assert_int_equal(port_pcap_open(&port, file_write), 0);
	assert_int_equal(shunt_port_tx(port, 0, packets, 4), 4);
	assert_int_equal(tx_drops(port, SHUNT_DROP_RUNT), 1);
	assert_int_equal(tx_drops(port, SHUNT_DROP_CSUM), 1);
	assert_int_equal(tx_drops(port, SHUNT_DROP_GSO), 1);
	assert_int_equal(counter_read(&port->stats[0].tx_packets), 1);
	assert_int_equal(shunt_port_use_pool(port, 0, pool), -EOPNOTSUPP);
	assert_int_equal(shunt_port_rx(port, 0, packets, 4), 0);
	close_checked(port, 0, 4);

	assert_int_equal(port_pcap_open(&port, file), 0);
	packets[0] = make_packet(bytes, 100);
	assert_int_equal(shunt_port_tx(port, 0, packets, 1), 1);
	assert_int_equal(tx_drops(port, SHUNT_DROP_TX_ERROR), 1);
	close_checked(port, 0, 1);
}

/* The disk is full: every packet is accounted for, and nothing is written behind a torn record. */
static void test_disk_full(void **state)
{
	static uint8_t bytes[SHUNT_MAX_FRAME];
	struct rlimit before;
	struct rlimit limit;
	struct shunt_packet *packet;
	struct shunt_port *port;
	unsigned sent;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = 10000;
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(port_pcap_open(&port, file_write), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (sent = 0; sent < 20; sent++) {
		packet = make_packet(bytes, 984);
		assert_int_equal(shunt_port_tx(port, 0, &packet, 1), 1);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(counter_read(&port->stats[0].tx_packets), 9);
	assert_int_equal(tx_drops(port, SHUNT_DROP_TX_ERROR), 11);
	assert_false(link_up(port));
	close_checked(port, 0, sent);
}

static size_t load(uint8_t **bytes)
{
	struct stat st;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	assert_int_equal(fstat(fd, &st), 0);
	*bytes = malloc((size_t)st.st_size);
	assert_non_null(*bytes);
	assert_int_equal(read(fd, *bytes, (size_t)st.st_size), st.st_size);
	(void)close(fd);
	return (size_t)st.st_size;
}

static void store(const void *bytes, size_t len)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	(void)close(fd);
}

/* Read whatever is there; returns the number of packets. At most `most` calls. */
static unsigned drain(struct shunt_port *port, unsigned most)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned seen = 0;

	for (unsigned i = 0; i < most && link_up(port); i++) {
		unsigned n = shunt_port_rx(port, 0, packets, SHUNT_BATCH);

		for (unsigned k = 0; k < n; k++) {
			assert_true(packets[k]->len >= 14 && packets[k]->len <= SHUNT_MAX_FRAME);
			assert_true(packets[k]->head_len <= packets[k]->len);
		}
		shunt_packets_release(packets, n);
		seen += n;
	}
	return seen;
}

static void test_truncated_files(void **state)
{
	struct shunt_port *port;
	uint8_t *bytes;
	size_t len;

	(void)state;
	write_frames(4);
	len = load(&bytes);
	assert_int_equal(len, 24 + 4 * 16 + 14 + 60 + 64 + 1514);
	for (size_t cut = 0; cut < len; cut++) {
		unsigned whole = 0;
		bool even;
		int err;

		store(bytes, cut);
		err = port_pcap_open(&port, file);
		assert_int_equal(err, cut < 24 ? -EINVAL : 0);
		if (err)
			continue;
		whole = (cut >= 24 + 30) + (cut >= 54 + 76) + (cut >= 130 + 80);
		even = cut == 24 || cut == 54 || cut == 130 || cut == 210;
		assert_int_equal(drain(port, 10), whole);
		assert_false(link_up(port));
		assert_int_equal(
			counter_read(&port->stats[0].rx_drops[SHUNT_DROP_MALFORMED]), even ? 0 : 1);
		close_checked(port, whole, 0);
	}
	free(bytes);
}

static void put32(uint8_t *at, uint32_t v)
{
	memcpy(at, &v, sizeof(v));
}

/* One record whose lengths say `caplen` and `len`, with `room` bytes behind it. */
static void store_record(uint32_t linktype, uint32_t caplen, uint32_t len, size_t room)
{
	uint8_t *bytes = calloc(1, 40 + room);

	assert_non_null(bytes);
	put32(bytes, 0xa1b2c3d4);
	bytes[4] = 2;
	bytes[6] = 4;
	put32(bytes + 16, 0xffffffff);
	put32(bytes + 20, linktype);
	put32(bytes + 32, caplen);
	put32(bytes + 36, len);
	store(bytes, 40 + room);
	free(bytes);
}

static void test_hostile_lengths(void **state)
{
	static const struct {
		uint32_t caplen;
		uint32_t len;
		int why; /* -1: received */
	} records[] = {
		{14, 14, -1},
		{14, 0, -1},
		{13, 13, SHUNT_DROP_RUNT},
		{0, 0, SHUNT_DROP_RUNT},
		{0, 0xffffffff, SHUNT_DROP_RUNT},
		{SHUNT_MAX_FRAME, SHUNT_MAX_FRAME, -1},
		{SHUNT_MAX_FRAME + 1, SHUNT_MAX_FRAME + 1, SHUNT_DROP_OVERSIZE},
		{262144, 262144, SHUNT_DROP_OVERSIZE},
		{262145, 262145, SHUNT_DROP_MALFORMED},
		{0x7fffffff, 60, SHUNT_DROP_MALFORMED},
		{0xffffffff, 60, SHUNT_DROP_MALFORMED},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(records); i++) {
		struct shunt_port *port;
		unsigned n;

		store_record(DLT_EN10MB, records[i].caplen, records[i].len,
			MIN(records[i].caplen, 300000u));
		assert_int_equal(port_pcap_open(&port, file), 0);
		n = drain(port, 10);
		if (n != (records[i].why < 0) ||
			(!n && counter_read(&port->stats[0].rx_drops[records[i].why]) != 1))
			fail_msg("record %u", i);
		close_checked(port, n, 0);
	}
}

static void test_snaplen(void **state)
{
	struct shunt_packet *packet;
	struct shunt_port *port;

	(void)state;
	store_record(DLT_EN10MB, 96, 1514, 96);
	assert_int_equal(port_pcap_open(&port, file), 0);
	assert_int_equal(shunt_port_rx(port, 0, &packet, 1), 1);
	assert_int_equal(packet->len, 96);
	assert_int_equal(packet->flags, SHUNT_PKT_TRUNCATED);
	shunt_packets_release(&packet, 1);
	close_checked(port, 1, 0);
}

/* Bytes at random, in a file that begins well: it ends, and nothing is lost uncounted. */
static void test_garbage(void **state)
{
	uint8_t *bytes;
	size_t len;

	(void)state;
	write_frames(5);
	len = load(&bytes);
	for (unsigned round = 0; round < 500; round++) {
		static const char *const options[] = {"", ",loop"};
		uint8_t saved[8];
		size_t at[8];
		char name[80];
		struct shunt_port *port;

		for (unsigned k = 0; k < 8; k++) {
			at[k] = (size_t)random() % len;
			saved[k] = bytes[at[k]];
			bytes[at[k]] = (uint8_t)random();
		}
		store(bytes, len);
		(void)snprintf(name, sizeof(name), "%s%s", file, options[round % 2]);
		if (port_pcap_open(&port, name) == 0)
			close_checked(port, drain(port, 5), 0);
		for (unsigned k = 8; k-- > 0;)
			bytes[at[k]] = saved[k];
	}
	free(bytes);
}

static void test_refused(void **state)
{
	struct shunt_port *port;
	int pipes[2];
	char name[80];

	(void)state;
	store_record(DLT_IEEE802_11, 60, 60, 60);
	assert_int_equal(port_pcap_open(&port, file), -EPROTONOSUPPORT);
	store("not a capture file, but long enough for one", 43);
	assert_int_equal(port_pcap_open(&port, file), -EINVAL);
	assert_int_equal(port_pcap_open(&port, "/nowhere/x.pcap"), -ENOENT);
	assert_int_equal(port_pcap_open(&port, "/nowhere/x.pcap,write"), -ENOENT);
	assert_int_equal(port_pcap_open(&port, "/dev/null"), -EINVAL);
	assert_int_equal(port_pcap_open(&port, directory), -EINVAL);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(port_pcap_from_fd(&port, "x", pipes[0], CAPTURE_READ), -EINVAL);
	assert_int_equal(fcntl(pipes[0], F_GETFD), -1);
	(void)close(pipes[1]);
	/* A FIFO is not waited for. */
	(void)snprintf(name, sizeof(name), "%s/fifo", directory);
	assert_int_equal(mkfifo(name, 0600), 0);
	assert_int_equal(port_pcap_open(&port, name), -EINVAL);
	(void)unlink(name);
}

static void test_loop(void **state)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	struct shunt_port *port;
	char name[80];
	unsigned seen = 0;

	(void)state;
	write_frames(5);
	(void)snprintf(name, sizeof(name), "%s,loop", file);
	assert_int_equal(port_pcap_open(&port, name), 0);
	while (seen < 100) {
		unsigned n = shunt_port_rx(port, 0, packets, SHUNT_BATCH);

		assert_true(n > 0);
		for (unsigned i = 0; i < n; i++)
			expect_frame(packets[i], seen++ % 5);
		shunt_packets_release(packets, n);
	}
	assert_true(link_up(port));
	close_checked(port, seen, 0);
	/* An empty file is not begun over and over. */
	write_frames(0);
	assert_int_equal(port_pcap_open(&port, name), 0);
	assert_int_equal(shunt_port_rx(port, 0, packets, SHUNT_BATCH), 0);
	assert_false(link_up(port));
	close_checked(port, 0, 0);
}

/* Without buffers a frame stays in the file. */
static void test_starved(void **state)
{
	struct shunt_packet *held[SHUNT_BATCH];
	struct shunt_packet *packets[SHUNT_BATCH];
	struct shunt_port *port;
	unsigned n;

	(void)state;
	write_frames(FRAMES);
	assert_int_equal(port_pcap_open(&port, file), 0);
	n = shunt_port_rx(port, 0, held, SHUNT_BATCH);
	assert_true(n > 0 && n < SHUNT_BATCH);
	assert_int_equal(shunt_port_rx(port, 0, packets, 1), 0);
	assert_true(link_up(port));
	for (unsigned i = 0; i < n; i++)
		expect_frame(held[i], i);
	shunt_packets_release(held, n);
	assert_int_equal(shunt_port_rx(port, 0, packets, 1), 1);
	expect_frame(packets[0], n);
	shunt_packets_release(packets, 1);
	close_checked(port, n + 1, 0);
}

static int copy(const char *from, const char *to)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	struct shunt_port *in;
	struct shunt_port *out;
	char name[4096];
	int err = port_pcap_open(&in, from);

	(void)snprintf(name, sizeof(name), "%s,write", to);
	if (!err && (err = port_pcap_open(&out, name)))
		shunt_port_close(in);
	if (err) {
		(void)fprintf(stderr, "%s\n", strerror(-err));
		return 1;
	}
	while (link_up(in))
		(void)shunt_port_tx(out, 0, packets, shunt_port_rx(in, 0, packets, SHUNT_BATCH));
	shunt_port_close(in);
	shunt_port_close(out);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(test_written, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tx_drops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncated_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_lengths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_snaplen, setup, teardown),
		cmocka_unit_test_setup_teardown(test_garbage, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loop, setup, teardown),
		cmocka_unit_test_setup_teardown(test_starved, setup, teardown),
	};
	int failed;

	if (argc == 4 && strcmp(argv[1], "copy") == 0)
		return copy(argv[2], argv[3]);
	if (!mkdtemp(directory))
		return 1;
	(void)snprintf(file, sizeof(file), "%s/x.pcap", directory);
	(void)snprintf(file_write, sizeof(file_write), "%s,write", file);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	(void)rmdir(directory);
	return failed;
}
