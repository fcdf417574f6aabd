/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Everything here is bounded: each wait has a limit, each child dies with this process (PR_SET_PDEATHSIG).
 *
 * The bystanders keep at most WINDOW frames under way in each direction, so that a frame is never lost for want of a
 * place while they are not scheduled: a hole in the numbers is the host's doing.
 */
#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/pool.h>

#include "base/clock.h"

enum {
	EVIL,
	PEER,
	LEFT,
	RIGHT,
	VIFS,
	LINK_MS = 5000,
	START_MS = 20000, /* with sanitizers on a busy machine */
	SETTLE_MS = 5000,
	ATTACK_MS = 40000,
	FRESH_FRAMES = 40,
	FRESH = 1 << 30, /* their numbers, which no attacker uses, begin here */
	BURST = 20,      /* each way and millisecond: 20,000 frames a second */
	WINDOW = 128,
	STALL_MS = 1000, /* the bystanders' longest silence */
	STALL_SANITIZED_MS = 4000,
};

static const char *const vif_names[VIFS] = {"evil", "peer", "left", "right"};

struct bystander_counts {
	_Atomic bool ready;
	_Atomic bool stop;
	_Atomic bool done;
	_Atomic uint64_t sent;
	_Atomic uint64_t received;
	_Atomic uint64_t holes;  /* numbers passed over, repeated or gone back to */
	_Atomic uint64_t silent; /* ms, the longest */
};

void hostile_fail(struct world *w, const char *format, ...)
{
	va_list ap;

	w->failures++;
	(void)fprintf(stderr, "FAIL %s/%s: ", w->group->name, w->doing);
	va_start(ap, format);
	(void)vfprintf(stderr, format, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
}

/* ---- asking shuntd ---- */

static int control_connect(const struct world *w)
{
	const struct timeval limit = {.tv_sec = 10};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/run/control.sock", w->dir);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&sun, sizeof(sun)) &&
		!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		return fd;
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

json_t *world_ask(struct world *w, const char *verb, const char *name)
{
	static char text[1 << 20];
	json_t *answer;
	json_t *result;
	size_t len = 0;
	int fd = control_connect(w);
	int n;

	if (fd < 0)
		return NULL;
	n = name ? snprintf(text, sizeof(text),
			   "{\"verb\": \"%s\", \"args\": {\"name\": \"%s\"}}\n", verb, name)
		 : snprintf(text, sizeof(text), "{\"verb\": \"%s\"}\n", verb);
	if (send(fd, text, (size_t)n, MSG_NOSIGNAL) == n) {
		while (len < sizeof(text) && (len == 0 || text[len - 1] != '\n')) {
			ssize_t more = recv(fd, text + len, sizeof(text) - len, 0);

			if (more <= 0)
				break;
			len += (size_t)more;
		}
	}
	(void)close(fd);
	answer = json_loadb(text, len, 0, NULL);
	result = json_incref(json_object_get(answer, "result"));
	json_decref(answer);
	return result;
}

static uint64_t number(const json_t *object, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(object, name));
}

uint64_t world_drop(struct world *w, const char *name)
{
	json_t *vif = world_ask(w, "vif.show", "evil");
	const json_t *counters = json_object_get(vif, "counters");
	uint64_t n = number(counters, name) + number(json_object_get(counters, "drops"), name);

	json_decref(vif);
	return n;
}

uint64_t world_refusal(struct world *w, const char *name)
{
	json_t *stats = world_ask(w, "stats", NULL);
	uint64_t n = number(json_object_get(stats, "refusals"), name);

	json_decref(stats);
	return n;
}

/* evil's state and reason, copied; false: no answer. */
static bool evil_state(struct world *w, char state[32], char reason[160])
{
	json_t *vif = world_ask(w, "vif.show", "evil");
	const char *s = json_string_value(json_object_get(vif, "state"));
	const char *why = json_string_value(json_object_get(vif, "reason"));

	(void)snprintf(state, 32, "%s", s ? s : "");
	(void)snprintf(reason, 160, "%s", why ? why : "");
	json_decref(vif);
	return s != NULL;
}

/* ---- what /proc says ---- */

double world_cpu(const struct world *w)
{
	unsigned long user = 0;
	unsigned long kernel = 0;
	char path[64];
	char text[1024];
	char *at;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", w->shuntd);
	f = fopen(path, "re");
	if (!f)
		return 0;
	at = fgets(text, sizeof(text), f);
	(void)fclose(f);
	at = at ? strrchr(text, ')') : NULL;
	if (!at || sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
			   &kernel) != 2)
		return 0;
	return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

uint64_t world_rss(const struct world *w)
{
	unsigned long size = 0;
	unsigned long resident = 0;
	unsigned long shared = 0;
	char path[64];
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/statm", w->shuntd);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%lu %lu %lu", &size, &resident, &shared) != 3)
		resident = shared = 0;
	(void)fclose(f);
	return (uint64_t)(resident - shared) * SHUNT_PAGE_SIZE;
}

