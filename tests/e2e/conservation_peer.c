/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One end of the conservation test: sends numbered frames to others at a steady rate, and counts what it receives.
 *
 *	conservation_peer COUNTS ID PORT MAC RATE QUEUES DEST=MAC...
 *
 * PORT is vif:SOCKET, through libshunt, or raw:IFNAME, a packet socket of the kernel's, which shares nothing with the
 * code that is tested. Frames go to each DEST (another peer's ID) in turn. Each frame says who sent it to whom and its
 * place in that flow; its length and every further byte follow from these, and the receiver checks all of them.
 *
 * The counts are 64-bit words in the file COUNTS, mapped shared, so that they survive the peer (enum counts; the test
 * reads them). SIGUSR1 ends the sending, SIGTERM the peer.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <shunt/context.h>
#include <shunt/pool.h>
#include <shunt/region.h>

enum {
	PEERS = 16,         /* as an ID, 15 is broadcast */
	ETHERTYPE = 0x88b5, /* IEEE 802, local experimental 1 */
	FRAME_MAX = 9014,
	BURST = 32,
	BEHIND_MAX = 256, /* frames it catches up with after it was held up */
	BIG_BUFFER = 12288,
	SOCKET_BUFFER = 32 << 20,
};

#define SECOND 1000000000ull

/* Words of the file. */
enum counts {
	STATE, /* 1: running, 2: sends no more, 3: ended */
	SENT,
	RECEIVED,
	BAD,   /* not what was written */
	LATE,  /* twice, or out of order */
	ALIEN, /* of another protocol */
	DROPS, /* a vif: dropped by the front end; raw: by the kernel, before the socket */
	REFUSED,
	SENT_TO = 16,
	RECEIVED_OF = SENT_TO + PEERS, /* from * PEERS + to */
	COUNTS = RECEIVED_OF + PEERS * PEERS,
};

struct frame {
	uint8_t dst[6];
	uint8_t src[6];
	uint16_t type; /* big-endian */
	uint8_t from;
	uint8_t to;
	uint64_t place;
	uint8_t fill[FRAME_MAX - 24];
};
_Static_assert(sizeof(struct frame) >= FRAME_MAX, "the longest frame");

struct peer {
	uint64_t *counts;
	uint8_t id;
	uint8_t mac[6];
	unsigned ndests;
	uint8_t dests[PEERS];
	uint8_t macs[PEERS][6];
	uint64_t next[PEERS]; /* place in the flow to each */
	uint64_t expected[PEERS * PEERS];
	unsigned turn;
	struct frame frame; /* being made, or checked */
	uint8_t pattern[256 + FRAME_MAX];

	int sock; /* raw; -1: a vif */
	struct shunt_context *context;
	struct shunt_port *port;
	struct shunt_pool *big; /* for frames that are longer than a page */
};

static volatile sig_atomic_t quiet;
static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
	if (number == SIGTERM)
		stopping = 1;
	quiet = 1;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

/* One writer; the test reads from another process. */
static void count(struct peer *p, unsigned which, uint64_t n)
{
	__atomic_store_n(&p->counts[which], p->counts[which] + n, __ATOMIC_RELAXED);
}

static uint32_t length_of(uint64_t place)
{
	/* Shortest, around the private head of a view, an MTU, a page and its neighbours, three pages. */
	static const uint16_t lengths[] = {
		60, 127, 128, 129, 590, 1514, 60, 4095, 4096, 4097, 60, 9014};

	return lengths[place % (sizeof(lengths) / sizeof(lengths[0]))];
}

static const uint8_t *fill_of(const struct peer *p, const struct frame *f)
{
	return p->pattern + (uint8_t)(f->from * 67 + f->to * 29 + f->place * 7);
}

/* Make the frame that is next to send. Returns its length. */
static uint32_t frame_make(struct peer *p)
{
	struct frame *f = &p->frame;
	uint8_t to = p->dests[p->turn];
	uint32_t len;

	memcpy(f->dst, p->macs[p->turn], 6);
	memcpy(f->src, p->mac, 6);
	f->type = htons(ETHERTYPE);
	f->from = p->id;
	f->to = to;
	f->place = p->next[p->turn];
	len = length_of(f->place);
	memcpy(f->fill, fill_of(p, f), len - offsetof(struct frame, fill));
	return len;
}

static void frame_sent(struct peer *p)
{
	count(p, SENT, 1);
	count(p, SENT_TO + p->dests[p->turn], 1);
	p->next[p->turn]++;
	p->turn = (p->turn + 1) % p->ndests;
}

/* Check the frame of `len` bytes in p->frame. */
static void frame_check(struct peer *p, uint32_t len)
{
	const struct frame *f = &p->frame;
	uint64_t *expected;

	if (len < offsetof(struct frame, fill) || f->type != htons(ETHERTYPE)) {
		count(p, ALIEN, 1);
		return;
	}
	if (f->from >= PEERS || f->to >= PEERS || len != length_of(f->place) ||
		memcmp(f->fill, fill_of(p, f), len - offsetof(struct frame, fill)) != 0) {
		count(p, BAD, 1);
		return;
	}
	expected = &p->expected[f->from * PEERS + f->to];
	if (f->place < *expected)
		count(p, LATE, 1);
	else
		*expected = f->place + 1;
	count(p, RECEIVED, 1);
	count(p, RECEIVED_OF + f->from * PEERS + f->to, 1);
}

/* ---- the kernel's side ---- */

static int raw_open(const char *ifname)
{
	const int on = 1;
	const int size = SOCKET_BUFFER;
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	address.sll_ifindex = (int)if_nametoindex(ifname);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ||
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
		bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		perror(ifname);
		exit(1);
	}
	return fd;
}

