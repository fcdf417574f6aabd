/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What can be set, by name: the keys of [shuntd], [vif NAME] and [port NAME], which are also the arguments of the control
 * socket's add and set. One table for each kind has a key's name, what its value must look like, and where it goes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "vif/host.h"

enum {
	PORT_NAME_MAX = 31,
	RUN_PATH_MAX = 70, /* DIR/NAME.sock fits sun_path */
	SPEC_MAX = 63,     /* as shunt_port_info.name */
	PATH_SIZE = 256,
};

/* What is wrong, and with which key ("" if with none of them). */
struct fault {
	char field[32];
	char text[320];
};
/* Fills it in; returns false. */
bool fault_set(struct fault *fault, const char *field, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

enum sandbox_mode { SANDBOX_NO, SANDBOX_YES, SANDBOX_KILL };

struct daemon_settings {
	uint64_t given;
	char run[RUN_PATH_MAX + 1];
	char captures[PATH_SIZE]; /* "": the run directory */
	char user[33];            /* "": stays who it is */
	unsigned workers;         /* 0: one */
	unsigned ncpus;
	int cpus[WORKERS_MAX];
	uint32_t ageing; /* s */
	uint32_t learned;
	bool join_uplinks;
	enum log_level log;
	enum sandbox_mode sandbox;
};

struct vif_settings {
	uint64_t given; /* bit i: key i of the table */
	struct vif_config config;
};

enum port_kind { PORT_TAP, PORT_PACKET, PORT_PCAP, PORT_NULL, PORT_KINDS };
extern const char *const port_kind_names[PORT_KINDS];

struct port_settings {
	uint64_t given;
	char spec[SPEC_MAX + 1]; /* KIND:REST */
	enum port_kind kind;
	char netns[PATH_SIZE]; /* "": shuntd's own */
	unsigned queues;       /* of a TAP */
	struct host_port_config config;
};

/* A specification without its kind. */
const char *port_settings_rest(const struct port_settings *settings);

/* Built-in values. */
void daemon_settings_init(struct daemon_settings *settings);
/* False: the name is no name, or one that shuntd uses itself. */
bool vif_settings_init(struct vif_settings *settings, const char *name, struct fault *fault);
bool port_settings_init(struct port_settings *settings, const char *name, struct fault *fault);

/* Set one key. False: unknown, given twice, or not a value for it. */
bool daemon_set(
	struct daemon_settings *settings, const char *key, const char *value, struct fault *fault);
bool vif_settings_set(
	struct vif_settings *settings, const char *key, const char *value, struct fault *fault);
bool port_settings_set(
	struct port_settings *settings, const char *key, const char *value, struct fault *fault);

/* When all keys are set: what is missing or does not go together; then what follows from the rest (UUID, MAC). */
bool daemon_settings_finish(struct daemon_settings *settings, struct fault *fault);
bool vif_settings_finish(struct vif_settings *settings, struct fault *fault);
bool port_settings_finish(struct port_settings *settings, struct fault *fault);
