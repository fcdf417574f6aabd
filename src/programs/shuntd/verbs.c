/* SPDX-License-Identifier: BSD-3-Clause */
#include "programs/shuntd/verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "programs/shuntd/report.h"

struct call {
	struct daemon *d;
	json_t *args;
	json_t *result; /* NULL: there is nothing to say */
	struct fault fault;
};

/* False: the fault says why. */
typedef bool verb_fn(struct call *c);

enum verb_args {
	VERB_NO_ARGS,
	VERB_NAME,     /* "name" */
	VERB_SETTINGS, /* "name", and keys of the configuration */
};

struct verb {
	const char *name;
	enum verb_args args;
	verb_fn *run;
};

json_t *verbs_error(const char *field, const char *text)
{
	if (!field[0])
		return json_pack("{s:b, s:s}", "ok", 0, "error", text);
	return json_pack("{s:b, s:s, s:s}", "ok", 0, "error", text, "field", field);
}

static const char *name_of(const json_t *args)
{
	return json_string_value(json_object_get(args, "name"));
}

static struct vif *the_vif(struct daemon *d, const json_t *args, struct fault *fault)
{
	struct vif *vif = vif_find(d->host, name_of(args));

	if (!vif)
		(void)fault_set(fault, "", "%.40s: there is no such vif", name_of(args));
	return vif;
}

static struct host_port *the_port(struct daemon *d, const json_t *args, struct fault *fault)
{
	struct host_port *port = host_port_find(d->host, name_of(args));

	if (!port)
		(void)fault_set(fault, "", "%.40s: there is no such port", name_of(args));
	return port;
}

/* ---- settings ---- */

typedef bool settings_set_fn(
	void *settings, const char *key, const char *value, struct fault *fault);

static bool vif_key(void *settings, const char *key, const char *value, struct fault *fault)
{
	return vif_settings_set(settings, key, value, fault);
}

static bool port_key(void *settings, const char *key, const char *value, struct fault *fault)
{
	return port_settings_set(settings, key, value, fault);
}

/* Every argument but the name, as the text that it would be in the configuration file. */
static bool take_settings(json_t *args, settings_set_fn *put, void *settings, struct fault *fault)
{
	const char *key;
	json_t *value;

	json_object_foreach (args, key, value) {
		char number[32];
		const char *text = json_string_value(value);

		if (!strcmp(key, "name"))
			continue;
		if (json_is_integer(value)) {
			(void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
				json_integer_value(value));
			text = number;
		} else if (json_is_boolean(value)) {
			text = json_is_true(value) ? "yes" : "no";
		}
		if (!text)
			return fault_set(fault, key,
				"%.40s: must be a string, an integer or a boolean", key);
		if (!put(settings, key, text, fault))
			return false;
	}
	return true;
}

/* ---- vifs ---- */

static bool vif_add_verb(struct call *c)
{
	struct vif_settings settings;

	if (!vif_settings_init(&settings, name_of(c->args), &c->fault) ||
		!take_settings(c->args, vif_key, &settings, &c->fault) ||
		!vif_settings_finish(&settings, &c->fault) ||
		!daemon_vif_add(c->d, &settings, &c->fault))
		return false;
	c->result = report_vif_made(c->d, vif_find(c->d->host, settings.config.name));
	return true;
}

static bool vif_del_verb(struct call *c)
{
	struct vif *vif = the_vif(c->d, c->args, &c->fault);

	return vif && daemon_vif_del(c->d, vif, &c->fault);
}

static bool vif_list_verb(struct call *c)
{
	c->result = json_array();
	/* The newest comes first there, and last here. */
	for (struct vif *vif = vif_next(c->d->host, NULL); vif; vif = vif_next(c->d->host, vif))
		(void)json_array_insert_new(c->result, 0, report_vif_line(vif));
	return true;
}

static bool vif_show_verb(struct call *c)
{
	struct vif *vif = the_vif(c->d, c->args, &c->fault);

	if (!vif)
		return false;
	c->result = report_vif(c->d, vif);
	return true;
}

static bool vif_set_verb(struct call *c)
{
	struct vif *vif = the_vif(c->d, c->args, &c->fault);
	struct vif_settings settings = {0};

	if (!vif)
		return false;
	settings.config = *vif_config(vif);
	if (!take_settings(c->args, vif_key, &settings, &c->fault))
		return false;
	if (strcmp(settings.config.uuid, vif_config(vif)->uuid) != 0)
		return fault_set(
			&c->fault, "uuid", "uuid: it stays what it is as long as there is the vif");
	if (!vif_settings_finish(&settings, &c->fault) ||
		!daemon_vif_set(c->d, vif, &settings, &c->fault))
		return false;
	c->result = report_vif_made(c->d, vif);
	return true;
}

static bool vif_kick_verb(struct call *c)
{
	struct vif *vif = the_vif(c->d, c->args, &c->fault);
	struct vif_status status;

	if (!vif)
		return false;
	vif_status(vif, &status);
	if (!status.domid)
		return fault_set(&c->fault, "", "%s: no guest is attached", vif_config(vif)->name);
	vif_kick(c->d->host, vif, "kicked by the operator");
	return true;
}

