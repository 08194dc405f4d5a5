// See net_privilege.h. Linux keeps capabilities for each thread; the C library has no function for that, so the calls are made
// directly.
#include "services/esp/net_privilege.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

static bool drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0 && syscall(SYS_capset, &header, none) == 0;
}

#ifdef ARCHITECTURE
// clang-format off
#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
// clang-format on

static bool restrict_calls(void)
{
	static const struct sock_filter program[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    // packets
	    ALLOW(SYS_read),
	    ALLOW(SYS_write),
	    ALLOW(SYS_writev),
	    ALLOW(SYS_recvmmsg),
	    ALLOW(SYS_sendmmsg),
	    ALLOW(SYS_sendmsg),
	// waiting
#ifdef SYS_epoll_wait
	    ALLOW(SYS_epoll_wait),
	    ALLOW(SYS_poll),
#endif
	    ALLOW(SYS_epoll_pwait),
	    ALLOW(SYS_epoll_ctl),
	    ALLOW(SYS_ppoll),
	    ALLOW(SYS_futex),
	    ALLOW(SYS_membarrier),
	    ALLOW(SYS_sched_yield),
	    ALLOW(SYS_clock_gettime),
	    ALLOW(SYS_clock_nanosleep),
	    ALLOW(SYS_nanosleep),
	    ALLOW(SYS_restart_syscall),
	    // memory
	    ALLOW(SYS_mmap),
	    ALLOW(SYS_mremap),
	    ALLOW(SYS_munmap),
	    ALLOW(SYS_madvise),
	    ALLOW(SYS_brk),
	    ALLOW(SYS_mprotect),
	    ALLOW(SYS_rseq),
	    // the thread's end, and the process's after a violated invariant
	    ALLOW(SYS_exit),
	    ALLOW(SYS_exit_group),
	    ALLOW(SYS_rt_sigreturn),
	    ALLOW(SYS_rt_sigprocmask),
	    ALLOW(SYS_rt_sigaction),
	    ALLOW(SYS_getpid),
	    ALLOW(SYS_gettid),
	    ALLOW(SYS_tgkill),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (EPERM & SECCOMP_RET_DATA)),
	};
	struct sock_fprog filter = {.len = sizeof program / sizeof program[0],
	                            .filter = (struct sock_filter *)(uintptr_t)program};
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) == 0;
}
#else
static bool restrict_calls(void)
{
	errno = ENOSYS;
	return false;
}
#endif

bool privileges_drop(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && drop_capabilities() && restrict_calls();
}
