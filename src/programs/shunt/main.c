/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * shunt: the command line. Every command is one request on shuntd's control socket and one display of its result; doctor
 * also looks at the machine itself.
 */
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "programs/common/value.h"
#include "programs/shunt/client.h"
#include "programs/shunt/display.h"
#include "programs/shunt/doctor.h"

#define DEFAULT_SOCKET "/run/shunt/control.sock"

struct invocation {
	const char *socket;
	bool json;
};

enum takes { TAKES_NOTHING, TAKES_NAME, TAKES_SETTINGS };

struct command {
	const char *object;
	const char *action; /* NULL: the object alone is the command */
	const char *verb;
	enum takes takes;
	const char *help;
};

static const struct command commands[] = {
	{"vif", "add", "vif.add", TAKES_SETTINGS, "make a vif"},
	{"vif", "del", "vif.del", TAKES_NAME, "remove it; its guest is detached"},
	{"vif", "list", "vif.list", TAKES_NOTHING, "all vifs, a line each"},
	{"vif", "show", "vif.show", TAKES_NAME, "all about one"},
	{"vif", "set", "vif.set", TAKES_SETTINGS, "change some of its keys"},
	{"vif", "kick", "vif.kick", TAKES_NAME, "detach its guest"},
	{"vif", "rehome", "vif.rehome", TAKES_NAME, "move it to another worker, under traffic"},
	{"port", "add", "port.add", TAKES_SETTINGS, "make a port"},
	{"port", "del", "port.del", TAKES_NAME, "remove it"},
	{"port", "list", "port.list", TAKES_NOTHING, "all ports, a line each"},
	{"port", "show", "port.show", TAKES_NAME, "all about one"},
	{"fdb", NULL, "fdb.list", TAKES_NOTHING, "which address is at which port"},
	{"stats", NULL, "stats", TAKES_NOTHING, "every counter"},
	{"doctor", NULL, "doctor", TAKES_NOTHING, "what is wrong, why, and the cure"},
	{"shutdown", NULL, "shutdown", TAKES_NOTHING, "end shuntd"},
};

static void usage(FILE *out)
{
	static const char *const arguments[] = {[TAKES_NOTHING] = "",
		[TAKES_NAME] = "NAME",
		[TAKES_SETTINGS] = "NAME [KEY=VALUE]..."};

	(void)fprintf(out, "usage: shunt [--json] [--socket PATH] COMMAND\n\n");
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = &commands[i];
		char line[64];

		(void)snprintf(line, sizeof(line), "%s%s%s %s", c->object, c->action ? " " : "",
			c->action ? c->action : "", arguments[c->takes]);
		(void)fprintf(out, "  %-32s %s\n", line, c->help);
	}
	(void)fprintf(out, "\nThe keys are those of shuntd.conf(5).\n");
}

static enum exit_code bad(const char *where, const char *what)
{
	(void)fprintf(stderr, "shunt: %s: %s\n", where, what);
	return EXIT_BAD;
}

static enum exit_code say_error(
	const char *command, enum exit_code code, const struct client_error *error)
{
	(void)fprintf(stderr, "shunt: %s: %s%s%s\n", command, error->text,
		error->cure[0] ? "; " : "", error->cure);
	return code;
}

/* *used: how many words name it. */
static const struct command *find_command(char **words, int n, int *used)
{
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = &commands[i];

		*used = c->action ? 2 : 1;
		if (n >= *used && !strcmp(words[0], c->object) &&
			(!c->action || !strcmp(words[1], c->action)))
			return c;
	}
	return NULL;
}

/* KEY=VALUE into the arguments. A user's name is looked up here: shuntd, confined, cannot. */
static bool add_setting(json_t *args, const char *word, char *why, size_t size)
{
	const char *equals = strchr(word, '=');
	char key[64];
	uid_t uid;
	size_t len = equals ? (size_t)(equals - word) : 0;

	if (len == 0 || len >= sizeof(key)) {
		(void)snprintf(why, size, "%.80s: not KEY=VALUE", word);
		return false;
	}
	memcpy(key, word, len);
	key[len] = '\0';
	if (!strcmp(key, "name") || json_object_get(args, key)) {
		(void)snprintf(why, size, "%.60s is given twice", key);
		return false;
	}
	if (strcmp(key, "owner") != 0)
		return !json_object_set_new(args, key, json_string(equals + 1)) ||
		       (snprintf(why, size, "%.60s: not UTF-8", key), false);
	if (!value_user(equals + 1, &uid)) {
		(void)snprintf(why, size, "owner = %.60s: there is no such user", equals + 1);
		return false;
	}
	return !json_object_set_new(args, key, json_integer(uid));
}

