/* SPDX-License-Identifier: BSD-3-Clause */
#include "raw.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { FDS_MAX = 253 }; /* SCM_MAX_FD */

void raw_die(const char *format, ...)
{
	va_list ap;

	(void)fprintf(stderr, "  the attack broke: ");
	va_start(ap, format);
	(void)vfprintf(stderr, format, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	_exit(RAW_BROKEN);
}

uint64_t raw_ms(void)
{
	return clock_ns() / CLOCK_MS;
}

void raw_sleep_ms(unsigned ms)
{
	const struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};

	(void)nanosleep(&t, NULL);
}

/* ---- requests ---- */

int raw_connect(const char *path)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int err;

	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	if (fd < 0 || !connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
		return fd < 0 ? -errno : fd;
	err = -errno;
	(void)close(fd);
	return err;
}

static int receive(struct raw *r, struct wire_reply *reply, int *fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = reply, .iov_len = sizeof(*reply)};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf)};
	struct pollfd pfd = {.fd = r->socket, .events = POLLIN};
	struct cmsghdr *cmsg;
	int got = -1;
	ssize_t n;

	if (poll(&pfd, 1, 2 * RAW_WAIT_MS) != 1)
		raw_die("no reply");
	n = recvmsg(r->socket, &msg, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return -EPIPE;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
		memcpy(&got, CMSG_DATA(cmsg), sizeof(got));
	if (fd)
		*fd = got;
	else if (got >= 0)
		(void)close(got);
	if (n != sizeof(*reply))
		raw_die("a reply of %zd bytes", n);
	return reply->status;
}

int raw_call_fds(struct raw *r, const struct wire_request *request, const void *refs,
	size_t refs_len, const int *fds, unsigned nfds, struct wire_reply *reply, int *fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control = {0};
	struct iovec iov[2] = {{(void *)(uintptr_t)request, sizeof(*request)},
		{(void *)(uintptr_t)refs, refs_len}};
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
	struct wire_reply own;

	if (fd)
		*fd = -1;
	if (nfds) {
		struct cmsghdr *cmsg;

		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nfds * sizeof(int));
	}
	if (sendmsg(r->socket, &msg, MSG_NOSIGNAL) < 0)
		return -EPIPE;
	return receive(r, reply ? reply : &own, fd);
}

int raw_call(struct raw *r, enum wire_op op, uint64_t a0, uint64_t a1, uint64_t a2,
	struct wire_reply *reply, int *fd)
{
	const struct wire_request request = {
		.op = (uint16_t)op, .id = ++r->last_id, .arg = {a0, a1, a2}};

	return raw_call_fds(r, &request, NULL, 0, NULL, 0, reply, fd);
}

/* ---- memory ---- */

int raw_memfd(size_t bytes, int seals)
{
	int fd = memfd_create("raw", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) || (bytes && fallocate(fd, 0, 0, (off_t)bytes)) ||
		(seals && fcntl(fd, F_ADD_SEALS, seals)))
		raw_die("memfd of %zu bytes: %s", bytes, strerror(errno));
	return fd;
}

uint64_t raw_entry(uint32_t frame, unsigned flags, domid_t to)
{
	return flags | (uint64_t)to << 16 | (uint64_t)frame << 32;
}

void raw_grant(struct raw *r, grant_ref_t ref, uint64_t entry)
{
	atomic_store(&r->grants[ref], entry);
}

/* ---- the store ---- */

static uint64_t soon(void)
{
	return clock_ns() + RAW_WAIT_MS * CLOCK_MS;
}

int raw_write(struct raw *r, const char *key, const char *value)
{
	char path[512];

	(void)snprintf(path, sizeof(path), "%s%s%s", key[0] == '/' ? "" : r->front,
		key[0] == '/' ? "" : "/", key);
	return store_client_write(r->store, 0, path, value, strlen(value), soon());
}

bool raw_await_state(struct raw *r, unsigned states, unsigned ms)
{
	uint64_t end = raw_ms() + ms;
	char path[96];
	char value[16];

	(void)snprintf(path, sizeof(path), "%s/state", r->back);
	do {
		int n = store_client_read(r->store, 0, path, value, sizeof(value), soon());

		if (n > 0 && (states & 1u << atoi(value)))
			return true;
		if (n == -ENOTCONN)
			return false;
		raw_sleep_ms(2);
	} while (raw_ms() < end);
	return false;
}

/* ---- the steps ---- */