static unsigned count_fds(const struct world *w)
{
	char path[64];
	unsigned n = 0;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", w->shuntd);
	dir = opendir(path);
	while (dir && readdir(dir))
		n++;
	if (dir)
		(void)closedir(dir);
	return n;
}

/* Mappings of memory that can be shared. */
static unsigned count_maps(const struct world *w)
{
	char line[512];
	unsigned n = 0;
	FILE *f;

	(void)snprintf(line, sizeof(line), "/proc/%d/maps", w->shuntd);
	f = fopen(line, "re");
	while (f && fgets(line, sizeof(line), f))
		n += strstr(line, "/memfd:") != NULL;
	if (f)
		(void)fclose(f);
	return n;
}

/* Nodes in the store that are there for a guest: domains, and the host's directories for their vifs. */
static unsigned count_nodes(const struct world *w)
{
	static const char *const paths[] = {"/local/domain", "/local/domain/0/backend/vif"};
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct store_client *store;
	unsigned nodes = 0;

	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/run/store.sock", w->dir);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sun, sizeof(sun)))
		return 0;
	store = store_client_new(fd, 1);
	for (unsigned i = 0; store && i < ARRAY_SIZE(paths); i++) {
		char *names;
		size_t len;
		int n = store_client_directory(
			store, 0, paths[i], &names, &len, clock_ns() + RAW_WAIT_MS * CLOCK_MS);

		if (n < 0)
			continue;
		nodes += (unsigned)n;
		free(names);
	}
	store_client_free(store);
	return nodes;
}

/* ---- processes ---- */

/* A child that dies with us and has none of our fds but `keep` (-1: none). Returns 0 in the child. */
static pid_t fork_child(int keep, int keep2)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(RAW_BROKEN);
	for (int fd = 3; fd < 1024; fd++) {
		if (fd != keep && fd != keep2)
			(void)close(fd);
	}
	return 0;
}

/* The host's CPUs are not what is tested: an attacker that computes must not keep a process from running that is paced,
 * or the two that it tries to harm from each other. */
static void go_first(void)
{
	(void)setpriority(PRIO_PROCESS, 0, -15);
}

static bool start_shuntd(struct world *w, const char *program)
{
	char path[128];
	char sandbox[8];
	FILE *f;

	(void)snprintf(
		sandbox, sizeof(sandbox), "%s", getenv("SANDBOX") ? getenv("SANDBOX") : "kill");
	w->sanitized = !strcmp(sandbox, "no");
	(void)snprintf(path, sizeof(path), "%s/conf", w->dir);
	f = fopen(path, "we");
	if (!f)
		return false;
	(void)fprintf(f, "[shuntd]\nrun = %s/run\nworkers = %u\nsandbox = %s\n", w->dir,
		w->group->workers, sandbox);
	for (unsigned i = 0; i < VIFS; i++) {
		const uint8_t mac[6] = {2, 0xaa, 0, 0, 0, (uint8_t)(i + 1)};

		memcpy(w->macs[i], mac, 6);
		(void)fprintf(f,
			"[vif %s]\nmac = 02:aa:00:00:00:%02x\nowner = %u\nmemory = 32M\nqueues = %u\n%s",
			vif_names[i], i + 1, (unsigned)getuid(),
			i == EVIL && w->group->queues ? w->group->queues : 1,
			i == EVIL ? "flood = 1000\n" : "");
	}
	if (fclose(f))
		return false;
	w->shuntd = fork_child(-1, -1);
	if (w->shuntd == 0) {
		char log[128];
		int fd;

		go_first();
		(void)snprintf(log, sizeof(log), "%s/log", w->dir);
		fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
			_exit(RAW_BROKEN);
		(void)execl(program, program, "-c", path, (char *)NULL);
		_exit(RAW_BROKEN);
	}
	(void)snprintf(w->socket, sizeof(w->socket), "%s/run/evil.sock", w->dir);
	for (unsigned i = 0; i < START_MS / 10; i++) {
		json_t *vifs = world_ask(w, "vif.list", NULL);
		bool all = json_array_size(vifs) == VIFS;

		json_decref(vifs);
		if (all)
			return true;
		raw_sleep_ms(10);
	}
	return false;
}

