// The loop of loop.h. What is due is a heap (common/base/heap.h); how long to wait goes with the wait itself (epoll_pwait2,
// nanoseconds), so that a deadline costs no system call of its own. SIGTERM and SIGINT come through a signalfd: nothing is lost
// between looking at a flag and going to sleep.
#include "common/io/loop.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/log.h"

enum {
	EVENTS = 256, // taken from the kernel at a time
	ROUNDS = 8,   // of what is put off, before the descriptors have their turn again
};

struct watch {               // one descriptor; by number
	uint32_t generation; // of the registration: an event that was fetched before it ended is not delivered after
	uint32_t events;
	bool edge;
	loop_fn *readable;
	void *readable_context;
	loop_fn *writable;
	void *writable_context;
};

struct hook {
	loop_fn *fn; // NULL: ended while the hooks run
	void *context;
	struct hook *next;
};

struct loop {
	int epoll, signals;
	bool stopped;
	sigset_t signals_before;
	struct watch *watches;
	size_t watches_count;
	uint32_t generation;
	struct heap deadlines;
	instant fired_until; // what was due by then has had its turn
	struct hook *hooks;
	bool in_hooks;
	struct soon *soon, **soon_end;
	bool coarse; // the kernel has no epoll_pwait2
	// What the kernel said and nobody was told yet: when the loop is stopped in the middle of a batch it goes on there,
	// since an edge is said once.
	struct epoll_event events[EVENTS];
	int event_count, next_event;
};

instant now(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return (instant)at.tv_sec * 1000000 + at.tv_nsec / 1000;
}

uint64_t wall_clock(void)
{
	struct timespec at;
	clock_gettime(CLOCK_REALTIME, &at);
	return (uint64_t)at.tv_sec * 1000 + (uint64_t)at.tv_nsec / 1000000;
}

static void __attribute__((noreturn)) fail(const char *what)
{
	log_event(LOG_ERROR, "loop-failed", "call", what, "error", strerror(errno), NULL);
	abort();
}

// ---- descriptors ----

static struct watch *watch_of(struct loop *loop, int fd)
{
	invariant(fd >= 0);
	size_t wanted = (size_t)fd + 1;
	if (wanted > loop->watches_count) {
		size_t count = wanted < 64 ? 64 : wanted * 2;
		loop->watches = reallocate(loop->watches, count, sizeof *loop->watches);
		memset(loop->watches + loop->watches_count, 0, (count - loop->watches_count) * sizeof *loop->watches);
		loop->watches_count = count;
	}
	return &loop->watches[fd];
}

// Makes the kernel's registration what the watch says. A descriptor that was closed without saying so is gone from the kernel's
// set already, and its number may be another file by now: hence the second tries.
static void watch_update(struct loop *loop, int fd)
{
	struct watch *watch = watch_of(loop, fd);
	uint32_t events = (watch->readable ? EPOLLIN : 0u) | (watch->writable ? EPOLLOUT : 0u);
	if (events == 0) {
		if (watch->events) {
			epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd, NULL);
		}
		watch->events = 0;
		return;
	}
	events |= watch->edge ? EPOLLET : 0u;
	if (watch->events == 0) {
		watch->generation = ++loop->generation;
	}
	struct epoll_event event = {.events = events, .data.u64 = (uint64_t)watch->generation << 32 | (uint32_t)fd};
	int result = epoll_ctl(loop->epoll, watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
	if (result < 0 && (errno == ENOENT || errno == EEXIST)) {
		result = epoll_ctl(loop->epoll, errno == ENOENT ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event);
	}
	if (result < 0) {
		fail("epoll_ctl");
	}
	watch->events = events;
}

static void read_begin(struct loop *loop, int fd, loop_fn *readable, void *context, bool edge)
{
	struct watch *watch = watch_of(loop, fd);
	watch->readable = readable;
	watch->readable_context = context;
	watch->edge = edge;
	watch_update(loop, fd);
}

void loop_read(struct loop *loop, int fd, loop_fn *readable, void *context)
{
	read_begin(loop, fd, readable, context, false);
}

void loop_read_edge(struct loop *loop, int fd, loop_fn *readable, void *context)
{
	read_begin(loop, fd, readable, context, true);
}

void loop_read_end(struct loop *loop, int fd)
{
	watch_of(loop, fd)->readable = NULL;
	watch_update(loop, fd);
}

