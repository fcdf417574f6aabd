/* SPDX-License-Identifier: BSD-3-Clause */
#include "programs/shuntd/daemon.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "programs/shuntd/sandbox.h"

#define CONTROL_SOCKET "control.sock"
#define STORE_SOCKET   "store.sock"

enum {
	HOST_MEMORY = 1 << 30
}; /* limit of domain 0's regions in the local hypervisor; it shares next to nothing */

static void quiesce(void *arg)
{
	const struct daemon *d = arg;

	if (d->workers)
		workers_synchronize(d->workers);
}

static int confine(void *arg)
{
	const struct daemon *d = arg;

	return sandbox_worker(d->settings->sandbox);
}

static int open_switch(struct daemon *d)
{
	const struct daemon_settings *s = d->settings;
	const struct vswitch_config config = {
		.max_learned = s->learned, .ageing = s->ageing, .join_uplinks = s->join_uplinks};
	const struct workers_config workers = {.count = s->workers,
		.cpus = s->ncpus ? s->cpus : NULL,
		.confine = confine,
		.confine_arg = d};
	int err = vswitch_new(&d->sw, &config);

	if (!err)
		err = workers_new(&d->workers, d->sw, &workers);
	return err;
}

/* The control socket is for root and for the user and group that shuntd runs as. */
static int open_sockets(struct daemon *d)
{
	int fd = opener_listen(d->opener, STORE_SOCKET, SOCK_STREAM, geteuid(), 0600);
	int err;

	if (fd < 0)
		return fd;
	err = hv_server_listen_store(d->server, fd, 0);
	if (err)
		return err;
	d->control_fd = opener_listen(d->opener, CONTROL_SOCKET, SOCK_STREAM, geteuid(), 0660);
	return MIN(d->control_fd, 0);
}

int daemon_open(struct daemon *d, const struct daemon_settings *settings, struct opener *opener)
{
	const char *what = "the local hypervisor";
	int err;

	*d = (struct daemon){
		.settings = settings, .opener = opener, .control_fd = -1, .started = time(NULL)};
	err = hv_new(&d->hv, HOST_MEMORY, quiesce, d);
	if (!err)
		err = hv_platform_new(&d->platform, d->hv, 0);
	if (!err)
		err = hv_server_new(&d->server, d->hv);
	if (!err) {
		what = "switch and workers";
		err = open_switch(d);
	}
	if (!err) {
		const struct host_config host = {d->hv, d->server, d->platform, d->workers, d->sw};

		what = "the host";
		err = host_new(&d->host, &host);
	}
	if (!err) {
		what = "control.sock and store.sock";
		err = open_sockets(d);
	}
	if (err)
		log_error("%s: %s", what, strerror(-err));
	return err;
}

void daemon_close(struct daemon *d)
{
	if (d->control_fd >= 0)
		(void)close(d->control_fd);
	host_free(d->host);
	workers_free(d->workers);
	d->workers = NULL;
	vswitch_free(d->sw);
	hv_server_free(d->server);
	if (d->platform)
		d->platform->ops->close(d->platform);
	hv_free(d->hv);
}

/* ---- vifs ---- */

static void socket_name(const struct vif_config *config, char name[VIF_NAME_MAX + sizeof(".sock")])
{
	(void)snprintf(name, VIF_NAME_MAX + sizeof(".sock"), "%s.sock", config->name);
}

static bool name_free(struct daemon *d, const char *name, struct fault *fault)
{
	if (vif_find(d->host, name))
		return fault_set(fault, "", "%s: there is a vif of this name", name);
	if (host_port_find(d->host, name))
		return fault_set(fault, "", "%s: there is a port of this name", name);
	return true;
}

/* What adding or changing a port of the switch can fail with, in words. */
static bool refused(struct fault *fault, const char *name, int err)
{
	switch (err) {
	case -EEXIST:
		return fault_set(
			fault, "", "%s: another port has one of its addresses in this VLAN", name);
	case -ENOSPC:
		return fault_set(fault, "", "%s: the switch is full", name);
	case -EINVAL:
		return fault_set(
			fault, "", "%s: the switch does not take this configuration", name);
	default:
		return fault_set(fault, "", "%s: %s", name, strerror(-err));
	}
}

bool daemon_vif_add(struct daemon *d, const struct vif_settings *settings, struct fault *fault)
{
	const struct vif_config *config = &settings->config;
	char name[VIF_NAME_MAX + sizeof(".sock")];
	struct vif *vif;
	int err;

	if (!name_free(d, config->name, fault))
		return false;
	socket_name(config, name);
	err = opener_listen(d->opener, name, SOCK_SEQPACKET, config->owner, 0600);
	if (err < 0)
		return fault_set(fault, "", "%s: %s/%s for user %u: %s", config->name,
			d->settings->run, name, config->owner, strerror(-err));
	err = vif_add(d->host, config, err, &vif);
	if (err) {
		(void)opener_unlink(d->opener, name);
		return refused(fault, config->name, err);
	}
	log_info("%s: added", config->name);
	return true;
}

