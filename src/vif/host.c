/* SPDX-License-Identifier: BSD-3-Clause */
#include "vif/host.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

enum {
	STOP_TRIES = 2000, /* ms until a queue whose packets do not come home is given up on */
	MEMORY_DEFAULT = 64 << 20,
};

const char *const vif_state_names[] = {
	"detached", "connecting", "connected", "stalled", "quarantined"};
static_assert(ARRAY_SIZE(vif_state_names) == VIF_STATES, "a state lacks its name");

struct vif {
	struct vif *next;
	struct host *host;
	struct vif_config config;
	uint32_t serial; /* of this vif and connection: messages from workers name it */
	int listen_fd;
	int port_id;
	enum vif_state state;
	time_t since;
	char reason[128];
	domid_t domid;
	pid_t pid;
	struct netif_backend *backend;
	struct rate_bucket rate;
	struct worker_queue queues[NETIF_MAX_QUEUES];
	struct worker_route route;
	uint64_t attachments;
	uint64_t quarantines;
	struct shunt_port_stats past; /* of back ends that are gone */
};

struct host_port {
	struct host_port *next;
	struct host_port_config config;
	struct shunt_port *port;
	int port_id;
	struct rate_bucket rate;
	struct worker_queue queues[WORKER_PORT_QUEUES];
	struct worker_route route;
};

struct host {
	struct host_config config;
	struct netif_views *views; /* one stock for each worker */
	struct vif *vifs;
	struct host_port *ports;
	unsigned next_worker;
	uint32_t serial;
	struct shunt_port_stats past; /* of ports that were deleted */
};

static void stats_add(struct shunt_port_stats *to, const struct shunt_port_stats *from)
{
	to->rx_packets += from->rx_packets;
	to->rx_bytes += from->rx_bytes;
	to->tx_packets += from->tx_packets;
	to->tx_bytes += from->tx_bytes;
	for (unsigned i = 0; i < SHUNT_DROPS; i++)
		to->drops[i] += from->drops[i];
}

static void stats_keep(struct shunt_port_stats *past, struct shunt_port *port)
{
	struct shunt_port_stats stats;

	shunt_port_stats(port, &stats);
	stats_add(past, &stats);
}

/* What a change replaced can go: every worker has been between two batches. */
static void settle(struct host *host)
{
	uint64_t ticket = vswitch_ticket(host->config.sw);

	workers_synchronize(host->config.workers);
	vswitch_reclaim(host->config.sw, ticket);
}

static void vif_enter(struct vif *vif, enum vif_state state, const char *reason)
{
	if (vif->state != state)
		vif->since = time(NULL);
	if (state == VIF_QUARANTINED && vif->state != VIF_QUARANTINED)
		vif->quarantines++;
	vif->state = state;
	(void)snprintf(vif->reason, sizeof(vif->reason), "%s", reason);
}

/* ---- a vif's queues on the workers ---- */

struct start_call {
	struct vif *vif;
	unsigned queue;
};

static int start_on_worker(void *arg, struct worker *worker)
{
	const struct start_call *call = arg;
	struct vif *vif = call->vif;
	struct netif_back_queue *q = &vif->backend->back.queues[call->queue];
	int err = netif_back_queue_start(
		q, &vif->host->views[worker_index(worker)], worker_pool(worker));

	return err ? err : worker_add(worker, &vif->queues[call->queue]);
}

static int stop_on_worker(void *arg, struct worker *worker)
{
	const struct start_call *call = arg;

	worker_remove(worker, &call->vif->queues[call->queue]);
	return netif_back_queue_stop(&call->vif->backend->back.queues[call->queue]);
}

static void vif_switch_config(const struct vif *vif, struct vswitch_port_config *sw)
{
	const struct vif_config *c = &vif->config;

	memset(sw, 0, sizeof(*sw));
	sw->kind = VSWITCH_GUEST;
	sw->vlan_mode = c->vlan ? VSWITCH_VLAN_ACCESS : VSWITCH_VLAN_NONE;
	sw->vlan = c->vlan;
	sw->unknown = c->unknown_unicast ? VSWITCH_UNKNOWN_YES : VSWITCH_UNKNOWN_NO;
	sw->nmacs = 1 + c->nmacs;
	memcpy(sw->macs[0], c->mac, 6);
	memcpy(sw->macs[1], c->macs, sizeof(c->macs[0]) * c->nmacs);
	sw->nips = c->nips;
	memcpy(sw->ips, c->ips, sizeof(c->ips[0]) * c->nips);
	sw->flood_pps = c->flood_pps;
	sw->mtu = vif->backend ? vif->backend->back.port.info.mtu : c->mtu;
	sw->caps = vif->backend ? vif->backend->back.port.info.caps : 0;
}