static bool vif_rehome_verb(struct call *c)
{
	struct vif *vif = the_vif(c->d, c->args, &c->fault);
	int err;

	if (!vif)
		return false;
	err = vif_rehome(c->d->host, vif);
	if (err == -ENOTCONN)
		return fault_set(&c->fault, "", "%s: not connected", vif_config(vif)->name);
	if (err)
		return fault_set(&c->fault, "", "%s: %s", vif_config(vif)->name, strerror(-err));
	c->result = report_vif(c->d, vif);
	return true;
}

/* ---- ports ---- */

static bool port_add_verb(struct call *c)
{
	struct port_settings settings;

	if (!port_settings_init(&settings, name_of(c->args), &c->fault) ||
		!take_settings(c->args, port_key, &settings, &c->fault) ||
		!port_settings_finish(&settings, &c->fault) ||
		!daemon_port_add(c->d, &settings, &c->fault))
		return false;
	c->result = report_port_line(host_port_find(c->d->host, settings.config.name));
	return true;
}

static bool port_del_verb(struct call *c)
{
	struct host_port *port = the_port(c->d, c->args, &c->fault);

	if (!port)
		return false;
	log_info("%s: deleted", host_port_config(port)->name);
	host_port_del(c->d->host, port);
	return true;
}

static bool port_list_verb(struct call *c)
{
	c->result = json_array();
	for (struct host_port *p = host_port_next(c->d->host, NULL); p;
		p = host_port_next(c->d->host, p))
		(void)json_array_insert_new(c->result, 0, report_port_line(p));
	return true;
}

static bool port_show_verb(struct call *c)
{
	struct host_port *port = the_port(c->d, c->args, &c->fault);

	if (!port)
		return false;
	c->result = report_port(port);
	return true;
}

/* ---- the rest ---- */

static bool fdb_list_verb(struct call *c)
{
	c->result = report_fdb(c->d);
	return true;
}

static bool stats_verb(struct call *c)
{
	c->result = report_stats(c->d);
	return true;
}

static bool doctor_verb(struct call *c)
{
	c->result = report_doctor(c->d);
	return true;
}

static bool shutdown_verb(struct call *c)
{
	log_info("asked to end");
	c->d->stop = true;
	return true;
}

static const struct verb verbs[] = {
	{"vif.add", VERB_SETTINGS, vif_add_verb},
	{"vif.del", VERB_NAME, vif_del_verb},
	{"vif.list", VERB_NO_ARGS, vif_list_verb},
	{"vif.show", VERB_NAME, vif_show_verb},
	{"vif.set", VERB_SETTINGS, vif_set_verb},
	{"vif.kick", VERB_NAME, vif_kick_verb},
	{"vif.rehome", VERB_NAME, vif_rehome_verb},
	{"port.add", VERB_SETTINGS, port_add_verb},
	{"port.del", VERB_NAME, port_del_verb},
	{"port.list", VERB_NO_ARGS, port_list_verb},
	{"port.show", VERB_NAME, port_show_verb},
	{"fdb.list", VERB_NO_ARGS, fdb_list_verb},
	{"stats", VERB_NO_ARGS, stats_verb},
	{"doctor", VERB_NO_ARGS, doctor_verb},
	{"shutdown", VERB_NO_ARGS, shutdown_verb},
};

/* The one validator of a request's shape: what a verb gets is an object that has what the verb needs and no more. */
static const struct verb *request_check(const json_t *request, json_t **args, struct fault *fault)
{
	const char *name = json_string_value(json_object_get(request, "verb"));
	const struct verb *verb = NULL;
	const char *key;
	json_t *value;

	*args = json_object_get(request, "args");
	if (!name || json_object_size(request) != (*args ? 2u : 1u)) {
		(void)fault_set(fault, "verb", "a request is {\"verb\": NAME, \"args\": {...}}");
		return NULL;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (!strcmp(verbs[i].name, name))
			verb = &verbs[i];
	}
	if (!verb) {
		(void)fault_set(fault, "verb", "%.40s: there is no such verb", name);
		return NULL;
	}
	if (*args && !json_is_object(*args)) {
		(void)fault_set(fault, "args", "args must be an object");
		return NULL;
	}
	if (verb->args != VERB_NO_ARGS && !name_of(*args)) {
		(void)fault_set(fault, "name", "name is missing");
		return NULL;
	}
	json_object_foreach (*args, key, value) {
		if (verb->args == VERB_NO_ARGS ||
			(verb->args == VERB_NAME && strcmp(key, "name") != 0)) {
			(void)fault_set(
				fault, key, "%.40s: %s has no such argument", key, verb->name);
			return NULL;
		}
	}
	return verb;
}

json_t *verbs_line(struct daemon *d, const char *line, size_t len)
{
	json_error_t error;
	struct call call = {.d = d};
	json_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
	const struct verb *verb;
	json_t *answer;

	if (!request) {
		(void)fault_set(&call.fault, "", "not JSON: %s", error.text);
		return verbs_error("", call.fault.text);
	}
	verb = request_check(request, &call.args, &call.fault);
	if (verb && verb->run(&call))
		answer = json_pack("{s:b, s:o*}", "ok", 1, "result", call.result);
	else
		answer = verbs_error(call.fault.field, call.fault.text);
	json_decref(request);
	return answer;
}