static enum exit_code make_args(
	const struct command *command, const char *where, char **words, int n, json_t **args)
{
	char why[160];

	*args = NULL;
	if (command->takes == TAKES_NOTHING)
		return n ? bad(where, "takes no argument") : EXIT_OK;
	if (n == 0 || strchr(words[0], '='))
		return bad(where, "NAME is missing");
	if (command->takes == TAKES_NAME && n > 1)
		return bad(where, "takes NAME and nothing more");
	*args = json_pack("{s:s}", "name", words[0]);
	if (!*args)
		return bad(where, "NAME is not UTF-8");
	for (int i = 1; i < n; i++) {
		if (!add_setting(*args, words[i], why, sizeof(why))) {
			json_decref(*args);
			return bad(where, why);
		}
	}
	return EXIT_OK;
}

static enum exit_code doctor(const struct invocation *run)
{
	json_t *checks = json_array();
	struct client_error error;
	json_t *result;
	json_t *check;
	json_t *report;
	unsigned failed = 0;
	size_t i;
	bool ok;

	doctor_machine(checks, run->socket);
	if (client_ask(run->socket, "doctor", NULL, &result, &error) == EXIT_OK)
		(void)json_array_extend(checks, result);
	else
		doctor_check(checks, "fail", "shuntd", "cannot be asked", error.text, error.cure);
	json_decref(result);
	json_array_foreach (checks, i, check) {
		const char *status = json_string_value(json_object_get(check, "status"));

		failed += status && !strcmp(status, "fail");
	}
	report = json_pack("{s:i, s:o}", "failed", (int)failed, "checks", checks);
	ok = run->json ? display(stdout, report, true)
		       : display_checks(stdout, json_object_get(report, "checks"));
	json_decref(report);
	return ok && !failed ? EXIT_OK : EXIT_REFUSED;
}

static enum exit_code ask(const struct invocation *run, const struct command *command,
	const char *where, json_t *args)
{
	struct client_error error;
	json_t *result;
	enum exit_code code = client_ask(run->socket, command->verb, args, &result, &error);

	if (code != EXIT_OK)
		return say_error(where, code, &error);
	if (!result && run->json)
		result = json_object();
	if (result && (!display(stdout, result, run->json) || fflush(stdout)))
		code = EXIT_REFUSED;
	json_decref(result);
	return code;
}

static enum exit_code execute(const struct invocation *run, char **words, int n)
{
	const struct command *command;
	enum exit_code code;
	json_t *args;
	char where[64];
	int used;

	if (n == 0)
		return bad("a command is missing", "shunt --help lists them");
	command = find_command(words, n, &used);
	if (!command) {
		(void)snprintf(where, sizeof(where), "%.30s%s%.30s", words[0], n > 1 ? " " : "",
			n > 1 ? words[1] : "");
		return bad(where, "there is no such command; shunt --help lists them");
	}
	(void)snprintf(where, sizeof(where), "%s%s%s", command->object, command->action ? " " : "",
		command->action ? command->action : "");
	code = make_args(command, where, words + used, n - used, &args);
	if (code != EXIT_OK)
		return code;
	return strcmp(command->verb, "doctor") ? ask(run, command, where, args) : doctor(run);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
		{"socket", required_argument, NULL, 's'}, {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'}, {NULL, 0, NULL, 0}};
	struct invocation run = {.socket = getenv("SHUNT_SOCKET")};
	int option;

	if (!run.socket || !*run.socket)
		run.socket = DEFAULT_SOCKET;
	while ((option = getopt_long(argc, argv, "js:hV", options, NULL)) != -1) {
		switch (option) {
		case 'j':
			run.json = true;
			break;
		case 's':
			run.socket = optarg;
			break;
		case 'h':
			usage(stdout);
			return EXIT_OK;
		case 'V':
			(void)puts("shunt " SHUNT_VERSION);
			return EXIT_OK;
		default:
			return EXIT_BAD;
		}
	}
	return execute(&run, argv + optind, argc - optind);
}
