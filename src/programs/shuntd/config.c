/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A reader of its own, because libinih as Debian builds it tells neither the line of a key nor of an empty section, and
 * cuts lines at 200 bytes. A section is finished (config_close) when the next one begins; what is missing in it is said
 * of the line with its name.
 */
#include "programs/shuntd/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum section { SECTION_NONE, SECTION_DAEMON, SECTION_VIF, SECTION_PORT };

struct reader {
	struct config *config;
	struct config_fault *at;
	enum section section;
	unsigned section_line;
	unsigned line;
	bool daemon_seen;
	bool no_memory;
};

static char *trim(char *text)
{
	char *end;

	while (isspace((unsigned char)*text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char)end[-1]))
		end--;
	*end = '\0';
	return text;
}

/* One more element, zeroed, at the end of an array. */
static void *grow(struct reader *r, void **array, unsigned *n, size_t size)
{
	void *more = reallocarray(*array, *n + 1, size);

	if (!more) {
		r->no_memory = true;
		return NULL;
	}
	*array = more;
	return (char *)more + size * (*n)++;
}

static bool section_close(struct reader *r)
{
	struct config *c = r->config;
	struct fault *fault = &r->at->fault;
	unsigned line = r->line;
	bool ok = true;

	r->line = r->section_line;
	if (r->section == SECTION_VIF)
		ok = vif_settings_finish(&c->vifs[c->nvifs - 1], fault);
	else if (r->section == SECTION_PORT)
		ok = port_settings_finish(&c->ports[c->nports - 1], fault);
	else if (r->section == SECTION_DAEMON)
		ok = daemon_settings_finish(&c->daemon, fault);
	if (ok)
		r->line = line;
	return ok;
}

/* Vifs and ports share one space of names. */
static bool name_taken(const struct config *c, const char *name)
{
	for (unsigned i = 0; i < c->nvifs; i++) {
		if (!strcmp(c->vifs[i].config.name, name))
			return true;
	}
	for (unsigned i = 0; i < c->nports; i++) {
		if (!strcmp(c->ports[i].config.name, name))
			return true;
	}
	return false;
}

static bool section_open(struct reader *r, char *title)
{
	struct config *c = r->config;
	struct fault *fault = &r->at->fault;
	char *name = title + strcspn(title, " \t");
	struct vif_settings *vif;
	struct port_settings *port;

	if (*name)
		*name++ = '\0';
	name = trim(name);
	r->section_line = r->line;
	if (!strcmp(title, "shuntd")) {
		if (*name)
			return fault_set(fault, "", "[shuntd] has no name");
		if (r->daemon_seen)
			return fault_set(fault, "", "[shuntd] is there twice");
		r->section = SECTION_DAEMON;
		r->daemon_seen = true;
		return true;
	}
	if (strcmp(title, "vif") != 0 && strcmp(title, "port") != 0)
		return fault_set(fault, "", "[%.40s]: there is no such section", title);
	if (name_taken(c, name))
		return fault_set(fault, "name", "the name %.40s is there twice", name);
	if (!strcmp(title, "vif")) {
		vif = grow(r, (void **)&c->vifs, &c->nvifs, sizeof(*vif));
		r->section = SECTION_VIF;
		return vif && vif_settings_init(vif, name, fault);
	}
	port = grow(r, (void **)&c->ports, &c->nports, sizeof(*port));
	r->section = SECTION_PORT;
	return port && port_settings_init(port, name, fault);
}

static bool key_line(struct reader *r, char *text)
{
	struct config *c = r->config;
	struct fault *fault = &r->at->fault;
	char *value = strchr(text, '=');
	char *key;

	if (!value)
		return fault_set(fault, "", "%.40s: neither a [section] nor key = value", text);
	*value++ = '\0';
	key = trim(text);
	value = trim(value);
	if (r->section == SECTION_NONE)
		return fault_set(fault, key, "%.40s: before the first [section]", key);
	if (r->section == SECTION_DAEMON)
		return daemon_set(&c->daemon, key, value, fault);
	if (r->section == SECTION_VIF)
		return vif_settings_set(&c->vifs[c->nvifs - 1], key, value, fault);
	return port_settings_set(&c->ports[c->nports - 1], key, value, fault);
}

static bool read_line(struct reader *r, char *text)
{
	size_t len;

	text = trim(text);
	if (!*text || *text == '#' || *text == ';')
		return true;
	if (*text != '[')
		return key_line(r, text);
	len = strlen(text);
	if (text[len - 1] != ']')
		return fault_set(&r->at->fault, "", "%.40s: ']' is missing", text);
	text[len - 1] = '\0';
	return section_close(r) && section_open(r, trim(text + 1));
}

int config_read(struct config *config, FILE *file, struct config_fault *fault)
{
	struct reader r = {.config = config, .at = fault};
	size_t size = 0;
	char *text = NULL;
	ssize_t len = 0;
	bool ok = true;
	int err = 0;

	memset(config, 0, sizeof(*config));
	memset(fault, 0, sizeof(*fault));
	daemon_settings_init(&config->daemon);
	while (ok && (len = getline(&text, &size, file)) >= 0) {
		r.line++;
		if (len > CONFIG_LINE)
			ok = fault_set(
				&fault->fault, "", "the line is longer than %d bytes", CONFIG_LINE);
		else if (strlen(text) != (size_t)len)
			ok = fault_set(&fault->fault, "", "there is a NUL in the line");
		else
			ok = read_line(&r, text);
	}
	free(text);
	if (ok && !feof(file))
		err = -EIO;
	else if (ok)
		ok = section_close(&r);
	/* Also without a [shuntd]. */
	if (ok && !err)
		ok = daemon_settings_finish(&config->daemon, &fault->fault);
	fault->line = r.line;
	if (r.no_memory)
		err = -ENOMEM;
	else if (!ok)
		err = -EINVAL;
	if (err)
		config_free(config);
	return err;
}

void config_free(struct config *config)
{
	free(config->vifs);
	free(config->ports);
	memset(config, 0, sizeof(*config));
}
