/* SPDX-License-Identifier: BSD-3-Clause */
#include "programs/shuntd/opener.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "programs/common/value.h"
#include "programs/shuntd/sandbox.h"

enum {
	OPENER_SOCKETS = VSWITCH_PORTS + 8, /* that exist at once */
	OPENER_BACKLOG = 16,
};

enum opener_op {
	OPEN_LISTEN,
	OPEN_UNLINK,
	OPEN_CHOWN,
	OPEN_TAP,
	OPEN_PACKET,
	OPEN_CAPTURE,
	OPENER_OPS
};

struct opener_request {
	uint32_t op;
	uint32_t number; /* socket type; queues; writing */
	uint32_t uid;
	uint32_t mode;
	char name[PATH_SIZE];
	char netns[PATH_SIZE];
};

struct opener_reply {
	int32_t status;
	uint32_t nfds;
	char name[TAP_NAME];
};

struct opener {
	int fd;
	pid_t pid;
};

/* ---- the process ---- */

/* What it has besides its socket. Its working directory is the run directory. */
struct opening {
	int captures; /* O_PATH */
	int own_netns;
	unsigned nsockets;
	char (*sockets)[PORT_NAME_MAX + 1 + sizeof(".sock")];
};

static bool terminated(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static bool socket_name_ok(const char *name)
{
	size_t len = strlen(name);

	return len > strlen(".sock") && value_name(name, PORT_NAME_MAX + strlen(".sock")) &&
	       !strcmp(name + len - strlen(".sock"), ".sock");
}

/* The one validator of requests. */
static bool request_ok(const struct opener_request *request, ssize_t size)
{
	if (size != (ssize_t)sizeof(*request) ||
		!terminated(request->name, sizeof(request->name)) ||
		!terminated(request->netns, sizeof(request->netns)) || request->op >= OPENER_OPS)
		return false;
	switch ((enum opener_op)request->op) {
	case OPEN_LISTEN:
		return socket_name_ok(request->name) &&
		       (request->number == SOCK_SEQPACKET || request->number == SOCK_STREAM) &&
		       !(request->mode & ~0660u);
	case OPEN_UNLINK:
	case OPEN_CHOWN:
		return socket_name_ok(request->name);
	case OPEN_TAP:
		return request->number >= 1 && request->number <= OPENER_QUEUES &&
		       strlen(request->name) < TAP_NAME && !strchr(request->name, '/');
	case OPEN_PACKET:
		return strlen(request->name) < TAP_NAME && !strchr(request->name, '/');
	case OPEN_CAPTURE:
		return request->number <= 1 && request->name[0] && request->name[0] != '/';
	default:
		return false;
	}
}

static unsigned socket_index(const struct opening *o, const char *name)
{
	unsigned i = 0;

	while (i < o->nsockets && strcmp(o->sockets[i], name) != 0)
		i++;
	return i;
}

static int do_unlink(struct opening *o, const char *name)
{
	unsigned i = socket_index(o, name);

	if (i == o->nsockets)
		return -ENOENT;
	memmove(o->sockets[i], o->sockets[--o->nsockets], sizeof(o->sockets[0]));
	return unlink(name) ? -errno : 0;
}

static int do_chown(struct opening *o, const char *name, uid_t uid)
{
	if (socket_index(o, name) == o->nsockets)
		return -ENOENT;
	return fchownat(AT_FDCWD, name, uid, (gid_t)-1, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
}

/* The umask is 0177, so nobody can connect before the owner and the mode are as they are to be. */
static int do_listen(struct opening *o, const struct opener_request *request)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;
	int err;
	int fd;

	if (o->nsockets == OPENER_SOCKETS)
		return -ENOSPC;
	if (socket_index(o, request->name) != o->nsockets)
		return -EEXIST;
	memcpy(address.sun_path, request->name, strlen(request->name));
	if (!lstat(request->name, &st)) {
		/* Of a shuntd that was killed together with its opener: the run directory is ours. */
		if (!S_ISSOCK(st.st_mode))
			return -EEXIST;
		(void)unlink(request->name);
	}
	fd = socket(AF_UNIX, (int)request->number | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		err = -errno;
		(void)close(fd);
		return err;
	}
	memcpy(o->sockets[o->nsockets++], request->name, strlen(request->name) + 1);
	if ((request->uid != geteuid() &&
		    fchownat(AT_FDCWD, request->name, request->uid, (gid_t)-1, 0)) ||
		chmod(request->name, request->mode) || listen(fd, OPENER_BACKLOG)) {
		err = -errno;
		(void)do_unlink(o, request->name);
		(void)close(fd);
		return err;
	}
	return fd;
}

/* Enter a network namespace. -EINVAL: the file is none; then it was not even opened. */
static int netns_enter(const char *path)
{
	char link[32];
	struct statfs fs;
	int err = 0;
	int name = open(path, O_PATH | O_CLOEXEC);
	int fd;

	if (name < 0)
		return -errno;
	if (fstatfs(name, &fs) || fs.f_type != NSFS_MAGIC) {
		(void)close(name);
		return -EINVAL;
	}
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", name);
	fd = open(link, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		err = -errno;
	if (fd >= 0)
		(void)close(fd);
	(void)close(name);
	return err;
}

static int do_device(struct opening *o, const struct opener_request *request, int *fds,
	struct opener_reply *reply)
{
	int err = request->netns[0] ? netns_enter(request->netns) : 0;

	if (err)
		return err;
	if (request->op == OPEN_TAP) {
		err = tap_open_fds(request->name, request->number, fds, reply->name);
		if (!err)
			reply->nfds = request->number;
	} else {
		fds[0] = af_packet_open_fd(request->name);
		err = MIN(fds[0], 0);
		if (!err)
			reply->nfds = 1;
	}
	if (request->netns[0] && setns(o->own_netns, CLONE_NEWNET))
		_exit(1); /* what it would open next would be in the wrong place */
	return err;
}

static int do_capture(struct opening *o, const struct opener_request *request)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	long fd;

	if (request->number) {
		how.flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
		how.mode = 0600;
	}
	fd = syscall(SYS_openat2, o->captures, request->name, &how, sizeof(how));
	return fd < 0 ? -errno : (int)fd;
}

static int do_request(struct opening *o, const struct opener_request *request, int *fds,
	struct opener_reply *reply)
{
	int fd;

	switch ((enum opener_op)request->op) {
	case OPEN_UNLINK:
		return do_unlink(o, request->name);
	case OPEN_CHOWN:
		return do_chown(o, request->name, request->uid);
	case OPEN_TAP:
	case OPEN_PACKET:
		return do_device(o, request, fds, reply);
	case OPEN_LISTEN:
		fd = do_listen(o, request);
		break;
	default:
		fd = do_capture(o, request);
		break;
	}
	if (fd < 0)
		return fd;
	fds[0] = fd;
	reply->nfds = 1;
	return 0;
}

static bool send_reply(int sock, struct opener_reply *reply, const int *fds)
{
	struct iovec iov = {reply, sizeof(*reply)};
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int) * OPENER_QUEUES)];
	} control = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (reply->nfds) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * reply->nfds);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int) * reply->nfds);
		memcpy(CMSG_DATA(&control.head), fds, sizeof(int) * reply->nfds);
	}
	return sendmsg(sock, &msg, MSG_NOSIGNAL) == (ssize_t)sizeof(*reply);
}

