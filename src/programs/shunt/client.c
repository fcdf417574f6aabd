/* SPDX-License-Identifier: BSD-3-Clause */
#include "programs/shunt/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define START_IT                                                                                   \
	"start it: systemctl start shuntd, or shuntd -c FILE; or name its socket: --socket, SHUNT_SOCKET"

static enum exit_code unreachable(
	struct client_error *error, const char *path, const char *what, const char *cure)
{
	(void)snprintf(error->text, sizeof(error->text), "shuntd cannot be reached at %.200s: %s",
		path, what);
	(void)snprintf(error->cure, sizeof(error->cure), "%s", cure);
	return EXIT_UNREACHABLE;
}

/* Returns the socket or a negative errno. */
static int reach(const char *path)
{
	const struct timeval patience = {.tv_sec = CLIENT_PATIENCE};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
		connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		int err = -errno;

		(void)close(fd);
		return err;
	}
	return fd;
}

static bool send_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = send(fd, text, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		text += n;
		len -= (size_t)n;
	}
	return true;
}

static enum exit_code take_answer(json_t *answer, json_t **result, struct client_error *error)
{
	const char *what = json_string_value(json_object_get(answer, "error"));

	if (json_is_true(json_object_get(answer, "ok"))) {
		*result = json_incref(json_object_get(answer, "result"));
		return EXIT_OK;
	}
	(void)snprintf(error->text, sizeof(error->text), "%s",
		what ? what : "an answer that makes no sense");
	return json_object_get(answer, "field") ? EXIT_BAD : EXIT_REFUSED;
}

/* Takes fd and request. */
static enum exit_code converse(
	int fd, const char *path, json_t *request, json_t **result, struct client_error *error)
{
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	FILE *in = fdopen(fd, "r");
	json_t *answer = NULL;
	enum exit_code code;

	errno = 0;
	if (text && in && send_all(fd, text, strlen(text)) && send_all(fd, "\n", 1))
		answer = json_loadf(in, JSON_DISABLE_EOF_CHECK, NULL);
	if (answer)
		code = take_answer(answer, result, error);
	else if (errno == EAGAIN)
		code = unreachable(error, path, "it does not answer",
			"look at its log; shuntd may have to be restarted");
	else
		code = unreachable(error, path, "it hung up",
			"only root and the user that shuntd runs as are served");
	json_decref(answer);
	json_decref(request);
	free(text);
	if (in)
		(void)fclose(in);
	else
		(void)close(fd);
	return code;
}

enum exit_code client_ask(const char *socket_path, const char *verb, json_t *args, json_t **result,
	struct client_error *error)
{
	int fd = reach(socket_path);

	*result = NULL;
	*error = (struct client_error){"", ""};
	if (fd >= 0)
		return converse(fd, socket_path,
			json_pack("{s:s, s:o*}", "verb", verb, "args", args), result, error);
	json_decref(args);
	if (fd == -EACCES || fd == -EPERM)
		return unreachable(error, socket_path, strerror(-fd),
			"be root, or the user that shuntd runs as");
	return unreachable(error, socket_path, strerror(-fd), START_IT);
}