void loop_write(struct loop *loop, int fd, loop_fn *writable, void *context)
{
	struct watch *watch = watch_of(loop, fd);
	watch->writable = writable;
	watch->writable_context = context;
	watch_update(loop, fd);
}

void loop_write_end(struct loop *loop, int fd)
{
	watch_of(loop, fd)->writable = NULL;
	watch_update(loop, fd);
}

static void dispatch(struct loop *loop, const struct epoll_event *event)
{
	size_t fd = (uint32_t)event->data.u64;
	uint32_t generation = (uint32_t)(event->data.u64 >> 32);
	invariant(fd < loop->watches_count && generation <= loop->generation);
	// The table may move in a callback: nothing of it is kept over one. An error or a hang-up wakes both sides, for each to
	// find it.
	struct watch watch = loop->watches[fd];
	bool broken = event->events & (EPOLLERR | EPOLLHUP);
	if (watch.generation == generation && watch.readable && (broken || event->events & EPOLLIN)) {
		watch.readable(watch.readable_context);
	}
	watch = loop->watches[fd];
	if (watch.generation == generation && watch.writable && (broken || event->events & EPOLLOUT)) {
		watch.writable(watch.writable_context);
	}
}

// ---- deadlines ----

void deadline_init(struct deadline *deadline, struct loop *loop, loop_fn *fn, void *context)
{
	*deadline = (struct deadline){.entry.at = INSTANT_NEVER, .loop = loop, .fn = fn, .context = context};
}

void deadline_arm(struct deadline *deadline, instant at)
{
	struct loop *loop = deadline->loop;
	// One that arms itself for what is past waits for the next turn, behind the sockets and behind the other deadlines.
	heap_set(&loop->deadlines, &deadline->entry, at > loop->fired_until ? at : loop->fired_until + 1);
}

void deadline_disarm(struct deadline *deadline)
{
	if (deadline->loop) {
		heap_remove(&deadline->loop->deadlines, &deadline->entry);
		deadline->entry.at = INSTANT_NEVER;
	}
}

bool deadline_armed(const struct deadline *deadline)
{
	return deadline->entry.position != 0;
}

static void fire_due(struct loop *loop)
{
	if (heap_due(&loop->deadlines) == INSTANT_NEVER) {
		return;
	}
	instant at = now();
	invariant(at >= loop->fired_until);
	loop->fired_until = at;
	while (heap_due(&loop->deadlines) <= loop->fired_until && !loop->stopped) {
		struct deadline *deadline = (struct deadline *)heap_first(&loop->deadlines);
		heap_remove(&loop->deadlines, &deadline->entry);
		invariant(deadline->loop == loop && !deadline_armed(deadline));
		deadline->entry.at = INSTANT_NEVER;
		deadline->fn(deadline->context);
	}
}

// ---- the end of a batch ----

void loop_after_batch(struct loop *loop, loop_fn *fn, void *context)
{
	struct hook **at = &loop->hooks;
	while (*at) {
		at = &(*at)->next;
	}
	*at = allocate(sizeof **at);
	**at = (struct hook){fn, context, NULL};
}

static void hooks_sweep(struct loop *loop)
{
	for (struct hook **at = &loop->hooks; *at;) {
		struct hook *hook = *at;
		if (hook->fn) {
			at = &hook->next;
		} else {
			*at = hook->next;
			free(hook);
		}
	}
}

void loop_after_batch_end(struct loop *loop, loop_fn *fn, void *context)
{
	for (struct hook *hook = loop->hooks; hook; hook = hook->next) {
		if (hook->fn == fn && hook->context == context) {
			hook->fn = NULL;
		}
	}
	if (!loop->in_hooks) {
		hooks_sweep(loop);
	}
}

void soon_init(struct soon *soon, loop_fn *fn, void *context)
{
	*soon = (struct soon){.fn = fn, .context = context};
}

void loop_soon(struct loop *loop, struct soon *soon)
{
	if (!soon->loop) {
		soon->loop = loop;
		soon->next = NULL;
		*loop->soon_end = soon;
		loop->soon_end = &soon->next;
	}
}

void soon_cancel(struct soon *soon)
{
	struct loop *loop = soon->loop;
	if (!loop) {
		return;
	}
	struct soon **at = &loop->soon;
	while (*at != soon) {
		invariant(*at);
		at = &(*at)->next;
	}
	*at = soon->next;
	if (loop->soon_end == &soon->next) {
		loop->soon_end = at;
	}
	soon->loop = NULL;
}