/* Serve until shuntd is gone. Signals meant for shuntd reach the opener too when they are sent to the group; it has to
 * outlive them. */
static void opener_run(int sock, struct opening *o)
{
	for (;;) {
		struct opener_request request;
		struct opener_reply reply = {0};
		int fds[OPENER_QUEUES] = {0};
		ssize_t size = recv(sock, &request, sizeof(request), MSG_TRUNC);

		if (size < 0 && errno == EINTR)
			continue;
		if (size <= 0)
			return;
		reply.status =
			request_ok(&request, size) ? do_request(o, &request, fds, &reply) : -EINVAL;
		if (reply.status)
			reply.nfds = 0;
		if (!send_reply(sock, &reply, fds))
			return;
		for (unsigned i = 0; i < reply.nfds; i++)
			(void)close(fds[i]);
	}
}

static void opener_main(int sock, const struct opener_config *config, struct opening *o)
{
	sigset_t all;

	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	(void)prctl(PR_SET_NAME, "shuntd-opener");
	(void)umask(0177);
	(void)opener_confine();
	opener_run(sock, o);
	while (o->nsockets)
		(void)do_unlink(o, o->sockets[o->nsockets - 1]);
	(void)unlink(config->pid_file);
	_exit(0);
}

int opener_start(struct opener **out, const struct opener_config *config)
{
	const char *captures = config->captures[0] ? config->captures : config->run;
	struct opening o = {.captures = -1, .own_netns = -1};
	struct opener *opener = calloc(1, sizeof(*opener));
	int pair[2] = {-1, -1};
	int err = -ENOMEM;

	o.sockets = calloc(OPENER_SOCKETS, sizeof(o.sockets[0]));
	if (!opener || !o.sockets)
		goto done;
	o.captures = open(captures, O_PATH | O_DIRECTORY | O_CLOEXEC);
	o.own_netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (o.captures < 0 || o.own_netns < 0 ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		err = -errno;
		goto done;
	}
	opener->pid = fork();
	if (opener->pid == 0) {
		(void)close(pair[0]);
		if (chdir(config->run))
			_exit(1);
		opener_main(pair[1], config, &o);
	}
	err = opener->pid < 0 ? -errno : 0;
	opener->fd = pair[0];
done:
	if (o.captures >= 0)
		(void)close(o.captures);
	if (o.own_netns >= 0)
		(void)close(o.own_netns);
	free(o.sockets);
	if (pair[1] >= 0)
		(void)close(pair[1]);
	if (err) {
		if (pair[0] >= 0)
			(void)close(pair[0]);
		free(opener);
		return err;
	}
	*out = opener;
	return 0;
}

