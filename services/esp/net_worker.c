// See net_worker.h. A worker without packets sleeps in epoll without a timeout, outside of RCU's sight.
#include "services/esp/net_worker.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/base/secret.h"
#include "common/io/entropy.h"
#include "common/io/log.h"
#include "services/esp/net_burst.h"
#include "services/esp/net_privilege.h"

enum {
	EVENTS = 32,
	LINGER = 50,     // microseconds awake after the last packet; others may have the processor meanwhile
	BUSY_GAP = 1000, // microseconds: packets that come closer together than this are of one run
};

static void *run(void *context)
{
	struct worker *w = context;
	struct epoll_event events[EVENTS];
	instant last = 0, busy_until = 0;
	if (!privileges_drop()) {
		atomic_store(&w->workers->kept, errno);
		workers_tell(w->workers);
	}
	esp_worker_register(w->core);
	while (!atomic_load_explicit(&w->workers->stop, memory_order_relaxed)) {
		int count;
		if (now() < busy_until) {
			// More comes soon as a rule, and waking up costs more than looking again, most of all on a virtual
			// processor.
			count = epoll_wait(w->epoll, events, EVENTS, 0);
			if (count == 0) {
				sched_yield();
				esp_worker_quiescent(w->core);
				continue;
			}
		} else {
			esp_worker_sleep(w->core);
			count = epoll_wait(w->epoll, events, EVENTS, -1);
			esp_worker_wake(w->core);
		}
		for (int i = 0; i < count; i++) {
			worker_serve(w, events[i].data.u32);
		}
		instant end = now();
		w->in_run = end - last >= BUSY_GAP ? 0 : w->in_run < BUSY_RUN ? w->in_run + 1 : w->in_run;
		busy_until = w->in_run == BUSY_RUN ? end + LINGER : 0;
		last = end;
	}
	esp_worker_unregister(w->core);
	return NULL;
}

bool worker_watch(struct worker *worker, int fd, uint32_t port)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = port};
	return epoll_ctl(worker->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

// ---- the control thread's ----

void workers_tell(struct workers *workers)
{
	uint64_t one = 1;
	while (write(workers->event, &one, sizeof one) < 0 && errno == EINTR) {
	}
}

static void told(void *context)
{
	struct workers *workers = context;
	uint64_t drained;
	if (read(workers->event, &drained, sizeof drained) < 0) {
		return;
	}
	int kept = atomic_exchange(&workers->kept, 0);
	if (kept) {
		log_event(LOG_WARNING, "workers-keep-privileges", "error", strerror(kept), NULL);
	}
	if (atomic_exchange(&workers->lost, false)) {
		registry_lost(workers);
	}
	if (atomic_load(&workers->moved)) {
		workers->hooks.moved(workers->hooks.context);
	}
}

void workers_rested(struct workers *workers)
{
	atomic_store(&workers->moved, false);
}

static bool start(struct workers *workers, unsigned index)
{
	struct worker *w = &workers->workers[index];
	uint8_t seed[32];
	w->workers = workers;
	w->index = index;
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	entropy_fill(seed, sizeof seed);
	w->core = esp_worker_new(workers->esp, index, seed);
	wipe(seed, sizeof seed);
	worker_buffers_make(w);
	if (w->epoll < 0 || w->wake < 0 || !worker_watch(w, w->wake, PORT_WAKE) ||
	    !worker_watch(w, workers->sockets->udp4500_esp[index], PORT_UDP) ||
	    !worker_watch(w, workers->sockets->raw_esp[index], PORT_RAW)) {
		return false;
	}
	// Signals are the control thread's.
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int failed = pthread_create(&w->thread, NULL, run, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	char name[16];
	snprintf(name, sizeof name, "worker-%u", index % 1000);
	if (!failed) {
		pthread_setname_np(w->thread, name);
	}
	errno = failed;
	return !failed;
}

static void stop(struct worker *w, bool running)
{
	if (running) {
		uint64_t one = 1;
		while (write(w->wake, &one, sizeof one) < 0 && errno == EINTR) {
		}
		pthread_join(w->thread, NULL);
	}
	close(w->epoll);
	close(w->wake);
	esp_worker_free(&w->core);
	worker_buffers_free(w);
}

struct workers *workers_new(struct esp *esp, struct loop *loop, unsigned count, const struct node_sockets *sockets,
                            const struct workers_hooks *hooks)
{
	invariant(count > 0 && count <= ESP_WORKERS_MAX && count == sockets->workers);
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (event < 0) {
		return NULL;
	}
	struct workers *workers = allocate(sizeof *workers);
	workers->esp = esp;
	workers->loop = loop;
	workers->hooks = *hooks;
	workers->sockets = sockets;
	workers->event = event;
	workers->slots = map_new(NULL);
	loop_read(loop, event, told, workers);
	for (unsigned i = 0; i < count; i++) {
		if (!start(workers, i)) {
			int error = errno;
			stop(&workers->workers[i], false);
			workers_free(&workers);
			errno = error;
			return NULL;
		}
		workers->count++;
	}
	return workers;
}

void workers_free(struct workers **workers)
{
	if (!*workers) {
		return;
	}
	struct workers *w = *workers;
	atomic_store(&w->stop, true);
	for (unsigned i = 0; i < w->count; i++) {
		stop(&w->workers[i], true);
	}
	registry_free(w);
	loop_read_end(w->loop, w->event);
	close(w->event);
	free(w);
	*workers = NULL;
}