static int op_start(void *arg, struct netif_backend *backend)
{
	struct vif *vif = arg;
	struct host *host = vif->host;
	struct vswitch_port_config sw;
	int err;

	vif->backend = backend;
	vif->route = (struct worker_route){
		.port = &backend->back.port, .nqueues = backend->back.nqueues};
	for (unsigned i = 0; i < backend->back.nqueues; i++) {
		struct worker_queue *wq = &vif->queues[i];
		struct start_call call = {vif, i};
		unsigned index = host->next_worker++ % workers_count(host->config.workers);

		memset(wq, 0, sizeof(*wq));
		wq->port = &backend->back.port;
		wq->queue = i;
		wq->port_id = (unsigned)vif->port_id;
		wq->rate = &vif->rate;
		vif->route.queues[i] = wq;
		vif->route.owner[i] = index;
		err = worker_call(host->config.workers, index, start_on_worker, &call);
		if (err)
			return err;
	}
	vif_switch_config(vif, &sw);
	err = vswitch_port_set(host->config.sw, (unsigned)vif->port_id, &sw);
	if (err)
		return err;
	(void)vswitch_mcast_filter(
		host->config.sw, (unsigned)vif->port_id, backend->multicast_control);
	workers_route(host->config.workers, (unsigned)vif->port_id, &vif->route);
	settle(host);
	return 0;
}

static void op_stop(void *arg, struct netif_backend *backend)
{
	struct vif *vif = arg;
	struct host *host = vif->host;

	vif->backend = backend;
	workers_route(host->config.workers, (unsigned)vif->port_id, NULL);
	settle(host);
	for (unsigned i = 0; i < vif->route.nqueues; i++) {
		struct start_call call = {vif, i};
		unsigned tries = 0;

		while (!worker_call(
			host->config.workers, vif->route.owner[i], stop_on_worker, &call)) {
			const struct timespec ms = {.tv_nsec = CLOCK_MS};

			if (++tries == STOP_TRIES) {
				log_error("%s: queue %u: packets under way do not come home",
					vif->config.name, i);
				break;
			}
			(void)nanosleep(&ms, NULL);
		}
	}
	vif->route.nqueues = 0;
	/* What its workers have reported and nobody has read yet is void: another guest's, or instance's, queues may be next. */
	vif->serial = ++host->serial;
}

static void op_changed(void *arg, struct netif_backend *backend)
{
	struct vif *vif = arg;

	/* Not when the queues stop: a vif that only moves keeps its groups. */
	if (backend->state != NETIF_CONNECTED)
		(void)vswitch_mcast_reset(vif->host->config.sw, (unsigned)vif->port_id);
	if (backend->broken[0])
		vif_enter(vif, VIF_QUARANTINED, backend->broken);
	else if (backend->state != NETIF_CONNECTED)
		vif_enter(vif, VIF_CONNECTING, netif_state_names[backend->state]);
	else if (backend->stalled)
		vif_enter(vif, VIF_STALLED, "posts no receive buffers");
	else
		vif_enter(vif, VIF_CONNECTED, "");
	if (backend->state == NETIF_CONNECTED)
		(void)vswitch_mcast_filter(
			vif->host->config.sw, (unsigned)vif->port_id, backend->multicast_control);
}

/* A queue's report, back on the control thread. The vif may have gone, or have another guest, in the meantime. */
static void on_message(void *arg, uint64_t serial, uint64_t what)
{
	struct host *host = arg;

	for (struct vif *vif = host->vifs; vif; vif = vif->next) {
		if (vif->serial == serial && vif->backend) {
			netif_backend_event(vif->backend, &vif->backend->back.queues[what >> 8],
				(enum netif_back_event)(what & 0xff));
			return;
		}
	}
}