/* ---- shuntd's side ---- */

void opener_stop(struct opener *opener)
{
	if (!opener)
		return;
	(void)close(opener->fd);
	while (waitpid(opener->pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(opener);
}

/* Returns the number of descriptors, at most `max`. */
static int call(struct opener *opener, const struct opener_request *request,
	struct opener_reply *reply, int *fds, unsigned max)
{
	struct iovec iov = {reply, sizeof(*reply)};
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int) * OPENER_QUEUES)];
	} control;
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t got;

	if (send(opener->fd, request, sizeof(*request), MSG_NOSIGNAL) != (ssize_t)sizeof(*request))
		return -EPIPE;
	do {
		got = recvmsg(opener->fd, &msg, MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got != (ssize_t)sizeof(*reply))
		return -EPIPE;
	if (reply->status)
		return reply->status;
	if (reply->nfds > max || (reply->nfds && (msg.msg_flags & MSG_CTRUNC)))
		return -EMFILE;
	if (reply->nfds)
		memcpy(fds, CMSG_DATA(&control.head), sizeof(int) * reply->nfds);
	return (int)reply->nfds;
}

/* False: a text does not fit. */
static bool request_make(struct opener_request *request, enum opener_op op, uint32_t number,
	const char *name, const char *netns)
{
	size_t len = strlen(name);
	size_t netns_len = strlen(netns);

	memset(request, 0, sizeof(*request));
	if (len >= sizeof(request->name) || netns_len >= sizeof(request->netns))
		return false;
	request->op = op;
	request->number = number;
	memcpy(request->name, name, len);
	memcpy(request->netns, netns, netns_len);
	return true;
}

/* A request that is answered by one descriptor. */
static int call_fd(struct opener *opener, const struct opener_request *request)
{
	struct opener_reply reply;
	int fd = -1;
	int n = call(opener, request, &reply, &fd, 1);

	return n < 0 ? n : n == 1 ? fd : -EPROTO;
}

int opener_listen(struct opener *opener, const char *name, int type, uid_t uid, mode_t mode)
{
	struct opener_request request;

	if (!request_make(&request, OPEN_LISTEN, (uint32_t)type, name, ""))
		return -EINVAL;
	request.uid = uid;
	request.mode = mode;
	return call_fd(opener, &request);
}

int opener_unlink(struct opener *opener, const char *name)
{
	struct opener_request request;
	struct opener_reply reply;

	if (!request_make(&request, OPEN_UNLINK, 0, name, ""))
		return -EINVAL;
	return call(opener, &request, &reply, NULL, 0);
}

bool opener_alive(struct opener *opener)
{
	/* A request that it refuses. */
	return opener_unlink(opener, "") == -EINVAL;
}

int opener_chown(struct opener *opener, const char *name, uid_t uid)
{
	struct opener_request request;
	struct opener_reply reply;

	if (!request_make(&request, OPEN_CHOWN, 0, name, ""))
		return -EINVAL;
	request.uid = uid;
	return call(opener, &request, &reply, NULL, 0);
}

int opener_tap(struct opener *opener, const char *netns, const char *ifname, unsigned queues,
	int *fds, char actual_name[TAP_NAME])
{
	struct opener_request request;
	struct opener_reply reply;
	int n;

	if (queues == 0 || queues > OPENER_QUEUES ||
		!request_make(&request, OPEN_TAP, queues, ifname, netns))
		return -EINVAL;
	n = call(opener, &request, &reply, fds, queues);
	if (n < 0)
		return n;
	if (n != (int)queues || !terminated(reply.name, sizeof(reply.name)))
		return -EPROTO;
	memcpy(actual_name, reply.name, TAP_NAME);
	return 0;
}

int opener_packet(struct opener *opener, const char *netns, const char *ifname)
{
	struct opener_request request;

	return request_make(&request, OPEN_PACKET, 0, ifname, netns) ? call_fd(opener, &request)
								     : -EINVAL;
}

int opener_capture(struct opener *opener, const char *path, bool write)
{
	struct opener_request request;

	return request_make(&request, OPEN_CAPTURE, write, path, "") ? call_fd(opener, &request)
								     : -EINVAL;
}
