// libzmq looks at its process's id with every signal between two of its threads, to notice that it was forked, and the C library
// asks the kernel each time: a quarter of all system calls of a service at rest. This getpid takes the place of the C library's
// in the programs that are linked with the bus.
#include "common/bus/process_id.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic pid_t known; // 0: the kernel is asked

pid_t getpid(void)
{
	pid_t id = atomic_load_explicit(&known, memory_order_relaxed);
	return id != 0 ? id : (pid_t)syscall(SYS_getpid);
}

static void ask_again(void)
{
	atomic_store(&known, (pid_t)syscall(SYS_getpid));
}

static void remember(void)
{
	pthread_atfork(NULL, NULL, ask_again);
	ask_again();
}

void process_id_remember(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, remember);
}