static bool on_queue_event(
	void *arg, struct netif_back_queue *q, enum netif_back_event event, const uint8_t *mac)
{
	struct vif *vif = arg;
	struct worker *worker = vif->queues[q->index].worker;
	int err;

	switch (event) {
	case NETIF_MCAST_ADD:
		err = vswitch_mcast_add(vif->host->config.sw, (unsigned)vif->port_id, mac);
		return err == 0 || err == -EEXIST;
	case NETIF_MCAST_DEL:
		return vswitch_mcast_del(vif->host->config.sw, (unsigned)vif->port_id, mac) == 0;
	default:
		/* Without a worker the queue is only being started, and start says what is wrong. */
		return worker && worker_post(worker, on_message, vif->host, vif->serial,
					 (uint64_t)q->index << 8 | event);
	}
}

static const struct netif_backend_ops backend_ops = {op_start, op_stop, op_changed, on_queue_event};

/* ---- attaching ---- */

/* The directories of a new device, as a Xen toolstack makes them: docs/netif.md. */
static int vif_store(struct vif *vif)
{
	struct platform *p = vif->host->config.platform;
	const uint8_t *m = vif->config.mac;
	char front[64];
	char back[64];
	char mac[18];
	int err;

	(void)snprintf(front, sizeof(front), "/local/domain/%u/device/vif/0", vif->domid);
	(void)snprintf(
		back, sizeof(back), "/local/domain/%u/backend/vif/%u/0", p->domid, vif->domid);
	(void)snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3],
		m[4], m[5]);
	err = p->ops->store_write(p, 0, front, "");
	if (!err)
		err = p->ops->store_chmod(p, 0, front, vif->domid, 'n', p->domid, 'r');
	if (!err)
		err = p->ops->store_write(p, 0, back, "");
	if (!err)
		err = p->ops->store_chmod(p, 0, back, p->domid, 'n', vif->domid, 'r');
	if (err)
		return err;
	const struct {
		const char *dir, *key, *value;
	} keys[] = {{back, "frontend", front}, {back, "mac", mac}, {back, "uuid", vif->config.uuid},
		{back, "online", "1"}, {back, "handle", "0"}, {front, "backend", back},
		{front, "mac", mac}, {front, "handle", "0"}};
	for (unsigned i = 0; i < ARRAY_SIZE(keys) && !err; i++)
		err = store_printf(p, 0, keys[i].dir, keys[i].key, "%s", keys[i].value);
	if (!err)
		err = store_printf(p, 0, back, "frontend-id", "%u", vif->domid);
	if (!err && vif->config.rate.bytes)
		err = store_printf(p, 0, back, "rate", "%llu,%llu",
			(unsigned long long)vif->config.rate.bytes,
			(unsigned long long)vif->config.rate.usec);
	if (!err)
		err = store_printf(p, 0, front, "backend-id", "%u", p->domid);
	if (!err)
		err = store_printf(p, 0, front, "mtu", "%u", vif->config.mtu);
	return err ? err : store_printf(p, 0, front, "state", "%d", NETIF_INITIALISING);
}

void vif_detach(struct vif *vif, const char *why)
{
	struct host *host = vif->host;
	struct platform *p = host->config.platform;
	char path[64];

	if (vif->backend) {
		struct netif_backend *backend = vif->backend;

		op_stop(vif, backend); /* from here on its counters stand still */
		stats_keep(&vif->past, &backend->back.port);
		netif_backend_free(backend);
		vif->backend = NULL;
		(void)vswitch_mcast_reset(host->config.sw, (unsigned)vif->port_id);
	}
	(void)snprintf(path, sizeof(path), "/local/domain/%u/backend/vif/%u", p->domid, vif->domid);
	(void)p->ops->store_rm(p, 0, path);
	/* The guest's own nodes go with its domain, those above them are ours. */
	(void)snprintf(path, sizeof(path), "/local/domain/%u", vif->domid);
	(void)p->ops->store_rm(p, 0, path);
	if (vif->state == VIF_QUARANTINED)
		why = vif->reason; /* worth more than how the connection ended */
	hv_domain_destroy(host->config.hv, vif->domid);
	vif->domid = 0;
	vif->pid = 0;
	vif_enter(vif, VIF_DETACHED, why == vif->reason ? strdupa(why) : why);
}