static bool raw_send(struct peer *p)
{
	uint32_t len = frame_make(p);

	if (send(p->sock, &p->frame, len, MSG_DONTWAIT) == (ssize_t)len) {
		frame_sent(p);
		return true;
	}
	count(p, REFUSED, 1);
	return false;
}

static unsigned raw_receive(struct peer *p)
{
	struct tpacket_stats stats;
	socklen_t size = sizeof(stats);
	unsigned n;

	for (n = 0; n < BURST; n++) {
		ssize_t len = recv(p->sock, &p->frame, sizeof(p->frame), MSG_DONTWAIT | MSG_TRUNC);

		if (len < 0)
			break;
		if ((size_t)len > sizeof(p->frame))
			count(p, BAD, 1);
		else
			frame_check(p, (uint32_t)len);
	}
	/* Reading the statistics resets them. */
	if (!n && !getsockopt(p->sock, SOL_PACKET, PACKET_STATISTICS, &stats, &size))
		count(p, DROPS, stats.tp_drops);
	return n;
}

/* ---- a guest's side ---- */

static void vif_open(struct peer *p, const char *name, unsigned queues)
{
	const struct shunt_open_options options = {
		.size = sizeof(options), .wait_ms = 5000, .queues = queues};
	const struct shunt_pool_config big = {
		.name = "big", .packets = 64, .buffer_size = BIG_BUFFER};
	struct shunt_port_info info;

	if (shunt_context_new(&p->context) || shunt_pool_create(&p->big, &big)) {
		perror(name);
		exit(1);
	}
	if (shunt_open(p->context, name, &options, &p->port)) {
		(void)fprintf(stderr, "%s\n", shunt_context_error(p->context));
		exit(1);
	}
	shunt_port_info(p->port, &info);
	if (info.rx_queues != queues) {
		(void)fprintf(stderr, "%s: %u queues, not %u\n", name, info.rx_queues, queues);
		exit(1);
	}
}

/* Short frames from memory that the host can reach, long ones from elsewhere. */
static bool vif_send(struct peer *p)
{
	uint32_t len = frame_make(p);
	struct shunt_port_info info;
	struct shunt_packet *packet;
	struct shunt_pool *pool;
	unsigned queue;

	shunt_port_info(p->port, &info);
	queue = p->dests[p->turn] % info.tx_queues;
	pool = len > SHUNT_PAGE_SIZE ? p->big : shunt_vif_pool(p->port, queue);
	if (!info.link_up || !pool || !shunt_pool_take(pool, &packet, 1)) {
		count(p, REFUSED, 1);
		return false;
	}
	memcpy(packet->data, &p->frame, len);
	packet->len = len;
	packet->head_len = len;
	if (shunt_port_tx(p->port, queue, &packet, 1) == 0) {
		shunt_packets_release(&packet, 1);
		count(p, REFUSED, 1);
		return false;
	}
	frame_sent(p);
	return true;
}

