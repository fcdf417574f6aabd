/* SPDX-License-Identifier: BSD-3-Clause */
#include "programs/shuntd/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Both kinds of threads: memory (pools grow and shrink), locks, clocks, descriptors that are open already. */
static const int common_calls[] = {SCMP_SYS(brk), SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep), SCMP_SYS(close), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_pwait2), SCMP_SYS(epoll_wait), SCMP_SYS(exit), SCMP_SYS(exit_group),
	SCMP_SYS(fallocate), SCMP_SYS(fchmod), SCMP_SYS(fcntl), SCMP_SYS(fstat),
	SCMP_SYS(ftruncate), SCMP_SYS(futex), SCMP_SYS(getpid), SCMP_SYS(getrandom),
	SCMP_SYS(gettid), SCMP_SYS(gettimeofday), SCMP_SYS(lseek), SCMP_SYS(madvise),
	SCMP_SYS(memfd_create), SCMP_SYS(mremap), SCMP_SYS(munmap), SCMP_SYS(nanosleep),
	SCMP_SYS(newfstatat), SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(recvfrom),
	SCMP_SYS(recvmmsg), SCMP_SYS(recvmsg), SCMP_SYS(restart_syscall), SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_yield), SCMP_SYS(sendmmsg), SCMP_SYS(sendmsg), SCMP_SYS(sendto),
	SCMP_SYS(tgkill), SCMP_SYS(write), SCMP_SYS(writev)};

/* The control thread: guests come and go, their regions and event channels; requests; ports from open descriptors. */
static const int control_calls[] = {SCMP_SYS(accept4), SCMP_SYS(dup), SCMP_SYS(epoll_create1),
	SCMP_SYS(eventfd2), SCMP_SYS(fstatfs), SCMP_SYS(getegid), SCMP_SYS(geteuid),
	SCMP_SYS(getgid), SCMP_SYS(getpeername), SCMP_SYS(getrusage), SCMP_SYS(getsockname),
	SCMP_SYS(getsockopt), SCMP_SYS(getuid), SCMP_SYS(ioctl), SCMP_SYS(poll),
	SCMP_SYS(setsockopt), SCMP_SYS(shutdown), SCMP_SYS(signalfd4), SCMP_SYS(socketpair),
	SCMP_SYS(sysinfo), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(uname),
	SCMP_SYS(wait4)};

static int capabilities_set(uint64_t keep)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	struct __user_cap_data_struct have[2] = {0};

	if (syscall(SYS_capget, &header, have))
		return -errno;
	for (unsigned i = 0; i < 2; i++) {
		data[i].permitted = (uint32_t)(keep >> (32 * i)) & have[i].permitted;
		data[i].effective = data[i].permitted;
	}
	return syscall(SYS_capset, &header, data) ? -errno : 0;
}

int opener_confine(void)
{
	const uint64_t keep = 1ull << CAP_NET_ADMIN | 1ull << CAP_NET_RAW | 1ull << CAP_SYS_ADMIN |
			      1ull << CAP_CHOWN | 1ull << CAP_FOWNER | 1ull << CAP_DAC_OVERRIDE;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return capabilities_set(keep);
}

/* The bounding set too: without CAP_SETPCAP (not started by root) it stays, and no_new_privs makes it moot. */
int sandbox_drop(const char *user)
{
	if (user[0]) {
		const struct passwd *who = getpwnam(user);

		if (!who)
			return -ENOENT;
		if (setgroups(0, NULL) || setresgid(who->pw_gid, who->pw_gid, who->pw_gid) ||
			setresuid(who->pw_uid, who->pw_uid, who->pw_uid))
			return -errno;
	}
	for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
		(void)prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return capabilities_set(0);
}

static int allow(scmp_filter_ctx filter, const int *calls, size_t n)
{
	int err = 0;

	for (size_t i = 0; i < n && !err; i++)
		err = seccomp_rule_add_exact(filter, SCMP_ACT_ALLOW, calls[i], 0);
	return err;
}

/* Memory is never made executable; files are opened for reading only; of sockets only AF_UNIX ones are made. */
static int allow_conditional(scmp_filter_ctx filter, bool control)
{
	int err = seccomp_rule_add_exact(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
		SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));

	if (!err)
		err = seccomp_rule_add_exact(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (err || !control)
		return err;
	err = seccomp_rule_add_exact(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
		SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
	if (!err)
		err = seccomp_rule_add_exact(
			filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	if (!err) /* asking for limits, not changing them */
		err = seccomp_rule_add_exact(
			filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A2(SCMP_CMP_EQ, 0));
	return err;
}

static int confine(enum sandbox_mode mode, bool control)
{
	scmp_filter_ctx filter;
	int err;

	if (mode == SANDBOX_NO)
		return 0;
	filter = seccomp_init(mode == SANDBOX_KILL ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		return -ENOMEM;
	/* Both are worth having, not worth failing for: an old kernel or library lacks them. */
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	err = allow(filter, common_calls, ARRAY_SIZE(common_calls));
	if (!err && control)
		err = allow(filter, control_calls, ARRAY_SIZE(control_calls));
	if (!err)
		err = allow_conditional(filter, control);
	if (!err)
		err = seccomp_load(filter);
	seccomp_release(filter);
	return err;
}

int sandbox_worker(enum sandbox_mode mode)
{
	return confine(mode, false);
}

int sandbox_control(enum sandbox_mode mode)
{
	return confine(mode, true);
}