static int attach(struct vif *vif, char *why, size_t size)
{
	struct host *host = vif->host;
	struct netif_backend_config config = {.name = vif->config.name,
		.frontend = vif->domid,
		.max_queues = vif->config.queues,
		.split = true,
		.max_mtu = vif->config.mtu};
	int err = vif_store(vif);

	if (!err)
		err = netif_backend_new(
			&vif->backend, host->config.platform, &config, &backend_ops, vif);
	if (err) {
		(void)snprintf(why, size, "cannot set up the device: %s", strerror(-err));
		vif->backend = NULL;
		return err;
	}
	return 0;
}

int vif_attach(struct vif *vif, const struct ucred *peer, domid_t *domid, char *why, size_t size)
{
	int err;

	if (peer->uid != 0 && peer->uid != vif->config.owner) {
		(void)snprintf(why, size, "uid %u may not attach", peer->uid);
		return -EPERM;
	}
	if (vif->domid) {
		(void)snprintf(why, size, "already attached by pid %d", (int)vif->pid);
		return -EBUSY;
	}
	err = hv_domain_create(vif->host->config.hv, vif->config.memory, &vif->domid);
	if (err) {
		vif->domid = 0;
		(void)snprintf(why, size, "cannot make a domain: %s", strerror(-err));
		return err;
	}
	vif->pid = peer->pid;
	err = attach(vif, why, size);
	if (err) {
		vif_detach(vif, why);
		return err;
	}
	vif->attachments++;
	vif_enter(vif, VIF_CONNECTING, "waiting for the front end");
	*domid = vif->domid;
	return 0;
}

static int on_attach(void *arg, const struct ucred *peer, domid_t *domid, uint32_t *handle,
	char *why, size_t size)
{
	*handle = 0;
	return vif_attach(arg, peer, domid, why, size);
}

static void on_gone(void *arg, domid_t domid, const char *why)
{
	struct vif *vif = arg;

	if (vif->domid == domid)
		vif_detach(vif, why);
}

/* ---- vifs ---- */

static bool name_ok(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > VIF_NAME_MAX || name[0] == '.')
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)name[i]) && !strchr("-_.", name[i]))
			return false;
	}
	return true;
}

static int config_take(struct vif *vif, const struct vif_config *config)
{
	if (!name_ok(config->name) || config->nmacs > ARRAY_SIZE(config->macs) ||
		config->nips > VSWITCH_IPS || config->vlan > VSWITCH_VLAN_MAX ||
		config->queues > NETIF_MAX_QUEUES)
		return -EINVAL;
	vif->config = *config;
	if (!vif->config.queues)
		vif->config.queues = 1;
	if (!vif->config.mtu)
		vif->config.mtu = 1500;
	if (!vif->config.memory)
		vif->config.memory = MEMORY_DEFAULT;
	return 0;
}