bool daemon_vif_del(struct daemon *d, struct vif *vif, struct fault *fault)
{
	char name[VIF_NAME_MAX + sizeof(".sock")];
	int err;

	socket_name(vif_config(vif), name);
	log_info("%s: deleted", vif_config(vif)->name);
	vif_del(d->host, vif);
	err = opener_unlink(d->opener, name);
	return err && err != -ENOENT ? fault_set(fault, "", "%s: %s", name, strerror(-err)) : true;
}

bool daemon_vif_set(
	struct daemon *d, struct vif *vif, const struct vif_settings *settings, struct fault *fault)
{
	const struct vif_config *config = &settings->config;
	uid_t owner = vif_config(vif)->owner;
	char name[VIF_NAME_MAX + sizeof(".sock")];
	int err;

	socket_name(config, name);
	if (config->owner != owner) {
		err = opener_chown(d->opener, name, config->owner);
		if (err)
			return fault_set(fault, "", "%s: owner %u: %s", config->name, config->owner,
				strerror(-err));
	}
	err = vif_set(d->host, vif, config);
	if (!err)
		return true;
	if (config->owner != owner)
		(void)opener_chown(d->opener, name, owner);
	return refused(fault, config->name, err);
}

/* ---- ports ---- */

static int open_tap(struct daemon *d, const struct port_settings *s, struct shunt_port **out)
{
	char device[TAP_NAME];
	int fds[OPENER_QUEUES];
	int err = opener_tap(d->opener, s->netns, port_settings_rest(s), s->queues, fds, device);

	if (err)
		return err;
	return port_tap_from_fds(out, device, fds, s->queues);
}

/* "FILE", "FILE,loop", "FILE,write"; an absolute FILE is one in the capture directory. */
static int open_capture(struct daemon *d, const struct port_settings *s, struct shunt_port **out)
{
	const char *dir = d->settings->captures[0] ? d->settings->captures : d->settings->run;
	const char *path = port_settings_rest(s);
	enum capture_mode mode = CAPTURE_READ;
	size_t len = strlen(dir);
	char file[SPEC_MAX + 1];
	char *option;
	int fd;

	if (!strncmp(path, dir, len) && path[len] == '/')
		path += len + 1;
	(void)snprintf(file, sizeof(file), "%s", path);
	option = strrchr(file, ',');
	if (option && (!strcmp(option, ",write") || !strcmp(option, ",loop"))) {
		mode = option[1] == 'w' ? CAPTURE_WRITE : CAPTURE_LOOP;
		*option = '\0';
	}
	fd = opener_capture(d->opener, file, mode == CAPTURE_WRITE);
	return fd < 0 ? fd : port_pcap_from_fd(out, port_settings_rest(s), fd, mode);
}

static int open_port(struct daemon *d, const struct port_settings *s, struct shunt_port **out)
{
	int fd;

	switch (s->kind) {
	case PORT_TAP:
		return open_tap(d, s, out);
	case PORT_PACKET:
		fd = opener_packet(d->opener, s->netns, port_settings_rest(s));
		return fd < 0 ? fd : port_af_packet_from_fd(out, port_settings_rest(s), fd);
	case PORT_PCAP:
		return open_capture(d, s, out);
	default:
		return port_null_open(out, port_settings_rest(s));
	}
}

static const char *open_cause(const struct port_settings *s, int err)
{
	if ((err == -EINVAL || err == -EXDEV) && s->kind == PORT_PCAP)
		return "not a capture file in the capture directory ([shuntd] captures)";
	if (err == -EINVAL && s->netns[0])
		return "not a network namespace, or not a device's name";
	if (err == -ENOENT && s->netns[0])
		return "there is no such network namespace";
	if (err == -ENOENT && s->kind == PORT_TAP)
		return "/dev/net/tun is missing: modprobe tun";
	if (err == -EPERM && s->kind != PORT_PCAP)
		return "needs CAP_NET_ADMIN and CAP_NET_RAW: start shuntd as root";
	return strerror(-err);
}

bool daemon_port_add(struct daemon *d, const struct port_settings *settings, struct fault *fault)
{
	const char *name = settings->config.name;
	struct shunt_port *port;
	int err;

	if (!name_free(d, name, fault))
		return false;
	err = open_port(d, settings, &port);
	if (err)
		return fault_set(
			fault, "", "%s: %s: %s", name, settings->spec, open_cause(settings, err));
	err = host_port_add(d->host, &settings->config, port, NULL);
	if (err)
		return refused(fault, name, err);
	log_info("%s: added, %s", name, settings->spec);
	return true;
}