static unsigned vif_receive(struct peer *p)
{
	struct shunt_packet *packets[BURST];
	struct shunt_port_info info;
	unsigned all = 0;

	shunt_port_info(p->port, &info);
	for (unsigned q = 0; q < info.rx_queues; q++) {
		unsigned n = shunt_port_rx(p->port, q, packets, BURST);

		for (unsigned i = 0; i < n; i++) {
			uint32_t len = packets[i]->len;

			if (shunt_packet_copy_out(packets[i], 0, &p->frame, sizeof(p->frame)) ==
				len)
				frame_check(p, len);
			else
				count(p, BAD, 1);
		}
		shunt_packets_release(packets, n);
		all += n;
	}
	return all;
}

static void vif_tend(struct peer *p)
{
	struct shunt_port_stats stats;
	uint64_t drops = 0;

	shunt_context_process(p->context);
	shunt_port_stats(p->port, &stats);
	for (unsigned i = 0; i < SHUNT_DROPS; i++)
		drops += stats.drops[i];
	count(p, DROPS, drops - p->counts[DROPS]);
}

/* ---- both ---- */

static void run(struct peer *p, uint64_t rate)
{
	uint64_t start = now_ns();
	uint64_t done = 0;
	uint64_t tended = 0;

	while (!stopping) {
		uint64_t now = now_ns();
		uint64_t due = (now - start) / 1000 * rate / 1000000;
		unsigned n = p->port ? vif_receive(p) : raw_receive(p);
		bool full = false;

		if (due > done + BEHIND_MAX)
			done = due - BEHIND_MAX;
		for (unsigned i = 0; i < BURST && done < due && !quiet && !full; i++) {
			full = !(p->port ? vif_send(p) : raw_send(p));
			done += !full;
		}
		if (quiet && p->counts[STATE] == 1)
			count(p, STATE, 1);
		if (p->port && now - tended > SECOND / 500) {
			vif_tend(p);
			tended = now;
		}
		if (!n && (done >= due || quiet || full))
			(void)poll(NULL, 0, 1);
	}
}

static bool mac_read(const char *text, uint8_t mac[6])
{
	return sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3],
		       &mac[4], &mac[5]) == 6;
}

static uint64_t *counts_open(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *at;

	if (fd < 0 || ftruncate(fd, COUNTS * sizeof(uint64_t)))
		return NULL;
	at = mmap(NULL, COUNTS * sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	return at == MAP_FAILED ? NULL : at;
}

int main(int argc, char **argv)
{
	static struct peer p = {.sock = -1};
	struct sigaction action = {.sa_handler = on_signal};

	if (argc < 8 || argc > 7 + PEERS || !mac_read(argv[4], p.mac)) {
		(void)fprintf(stderr,
			"usage: conservation_peer COUNTS ID PORT MAC RATE QUEUES DEST=MAC...\n");
		return 2;
	}
	p.counts = counts_open(argv[1]);
	if (!p.counts) {
		perror(argv[1]);
		return 1;
	}
	p.id = (uint8_t)strtoul(argv[2], NULL, 10);
	for (int i = 7; i < argc; i++) {
		char *mac;

		p.dests[p.ndests] = (uint8_t)(strtoul(argv[i], &mac, 10) % PEERS);
		if (*mac != '=' || !mac_read(mac + 1, p.macs[p.ndests++]))
			return 2;
	}
	for (unsigned i = 0; i < sizeof(p.pattern); i++)
		p.pattern[i] = (uint8_t)(i * 31 + (i >> 8));
	(void)sigaction(SIGTERM, &action, NULL);
	(void)sigaction(SIGUSR1, &action, NULL);
	if (!strncmp(argv[3], "raw:", 4))
		p.sock = raw_open(argv[3] + 4);
	else
		vif_open(&p, argv[3], (unsigned)strtoul(argv[6], NULL, 10));
	count(&p, STATE, 1);
	run(&p, strtoull(argv[5], NULL, 10));
	if (p.port) {
		vif_tend(&p);
		shunt_port_close(p.port);
		shunt_pool_destroy(p.big);
		shunt_context_free(p.context);
	}
	__atomic_store_n(&p.counts[STATE], 3, __ATOMIC_RELAXED);
	return 0;
}