static void step_hello(struct raw *r)
{
	struct wire_reply reply;
	int fd;
	int err = raw_call(r, WIRE_HELLO, WIRE_VERSION, 0, 0, &reply, &fd);

	if (err)
		raw_die("HELLO: %s: %s", strerror(-err), reply.why);
	r->domid = (domid_t)reply.arg[0];
	r->handle = (uint32_t)reply.arg[1];
	r->ngrants = (uint32_t)(reply.arg[2] / sizeof(uint64_t));
	r->grants = mmap(NULL, reply.arg[2], PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (r->grants == MAP_FAILED)
		raw_die("grant table: %s", strerror(errno));
	(void)close(fd);
	(void)snprintf(
		r->front, sizeof(r->front), "/local/domain/%u/device/vif/%u", r->domid, r->handle);
	(void)snprintf(
		r->back, sizeof(r->back), "/local/domain/0/backend/vif/%u/%u", r->domid, r->handle);
}

static void step_region(struct raw *r)
{
	const struct wire_request request = {
		.op = WIRE_REGION_ADD, .id = ++r->last_id, .arg = {RAW_PAGES * SHUNT_PAGE_SIZE, 0}};
	struct wire_reply reply;
	int err;

	r->region = raw_memfd(RAW_PAGES * SHUNT_PAGE_SIZE, F_SEAL_SHRINK | F_SEAL_GROW);
	r->pages = mmap(NULL, RAW_PAGES * SHUNT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		r->region, 0);
	if (r->pages == MAP_FAILED)
		raw_die("region: %s", strerror(errno));
	err = raw_call_fds(r, &request, NULL, 0, &r->region, 1, &reply, NULL);
	if (err)
		raw_die("REGION_ADD: %s: %s", strerror(-err), reply.why);
	r->frame = (uint32_t)reply.arg[0];
	r->tx = (struct ring_header *)(void *)r->pages;
	r->rx = (struct ring_header *)(void *)(r->pages + SHUNT_PAGE_SIZE);
	atomic_store(&r->tx->req_event, 1);
	atomic_store(&r->tx->rsp_event, 1);
	atomic_store(&r->rx->req_event, 1);
	atomic_store(&r->rx->rsp_event, 1);
}

static void step_evtchn(struct raw *r)
{
	struct wire_reply reply;
	int err = raw_call(r, WIRE_EVTCHN_ALLOC, 0, 0, 0, &reply, &r->event);

	if (err)
		raw_die("EVTCHN_ALLOC: %s: %s", strerror(-err), reply.why);
	r->port = (evtchn_port_t)reply.arg[0];
}

static void step_store(struct raw *r)
{
	int err = raw_call(r, WIRE_STORE, 0, 0, 0, NULL, &r->store_fd);

	if (err)
		raw_die("STORE: %s", strerror(-err));
	r->store = store_client_new(r->store_fd, 1024);
	if (!r->store)
		raw_die("no memory");
}

static void step_keys(struct raw *r, const struct raw_key *changed)
{
	char tx[16];
	char rx[16];
	char event[16];
	struct raw_key keys[] = {{"tx-ring-ref", tx}, {"rx-ring-ref", rx}, {"event-channel", event},
		{"request-rx-copy", "1"}, {"feature-rx-notify", "1"}, {"feature-sg", "1"}};

	(void)snprintf(tx, sizeof(tx), "%u", RAW_REF + RAW_PAGE_TX_RING);
	(void)snprintf(rx, sizeof(rx), "%u", RAW_REF + RAW_PAGE_RX_RING);
	(void)snprintf(event, sizeof(event), "%u", r->port);
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		for (const struct raw_key *k = changed; k && k->key; k++) {
			if (!strcmp(k->key, keys[i].key))
				keys[i].value = k->value;
		}
		if (keys[i].value && raw_write(r, keys[i].key, keys[i].value))
			raw_die("cannot write %s", keys[i].key);
	}
	for (const struct raw_key *k = changed; k && k->key; k++) {
		bool known = false;

		for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
			known |= !strcmp(k->key, keys[i].key);
		if (!known && k->value && raw_write(r, k->key, k->value))
			raw_die("cannot write %s", k->key);
	}
}

void raw_open(struct raw *r, enum raw_step step, const struct raw_key *keys)
{
	const char *path = r->path;
	uint8_t mac[6];
	uint8_t peer[6];

	memcpy(mac, r->mac, 6);
	memcpy(peer, r->peer, 6);
	*r = (struct raw){.path = path, .socket = -1, .region = -1, .event = -1, .store_fd = -1};
	memcpy(r->mac, mac, 6);
	memcpy(r->peer, peer, 6);
	if (step >= RAW_CONNECTED) {
		r->socket = raw_connect(path);
		if (r->socket < 0)
			raw_die("%s: %s", path, strerror(-r->socket));
	}
	if (step >= RAW_HELLO)
		step_hello(r);
	if (step >= RAW_REGION)
		step_region(r);
	for (unsigned i = 0; step >= RAW_GRANTED && i < RAW_PAGES; i++)
		raw_grant(r, RAW_REF + i, raw_entry(r->frame + i, GTF_permit_access, 0));
	if (step >= RAW_EVTCHN)
		step_evtchn(r);
	if (step >= RAW_STORE)
		step_store(r);
	if (step >= RAW_KEYS)
		step_keys(r, keys);
	if (step >= RAW_STATE && raw_write(r, "state", "4"))
		raw_die("cannot write state");
	if (step >= RAW_UP && !raw_await_state(r, 1u << XenbusStateConnected, RAW_WAIT_MS))
		raw_die("the back end did not connect");
}