static void show_log(const struct world *w)
{
	char line[256];
	FILE *f;

	(void)snprintf(line, sizeof(line), "%s/log", w->dir);
	f = fopen(line, "re");
	if (!f)
		return;
	if (!fseek(f, -6000, SEEK_END))
		(void)fgets(line, sizeof(line), f);
	else
		rewind(f);
	while (fgets(line, sizeof(line), f))
		(void)fprintf(stderr, "  | %s", line);
	(void)fclose(f);
}

/* ---- library guests ---- */

static struct shunt_port *guest_open(
	struct shunt_context *context, const struct world *w, unsigned vif, bool plain)
{
	const struct shunt_open_options options = {
		.size = sizeof(options), .wait_ms = LINK_MS, .no_offload = plain};
	struct shunt_port *port;
	char name[128];

	(void)snprintf(name, sizeof(name), "vif:%s/run/%s.sock", w->dir, vif_names[vif]);
	if (!shunt_open(context, name, &options, &port))
		return port;
	(void)fprintf(stderr, "  %s: %s\n", name, shunt_context_error(context));
	return NULL;
}

/* n frames, each written by raw_frame and numbered from `first`. Returns how many were taken. */
static unsigned guest_send(struct shunt_port *port, const uint8_t *from, const uint8_t *to,
	unsigned n, unsigned len, uint32_t first)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	struct shunt_pool *pool = shunt_vif_pool(port, 0);
	struct raw as = {0};
	unsigned sent;

	memcpy(as.mac, from, 6);
	memcpy(as.peer, to, 6);
	n = pool ? shunt_pool_take(pool, packets, MIN(n, (unsigned)SHUNT_BATCH)) : 0;
	for (unsigned i = 0; i < n; i++) {
		raw_frame(&as, packets[i]->data, len, first + i);
		packets[i]->len = packets[i]->head_len = len;
	}
	sent = shunt_port_tx(port, 0, packets, n);
	shunt_packets_release(packets + sent, n - sent);
	return sent;
}

/* Is it what raw_frame writes? */
static bool frame_whole(const struct shunt_packet *packet, uint32_t *sequence)
{
	static uint8_t bytes[1 << 17];
	uint32_t len = packet->len;
	uint32_t wrong = 0;

	if (len < 20 || len > sizeof(bytes) ||
		shunt_packet_copy_out(packet, 0, bytes, len) != len ||
		(uint16_t)len != (bytes[14] << 8 | bytes[15]))
		return false;
	memcpy(sequence, bytes + 16, 4);
	for (uint32_t i = 20; i < len; i++)
		wrong |= bytes[i] ^ (uint8_t)(i * 7 + *sequence);
	return wrong == 0;
}

/* ---- bystanders ---- */

struct bystander {
	struct shunt_port *port;
	unsigned vif;
	uint32_t next;     /* to be sent */
	uint32_t expected; /* to be received */
};

static unsigned bystander_receive(struct world *w, struct bystander *b, const uint8_t *from)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned n = shunt_port_rx(b->port, 0, packets, SHUNT_BATCH);
	unsigned good = 0;

	for (unsigned i = 0; i < n; i++) {
		uint32_t sequence;
		uint8_t source[6];

		/* Others' broadcasts are not counted. */
		if (shunt_packet_copy_out(packets[i], 6, source, 6) != 6 ||
			memcmp(source, from, 6) != 0)
			continue;
		if (!frame_whole(packets[i], &sequence) || sequence != b->expected) {
			atomic_fetch_add(&w->seen->holes, 1);
			continue;
		}
		b->expected++;
		good++;
	}
	shunt_packets_release(packets, n);
	atomic_fetch_add(&w->seen->received, good);
	return good;
}