static void run_soon(struct loop *loop)
{
	// What is asked for meanwhile is for the next round: taken one by one, up to the one that is the last now, since any
	// may be cancelled.
	struct soon marker = {.loop = loop};
	*loop->soon_end = &marker;
	loop->soon_end = &marker.next;
	while (loop->soon != &marker) {
		struct soon *soon = loop->soon;
		soon_cancel(soon);
		soon->fn(soon->context);
	}
	soon_cancel(&marker);
}

static void end_batch(struct loop *loop)
{
	int rounds = 0;
	do {
		if (loop->soon) {
			run_soon(loop);
		}
		loop->in_hooks = true;
		for (struct hook *hook = loop->hooks; hook; hook = hook->next) {
			if (hook->fn) {
				hook->fn(hook->context);
			}
		}
		loop->in_hooks = false;
		hooks_sweep(loop);
	} while (loop->soon && ++rounds < ROUNDS);
	log_flush();
}

// ---- the loop ----

static void on_signal(void *context)
{
	struct loop *loop = context;
	struct signalfd_siginfo info;
	if (read(loop->signals, &info, sizeof info) == sizeof info) {
		log_event(LOG_INFO, "stopping", "signal", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
		loop_stop(loop);
	}
}

struct loop *loop_new(void)
{
	struct loop *loop = allocate(sizeof *loop);
	// Blocked before the first thread is made: ZeroMQ's and the workers' inherit it, so the signal waits for the signalfd.
	sigset_t ending;
	sigemptyset(&ending);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGINT);
	sigprocmask(SIG_BLOCK, &ending, &loop->signals_before);
	signal(SIGPIPE, SIG_IGN);
	loop->soon_end = &loop->soon;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->signals = signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK);
	if (loop->epoll < 0 || loop->signals < 0) {
		fail("descriptors of the loop");
	}
	loop_read(loop, loop->signals, on_signal, loop);
	return loop;
}

void loop_free(struct loop **loop_at)
{
	struct loop *loop = *loop_at;
	if (!loop) {
		return;
	}
	while (loop->hooks) {
		loop->hooks->fn = NULL;
		hooks_sweep(loop);
	}
	while (loop->soon) {
		soon_cancel(loop->soon);
	}
	close(loop->signals);
	close(loop->epoll);
	sigprocmask(SIG_SETMASK, &loop->signals_before, NULL);
	heap_fini(&loop->deadlines);
	free(loop->watches);
	free(loop);
	*loop_at = NULL;
}

static int wait_for(struct loop *loop, duration most)
{
	struct epoll_event *events = loop->events;
	int count = -1;
	if (!loop->coarse) {
		struct timespec limit = {.tv_sec = most / 1000000, .tv_nsec = most % 1000000 * 1000};
		count = epoll_pwait2(loop->epoll, events, EVENTS, most == INSTANT_NEVER ? NULL : &limit, NULL);
		// EPERM: a container's filter that is older than the call.
		loop->coarse = count < 0 && (errno == ENOSYS || errno == EPERM);
	}
	if (loop->coarse) {
		duration milliseconds = most / 1000 + (most % 1000 != 0);
		count = epoll_wait(loop->epoll, events, EVENTS,
		                   most == INSTANT_NEVER  ? -1
		                   : milliseconds < 60000 ? (int)milliseconds
		                                          : 60000);
	}
	if (count < 0 && errno != EINTR) {
		fail("epoll_wait");
	}
	return count < 0 ? 0 : count;
}

int loop_run(struct loop *loop)
{
	log_hold(true);
	while (!loop->stopped) {
		// What was asked for before the loop ran, and what the last batch left.
		duration most = INSTANT_NEVER;
		instant due = heap_due(&loop->deadlines);
		if (loop->soon) {
			most = 0;
		} else if (due != INSTANT_NEVER) {
			instant at = now();
			most = due > at ? due - at : 0;
		}
		if (loop->next_event == loop->event_count) {
			loop->next_event = 0;
			loop->event_count = wait_for(loop, most);
		}
		while (loop->next_event < loop->event_count && !loop->stopped) {
			dispatch(loop, &loop->events[loop->next_event++]);
		}
		fire_due(loop);
		end_batch(loop);
	}
	log_hold(false);
	loop->stopped = false;
	return 0;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}