void raw_drop(struct raw *r)
{
	if (r->store)
		store_client_free(r->store);
	if (r->event >= 0)
		(void)close(r->event);
	if (r->region >= 0)
		(void)close(r->region);
	if (r->pages)
		(void)munmap(r->pages, RAW_PAGES * SHUNT_PAGE_SIZE);
	if (r->grants)
		(void)munmap((void *)r->grants, r->ngrants * sizeof(uint64_t));
	if (r->socket >= 0)
		(void)close(r->socket);
	r->socket = r->event = r->region = -1;
	r->store = NULL;
	r->pages = NULL;
	r->grants = NULL;
}

/* ---- rings ---- */

void raw_ring(struct raw *r)
{
	wire_event_send(r->event);
}

void raw_slot(
	struct raw *r, grant_ref_t ref, unsigned offset, unsigned flags, unsigned id, unsigned size)
{
	netif_tx_slot(r->tx, r->tx_prod++)->req = (struct netif_tx_request){.gref = ref,
		.offset = (uint16_t)offset,
		.flags = (uint16_t)flags,
		.id = (uint16_t)id,
		.size = (uint16_t)size};
}

void raw_extra(struct raw *r, unsigned type, unsigned flags, const void *bytes6)
{
	uint8_t extra[12] = {(uint8_t)type, (uint8_t)flags};

	memcpy(extra + 2, bytes6, 6);
	memcpy(netif_tx_slot(r->tx, r->tx_prod++), extra, sizeof(extra));
}

void raw_push(struct raw *r)
{
	atomic_store(&r->tx->req_prod, r->tx_prod);
	raw_ring(r);
}

void raw_post(struct raw *r, unsigned n, grant_ref_t ref)
{
	for (unsigned i = 0; i < n; i++, r->rx_prod++)
		netif_rx_slot(r->rx, r->rx_prod)->req = (struct netif_rx_request){
			.id = (uint16_t)(r->rx_prod % NETIF_RX_RING),
			.gref = ref ? ref : RAW_REF + RAW_PAGE_RX + r->rx_prod % RAW_RX_PAGES,
		};
	atomic_store(&r->rx->req_prod, r->rx_prod);
	raw_ring(r);
}

void raw_frame(const struct raw *r, uint8_t *at, unsigned len, uint32_t sequence)
{
	memcpy(at, r->peer, 6);
	memcpy(at + 6, r->mac, 6);
	at[12] = RAW_ETHERTYPE >> 8;
	at[13] = RAW_ETHERTYPE & 0xff;
	at[14] = (uint8_t)(len >> 8);
	at[15] = (uint8_t)len;
	memcpy(at + 16, &sequence, 4);
	for (unsigned i = 20; i < len; i++)
		at[i] = (uint8_t)(i * 7 + sequence);
}

unsigned raw_collect(struct raw *r, unsigned n, unsigned ms)
{
	uint64_t end = raw_ms() + ms;
	unsigned got = 0;

	while (got < n && raw_ms() < end) {
		unsigned more = atomic_load(&r->tx->rsp_prod) - r->tx_cons;

		if (!more) {
			raw_sleep_ms(1);
			continue;
		}
		more = MIN(more, n - got);
		got += more;
		r->tx_cons += more;
	}
	return got;
}

void raw_await(struct raw *r, unsigned n, int status)
{
	for (unsigned i = 0; i < n; i++) {
		int16_t is;

		if (raw_collect(r, 1, RAW_WAIT_MS) != 1)
			raw_die("response %u of %u did not come", i + 1, n);
		is = netif_tx_slot(r->tx, r->tx_cons - 1)->rsp.status;
		if (status != RAW_ANY && is != status && is != NETIF_RSP_NULL)
			raw_die("response %u of %u has status %d, not %d", i + 1, n, is, status);
	}
}

int raw_send(struct raw *r, unsigned len, uint32_t sequence)
{
	raw_frame(r, raw_tx_page(r, r->tx_prod), len, sequence);
	raw_slot(r, raw_tx_ref(r->tx_prod), 0, 0, r->tx_prod & 0xff, len);
	raw_push(r);
	raw_await(r, 1, RAW_ANY);
	return netif_tx_slot(r->tx, r->tx_cons - 1)->rsp.status;
}