static void bystanders_turn(struct world *w, struct bystander *b, bool send)
{
	for (unsigned i = 0; i < 2; i++) {
		unsigned flying = b[i].next - b[1 - i].expected;
		unsigned n = send && flying < WINDOW ? MIN((unsigned)BURST, WINDOW - flying) : 0;

		n = n ? guest_send(b[i].port, w->macs[b[i].vif], w->macs[b[1 - i].vif], n,
				64 + b[i].next % 1000, b[i].next)
		      : 0;
		b[i].next += n;
		atomic_fetch_add(&w->seen->sent, n);
	}
}

static void bystanders_main(struct world *w)
{
	struct bystander b[2] = {{.vif = LEFT}, {.vif = RIGHT}};
	struct shunt_context *context;
	uint64_t last;
	uint64_t drain = 0;

	if (shunt_context_new(&context))
		_exit(RAW_BROKEN);
	for (unsigned i = 0; i < 2; i++) {
		b[i].port = guest_open(context, w, b[i].vif, false);
		if (!b[i].port)
			_exit(RAW_BROKEN);
	}
	last = raw_ms();
	atomic_store(&w->seen->ready, true);
	for (;;) {
		uint64_t before = raw_ms();
		unsigned got = 0;

		shunt_context_process(context);
		for (unsigned i = 0; i < 2; i++)
			got += bystander_receive(w, &b[i], w->macs[b[1 - i].vif]);
		if (got) {
			if (before - last > atomic_load(&w->seen->silent))
				atomic_store(&w->seen->silent, before - last);
			last = before;
		}
		if (!atomic_load(&w->seen->stop)) {
			bystanders_turn(w, b, true);
		} else {
			bystanders_turn(w, b, false); /* passes completions on */
			drain = drain ? drain : before;
			if ((b[0].next == b[1].expected && b[1].next == b[0].expected) ||
				before - drain > SETTLE_MS)
				break;
		}
		raw_sleep_ms(1);
	}
	atomic_store(&w->seen->done, true);
	shunt_port_close(b[0].port);
	shunt_port_close(b[1].port);
	shunt_context_free(context);
	_exit(0);
}