int vif_add(struct host *host, const struct vif_config *config, int listen_fd, struct vif **out)
{
	struct vswitch_port_config sw;
	struct vif *vif = NULL;
	int err = -EEXIST;

	if (vif_find(host, config->name))
		goto fail;
	err = -ENOMEM;
	vif = aligned_alloc(
		CACHE_LINE, (sizeof(*vif) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
	if (!vif)
		goto fail;
	memset(vif, 0, sizeof(*vif));
	vif->host = host;
	vif->serial = ++host->serial;
	err = config_take(vif, config);
	if (err)
		goto fail;
	rate_set(&vif->rate, &vif->config.rate, RATE_BURST_MIN, clock_ns());
	vif_switch_config(vif, &sw);
	vif->port_id = vswitch_port_add(host->config.sw, &sw);
	if (vif->port_id < 0) {
		err = vif->port_id;
		goto fail;
	}
	vif->listen_fd = listen_fd;
	if (listen_fd >= 0)
		err = hv_server_listen(host->config.server, listen_fd, on_attach, on_gone, vif);
	if (err) {
		(void)vswitch_port_remove(host->config.sw, (unsigned)vif->port_id);
		settle(host);
		free(vif);
		return err;
	}
	vif_enter(vif, VIF_DETACHED, "no guest has attached yet");
	vif->since = time(NULL);
	vif->next = host->vifs;
	host->vifs = vif;
	*out = vif;
	return 0;
fail:
	free(vif);
	if (listen_fd >= 0)
		(void)close(listen_fd);
	return err;
}

void vif_kick(struct host *host, struct vif *vif, const char *why)
{
	if (vif->domid && hv_server_kick(host->config.server, vif->domid, why))
		vif_detach(vif, why);
}

void vif_del(struct host *host, struct vif *vif)
{
	struct vif **at = &host->vifs;

	vif_kick(host, vif, "the vif was deleted");
	if (vif->listen_fd >= 0)
		hv_server_unlisten(host->config.server, vif->listen_fd);
	if (vif->domid)
		vif_detach(vif, "the vif was deleted");
	(void)vswitch_port_remove(host->config.sw, (unsigned)vif->port_id);
	settle(host);
	stats_add(&host->past, &vif->past);
	while (*at != vif)
		at = &(*at)->next;
	*at = vif->next;
	free(vif);
}

struct vif *vif_find(struct host *host, const char *name)
{
	for (struct vif *vif = host->vifs; vif; vif = vif->next) {
		if (!strcmp(vif->config.name, name))
			return vif;
	}
	return NULL;
}

struct vif *vif_next(struct host *host, const struct vif *after)
{
	return after ? after->next : host->vifs;
}

int vif_set(struct host *host, struct vif *vif, const struct vif_config *config)
{
	struct vif_config old = vif->config;
	struct vswitch_port_config sw;
	int err = strcmp(config->name, old.name) ? -EINVAL : config_take(vif, config);

	if (!err) {
		vif_switch_config(vif, &sw);
		err = vswitch_port_set(host->config.sw, (unsigned)vif->port_id, &sw);
	}
	if (err) {
		vif->config = old;
		return err;
	}
	rate_set(&vif->rate, &vif->config.rate, RATE_BURST_MIN, clock_ns());
	settle(host);
	return 0;
}

const struct vif_config *vif_config(const struct vif *vif)
{
	return &vif->config;
}

void vif_status(struct vif *vif, struct vif_status *status)
{
	memset(status, 0, sizeof(*status));
	status->state = vif->state;
	status->since = vif->since;
	memcpy(status->reason, vif->reason, sizeof(status->reason));
	status->domid = vif->domid;
	status->pid = vif->pid;
	status->port = (unsigned)vif->port_id;
	status->attachments = vif->attachments;
	status->quarantines = vif->quarantines;
	status->memory = vif->domid ? hv_memory_used(vif->host->config.hv, vif->domid) : 0;
	status->stats = vif->past;
	if (!vif->backend)
		return;
	stats_keep(&status->stats, &vif->backend->back.port);
	status->queues = vif->backend->back.nqueues;
	status->caps = vif->backend->back.port.info.caps;
	status->multicast_filter = vif->backend->multicast_control;
	for (unsigned i = 0; i < status->queues; i++)
		status->workers[i] = vif->route.owner[i];
}

int vif_rehome(struct host *host, struct vif *vif)
{
	struct netif_backend *old = vif->backend;
	struct netif_backend_config config;
	struct netif_record record;
	int err;

	if (!old)
		return -ENOTCONN;
	config = old->config;
	err = netif_backend_freeze(old, &record);
	if (err)
		return err;
	stats_keep(&vif->past, &old->back.port);
	vif->backend = NULL;
	netif_backend_free(old);
	err = netif_backend_thaw(
		&vif->backend, host->config.platform, &config, &backend_ops, vif, &record);
	if (err) {
		vif->backend = NULL;
		vif_enter(vif, VIF_QUARANTINED, "could not be moved");
	}
	return err;
}

/* ---- other ports ---- */

static int add_on_worker(void *arg, struct worker *worker)
{
	return worker_add(worker, arg);
}

static int remove_on_worker(void *arg, struct worker *worker)
{
	worker_remove(worker, arg);
	return 0;
}

static void port_stop(struct host *host, struct host_port *p)
{
	workers_route(host->config.workers, (unsigned)p->port_id, NULL);
	(void)vswitch_port_remove(host->config.sw, (unsigned)p->port_id);
	for (unsigned i = 0; i < p->route.nqueues; i++)
		(void)worker_call(
			host->config.workers, p->route.owner[i], remove_on_worker, &p->queues[i]);
	settle(host);
}

int host_port_add(struct host *host, const struct host_port_config *config, struct shunt_port *port,
	struct host_port **out)
{
	struct vswitch_port_config sw = config->sw;
	struct host_port *p = NULL;
	unsigned queues = MIN(port->info.rx_queues, (unsigned)WORKER_PORT_QUEUES);
	int err = -EEXIST;

	if (host_port_find(host, config->name))
		goto fail;
	err = -ENOMEM;
	p = aligned_alloc(CACHE_LINE, (sizeof(*p) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
	if (!p)
		goto fail;
	memset(p, 0, sizeof(*p));
	p->config = *config;
	p->port = port;
	sw.kind = config->guest ? VSWITCH_GUEST : VSWITCH_UPLINK;
	sw.mtu = port->info.mtu;
	sw.caps = port->info.caps;
	rate_set(&p->rate, &config->rate, RATE_BURST_MIN, clock_ns());
	p->port_id = vswitch_port_add(host->config.sw, &sw);
	if (p->port_id < 0) {
		err = p->port_id;
		goto fail;
	}
	p->route.port = port;
	for (unsigned i = 0; i < queues; i++) {
		struct worker_queue *wq = &p->queues[i];
		unsigned index = host->next_worker++ % workers_count(host->config.workers);

		wq->port = port;
		wq->queue = i;
		wq->port_id = (unsigned)p->port_id;
		wq->rate = &p->rate;
		p->route.queues[i] = wq;
		p->route.owner[i] = index;
		err = worker_call(host->config.workers, index, add_on_worker, wq);
		if (err) {
			port_stop(host, p);
			goto fail;
		}
		p->route.nqueues = i + 1;
	}
	workers_route(host->config.workers, (unsigned)p->port_id, &p->route);
	p->next = host->ports;
	host->ports = p;
	if (out)
		*out = p;
	return 0;
fail:
	free(p);
	shunt_port_close(port);
	return err;
}

void host_port_del(struct host *host, struct host_port *port)
{
	struct host_port **at = &host->ports;

	port_stop(host, port);
	stats_keep(&host->past, port->port);
	shunt_port_close(port->port);
	while (*at != port)
		at = &(*at)->next;
	*at = port->next;
	free(port);
}

struct host_port *host_port_find(struct host *host, const char *name)
{
	for (struct host_port *p = host->ports; p; p = p->next) {
		if (!strcmp(p->config.name, name))
			return p;
	}
	return NULL;
}

struct host_port *host_port_next(struct host *host, const struct host_port *after)
{
	return after ? after->next : host->ports;
}

const struct host_port_config *host_port_config(const struct host_port *port)
{
	return &port->config;
}

unsigned host_port_id(const struct host_port *port)
{
	return (unsigned)port->port_id;
}

struct shunt_port *host_port_port(struct host_port *port)
{
	return port->port;
}

/* ---- all of it ---- */

int host_new(struct host **out, const struct host_config *config)
{
	unsigned n = workers_count(config->workers);
	struct host *host = calloc(1, sizeof(*host));

	if (!host)
		return -ENOMEM;
	host->config = *config;
	host->views = calloc(n, sizeof(*host->views));
	for (unsigned i = 0; host->views && i < n; i++) {
		/* What one batch takes, and what may be on its way through the other workers. */
		if (netif_views_init(&host->views[i], n > 1 ? 1024 + SHUNT_BATCH : SHUNT_BATCH)) {
			host_free(host);
			return -ENOMEM;
		}
	}
	if (!host->views) {
		free(host);
		return -ENOMEM;
	}
	*out = host;
	return 0;
}

void host_free(struct host *host)
{
	if (!host)
		return;
	while (host->vifs)
		vif_del(host, host->vifs);
	while (host->ports)
		host_port_del(host, host->ports);
	for (unsigned i = 0; host->views && i < workers_count(host->config.workers); i++)
		netif_views_fini(&host->views[i]);
	free(host->views);
	free(host);
}

void host_totals(struct host *host, struct host_totals *totals)
{
	struct shunt_port_stats sum = host->past;

	memset(totals, 0, sizeof(*totals));
	for (struct vif *vif = host->vifs; vif; vif = vif->next) {
		stats_add(&sum, &vif->past);
		if (vif->backend)
			stats_keep(&sum, &vif->backend->back.port);
	}
	for (struct host_port *p = host->ports; p; p = p->next)
		stats_keep(&sum, p->port);
	for (unsigned i = 0; i < workers_count(host->config.workers); i++) {
		struct worker_stats stats;

		workers_stats(host->config.workers, i, &stats);
		totals->replicated += stats.replicated;
		totals->lost += stats.lost;
	}
	totals->received = sum.rx_packets;
	totals->delivered = sum.tx_packets;
	memcpy(totals->drops, sum.drops, sizeof(totals->drops));
}