static bool start_bystanders(struct world *w)
{
	w->seen = mmap(
		NULL, sizeof(*w->seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (w->seen == MAP_FAILED)
		return false;
	w->bystanders = fork_child(-1, -1);
	if (w->bystanders == 0) {
		go_first();
		bystanders_main(w);
	}
	for (unsigned i = 0; i < START_MS / 10; i++) {
		if (atomic_load(&w->seen->ready) && atomic_load(&w->seen->received) > 10 * BURST)
			return true;
		raw_sleep_ms(10);
	}
	return false;
}

static void check_bystanders(struct world *w)
{
	uint64_t before = atomic_load(&w->seen->received);

	if (atomic_load(&w->seen->holes))
		hostile_fail(w, "bystanders: %lu holes in the sequence numbers",
			(unsigned long)atomic_load(&w->seen->holes));
	for (unsigned i = 0; i < SETTLE_MS / 2 && atomic_load(&w->seen->received) == before; i++)
		world_pump(w, 2);
	if (atomic_load(&w->seen->received) == before)
		hostile_fail(w, "bystanders: no frame arrives");
	if (atomic_load(&w->seen->silent) > (w->sanitized ? STALL_SANITIZED_MS : STALL_MS))
		hostile_fail(w, "bystanders: nothing arrived for %lu ms",
			(unsigned long)atomic_load(&w->seen->silent));
	atomic_store(&w->seen->silent, 0);
}

static void stop_bystanders(struct world *w)
{
	int status = -1;

	atomic_store(&w->seen->stop, true);
	for (unsigned i = 0;
		i < 2 * SETTLE_MS / 10 && waitpid(w->bystanders, &status, WNOHANG) == 0; i++)
		raw_sleep_ms(10);
	if (status)
		hostile_fail(w, "bystanders did not end in order: status %x", (unsigned)status);
	if (atomic_load(&w->seen->sent) != atomic_load(&w->seen->received))
		hostile_fail(w, "bystanders: %lu sent, %lu received",
			(unsigned long)atomic_load(&w->seen->sent),
			(unsigned long)atomic_load(&w->seen->received));
}

/* ---- the peer ---- */

static void peer_look(struct world *w, const struct shunt_packet *packet)
{
	struct peer_counts *c = &w->counts;
	uint8_t head[14] = {0};
	uint32_t sequence;

	(void)shunt_packet_copy_out(packet, 0, head, sizeof(head));
	if (memcmp(head + 6, w->macs[EVIL], 6) != 0)
		c->spoof++;
	if (w->group->plain_peer && ((packet->flags & SHUNT_PKT_CSUM_PARTIAL) || packet->gso_type))
		c->unfinished++;
	if (head[12] != RAW_ETHERTYPE >> 8 || head[13] != (RAW_ETHERTYPE & 0xff))
		c->other++;
	else if (frame_whole(packet, &sequence))
		*(sequence < FRESH ? &c->good : &c->fresh) += 1;
	else
		c->bad++;
}

static unsigned peer_turn(struct world *w)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned n = shunt_port_rx(w->peer, 0, packets, SHUNT_BATCH);
	uint64_t now = raw_ms();

	for (unsigned i = 0; i < n; i++)
		peer_look(w, packets[i]);
	shunt_packets_release(packets, n);
	if (w->flood && now != w->flooded)
		(void)guest_send(
			w->peer, w->macs[PEER], w->macs[EVIL], w->flood, 200, (uint32_t)now);
	else
		(void)shunt_port_tx(w->peer, 0, packets, 0);
	w->flooded = now;
	shunt_context_process(w->context);
	return n;
}

void world_pump(struct world *w, unsigned ms)
{
	uint64_t end = raw_ms() + ms;

	do {
		if (!peer_turn(w))
			raw_sleep_ms(1);
	} while (raw_ms() < end);
}

/* ---- one case ---- */

struct attacker {
	pid_t pid;
	int done; /* readable: the attack has been made; end of file: the attacker is dead */
};

static struct attacker start_attacker(struct world *w, const struct hostile_case *c)
{
	struct raw raw = {.path = w->socket};
	struct attacker a = {.pid = -1, .done = -1};
	int fds[2];

	memcpy(raw.mac, w->macs[EVIL], 6);
	memcpy(raw.peer, w->macs[PEER], 6);
	if (pipe2(fds, O_CLOEXEC))
		return a;
	a.pid = fork_child(fds[1], -1);
	if (a.pid == 0) {
		(void)signal(SIGPIPE, SIG_IGN);
		raw_open(&raw, c->start, c->keys);
		c->attack(&raw, c->arg);
		if (write(fds[1], "", 1) != 1)
			_exit(RAW_BROKEN);
		for (;;)
			(void)pause();
	}
	(void)close(fds[1]);
	a.done = fds[0];
	return a;
}

/* Until it has made its attack. */
static bool await_attacker(struct world *w, const struct hostile_case *c, const struct attacker *a)
{
	uint64_t end = raw_ms() + ATTACK_MS;
	struct pollfd pfd = {.fd = a->done, .events = POLLIN};

	while (poll(&pfd, 1, 0) == 0 && raw_ms() < end) {
		world_pump(w, 2);
		if (c->meanwhile)
			c->meanwhile(w, c->arg);
	}
	if (pfd.revents & POLLIN)
		return true;
	hostile_fail(w, pfd.revents ? "the attacker died" : "the attack did not come to its end");
	return false;
}

static void end_attacker(struct attacker *a)
{
	(void)kill(a->pid, SIGKILL);
	(void)waitpid(a->pid, NULL, 0);
	(void)close(a->done);
}

/* Retry a check for a while with the peer at work. */
#define EVENTUALLY(w, condition)                                                                   \
	({                                                                                         \
		uint64_t end_ = raw_ms() + SETTLE_MS;                                              \
		bool is_;                                                                          \
                                                                                                   \
		while (!(is_ = (condition)) && raw_ms() < end_)                                    \
			world_pump(w, 2);                                                          \
		is_;                                                                               \
	})

static void check_verdict(
	struct world *w, const struct hostile_case *c, uint64_t drops, uint64_t refusals)
{
	char state[32] = "";
	char reason[160] = "";

	if (c->reason &&
		!EVENTUALLY(w, evil_state(w, state, reason) && !strcmp(state, "quarantined")))
		hostile_fail(w, "not quarantined but %s (%s)", state, reason);
	else if (c->reason && !strstr(reason, c->reason))
		hostile_fail(w, "quarantined for '%s', not '%s'", reason, c->reason);
	if (c->drop && !EVENTUALLY(w, world_drop(w, c->drop) > drops))
		hostile_fail(w, "no drop was counted as %s", c->drop);
	if (c->refusal && !EVENTUALLY(w, world_refusal(w, c->refusal) > refusals))
		hostile_fail(w, "no refusal was counted as %s", c->refusal);
	if (c->good >= 0 && !EVENTUALLY(w, w->counts.good >= (unsigned)c->good))
		hostile_fail(w, "%u whole frames arrived, not %d", w->counts.good, c->good);
	world_pump(w, 3);
	if (c->good >= 0 && w->counts.good != (unsigned)c->good)
		hostile_fail(w, "%u whole frames arrived, not %d", w->counts.good, c->good);
	if (w->counts.bad && !c->garbled)
		hostile_fail(w, "%u frames arrived changed", w->counts.bad);
	if (w->counts.spoof)
		hostile_fail(w, "%u frames arrived from a false source", w->counts.spoof);
	if (w->counts.unfinished)
		hostile_fail(w, "%u unfinished frames arrived", w->counts.unfinished);
	if (!c->reason && !c->may_quarantine) {
		if (!evil_state(w, state, reason))
			hostile_fail(w, "shuntd does not answer");
		else if (!c->gone && (!strcmp(state, "quarantined") || !strcmp(state, "detached")))
			hostile_fail(w, "%s: %s", state, reason);
	}
}

/* The attacker is dead: nothing of it may be left. */
static void check_given_back(struct world *w)
{
	char state[32] = "";
	char reason[160];

	if (!EVENTUALLY(w, evil_state(w, state, reason) && !strcmp(state, "detached")))
		hostile_fail(w, "the vif is %s after its guest died", state);
	if (!EVENTUALLY(w, count_nodes(w) == w->base_nodes))
		hostile_fail(w, "the store has %u nodes for guests, before it had %u",
			count_nodes(w), w->base_nodes);
	if (!EVENTUALLY(w, count_fds(w) == w->base_fds))
		hostile_fail(w, "shuntd has %u fds, before it had %u", count_fds(w), w->base_fds);
	if (!EVENTUALLY(w, count_maps(w) == w->base_maps))
		hostile_fail(
			w, "shuntd has %u mappings, before it had %u", count_maps(w), w->base_maps);
}

static unsigned receive_some(struct shunt_port *port)
{
	struct shunt_packet *packets[SHUNT_BATCH];
	unsigned n = shunt_port_rx(port, 0, packets, SHUNT_BATCH);

	shunt_packets_release(packets, n);
	return n;
}

/* An honest guest where the attacker was: frames go both ways. */
static void check_fresh(struct world *w)
{
	struct shunt_port *port = guest_open(w->context, w, EVIL, false);
	uint64_t end = raw_ms() + SETTLE_MS;
	unsigned got = 0;

	if (!port) {
		hostile_fail(w, "an honest guest cannot attach");
		return;
	}
	memset(&w->counts, 0, sizeof(w->counts));
	if (guest_send(port, w->macs[EVIL], w->macs[PEER], FRESH_FRAMES, 100, FRESH) !=
			FRESH_FRAMES ||
		guest_send(w->peer, w->macs[PEER], w->macs[EVIL], FRESH_FRAMES, 100, FRESH) !=
			FRESH_FRAMES)
		hostile_fail(w, "an honest guest's frames were not taken");
	while ((got < FRESH_FRAMES || w->counts.fresh < FRESH_FRAMES) && raw_ms() < end) {
		world_pump(w, 1);
		got += receive_some(port);
	}
	if (got != FRESH_FRAMES || w->counts.fresh != FRESH_FRAMES)
		hostile_fail(w, "an honest guest sent %u and received %u of %u", w->counts.fresh,
			got, (unsigned)FRESH_FRAMES);
	shunt_port_close(port);
}

static void remove_dir(const struct world *w)
{
	static const char *const names[] = {"conf", "log", "run"};
	char path[128];

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", w->dir, names[i]);
		(void)remove(path);
	}
	(void)rmdir(w->dir);
}

static void check_shuntd(struct world *w)
{
	if (waitpid(w->shuntd, NULL, WNOHANG) == 0)
		return;
	hostile_fail(w, "shuntd is gone");
	show_log(w);
	remove_dir(w);
	exit(1);
}

static void run_case(struct world *w, const struct hostile_case *c)
{
	unsigned failures = w->failures;
	uint64_t began = raw_ms();
	struct attacker attacker;
	uint64_t drops;
	uint64_t refusals;

	w->doing = c->name;
	memset(&w->counts, 0, sizeof(w->counts));
	drops = c->drop ? world_drop(w, c->drop) : 0;
	refusals = c->refusal ? world_refusal(w, c->refusal) : 0;
	w->flood = c->flood;
	attacker = start_attacker(w, c);
	if (await_attacker(w, c, &attacker)) {
		check_verdict(w, c, drops, refusals);
		if (c->judge)
			c->judge(w, c->arg);
	}
	w->flood = 0;
	end_attacker(&attacker);
	check_shuntd(w);
	check_given_back(w);
	check_fresh(w);
	check_given_back(w);
	check_bystanders(w);
	check_shuntd(w);
	(void)printf("%s %s/%s %u ms\n", w->failures == failures ? "ok  " : "FAIL", w->group->name,
		c->name, (unsigned)(raw_ms() - began));
	(void)fflush(stdout);
}

/* ---- a group ---- */

static bool balanced(struct world *w)
{
	json_t *stats = world_ask(w, "stats", NULL);
	bool is = json_is_true(json_object_get(json_object_get(stats, "totals"), "balanced"));

	json_decref(stats);
	return is;
}

static void stop_shuntd(struct world *w)
{
	int status = -1;

	(void)kill(w->shuntd, SIGTERM);
	for (unsigned i = 0; i < START_MS / 10 && waitpid(w->shuntd, &status, WNOHANG) == 0; i++)
		raw_sleep_ms(10);
	if (status == 0)
		return;
	hostile_fail(w, "shuntd ended with status %x", (unsigned)status);
	(void)kill(w->shuntd, SIGKILL);
}

static bool world_open(struct world *w, const char *shuntd)
{
	double cpu;

	(void)snprintf(w->dir, sizeof(w->dir), "/tmp/shunt-hostile-XXXXXX");
	if (!mkdtemp(w->dir) || chmod(w->dir, 0755) || !start_shuntd(w, shuntd) ||
		!start_bystanders(w) || shunt_context_new(&w->context))
		return false;
	w->peer = guest_open(w->context, w, PEER, w->group->plain_peer);
	if (!w->peer)
		return false;
	check_fresh(w); /* what is made once and kept is made now */
	w->base_nodes = count_nodes(w);
	cpu = world_cpu(w);
	world_pump(w, 200);
	w->quiet_cpu = (world_cpu(w) - cpu) * 5;
	w->base_fds = count_fds(w);
	w->base_maps = count_maps(w);
	return true;
}

unsigned hostile_run(const struct hostile_group *group, const char *shuntd, const char *only)
{
	struct world w = {.group = group, .doing = "beginning"};

	if (!world_open(&w, shuntd)) {
		hostile_fail(&w, "cannot begin: %s", strerror(errno));
		show_log(&w);
		return w.failures;
	}
	for (unsigned i = 0; i < group->n; i++) {
		if (!only || !strcmp(only, group->cases[i].name))
			run_case(&w, &group->cases[i]);
	}
	w.doing = "end";
	stop_bystanders(&w);
	if (!EVENTUALLY(&w, balanced(&w)))
		hostile_fail(&w, "received + replicated is not delivered + dropped");
	shunt_port_close(w.peer);
	shunt_context_free(w.context);
	check_shuntd(&w);
	stop_shuntd(&w);
	if (w.failures)
		show_log(&w);
	remove_dir(&w);
	return w.failures;
}
