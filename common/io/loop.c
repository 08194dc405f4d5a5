// The loop of loop.h. czmq's zloop turns it and watches the ZeroMQ sockets; all other descriptors stand behind one epoll
// descriptor in it, so that a service with a thousand connections does not pay for each of them at each turn. Deadlines are a
// binary heap in front of one timerfd (microseconds, where zloop's own timers have milliseconds). SIGTERM and SIGINT come
// through a signalfd: nothing is lost between looking at a flag and going to sleep.
#include "common/io/loop.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/io/log.h"

enum { EVENTS = 64 };

struct watch {               // one descriptor; by number
	uint32_t generation; // of the registration: an event that was fetched before it ended is not delivered after
	uint32_t events;
	loop_fn *readable;
	void *readable_context;
	loop_fn *writable;
	void *writable_context;
};

struct socket_watch {
	struct loop *loop;
	zsock_t *socket;
	loop_fn *readable;
	void *context;
	struct socket_watch *next;
};

struct loop {
	zloop_t *zloop;
	int epoll, timer, signals;
	bool stopped;
	sigset_t signals_before;
	struct watch *watches;
	size_t watches_count;
	uint32_t generation;
	struct socket_watch *sockets;
	struct deadline **heap; // from 1
	size_t heap_count, heap_capacity;
	instant timer_at;
	instant fired_until; // what was due by then has had its turn
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

void loop_read(struct loop *loop, int fd, loop_fn *readable, void *context)
{
	struct watch *watch = watch_of(loop, fd);
	watch->readable = readable;
	watch->readable_context = context;
	watch_update(loop, fd);
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

static int on_epoll(zloop_t *zloop, zmq_pollitem_t *item, void *context)
{
	(void)zloop;
	(void)item;
	struct loop *loop = context;
	struct epoll_event events[EVENTS];
	int count = epoll_wait(loop->epoll, events, EVENTS, 0);
	for (int i = 0; i < count && !loop->stopped; i++) {
		dispatch(loop, &events[i]);
	}
	return loop->stopped ? -1 : 0;
}

// ---- ZeroMQ sockets ----

static int on_socket(zloop_t *zloop, zsock_t *socket, void *context)
{
	(void)zloop;
	(void)socket;
	struct socket_watch *watch = context;
	struct loop *loop = watch->loop;
	watch->readable(watch->context); // may end the watch
	return loop->stopped ? -1 : 0;
}

void loop_socket(struct loop *loop, zsock_t *socket, loop_fn *readable, void *context)
{
	struct socket_watch *watch = allocate(sizeof *watch);
	*watch = (struct socket_watch){loop, socket, readable, context, loop->sockets};
	loop->sockets = watch;
	zloop_reader(loop->zloop, socket, on_socket, watch);
	zloop_reader_set_tolerant(loop->zloop, socket);
}

void loop_socket_end(struct loop *loop, zsock_t *socket)
{
	for (struct socket_watch **at = &loop->sockets; *at; at = &(*at)->next) {
		if ((*at)->socket == socket) {
			struct socket_watch *watch = *at;
			*at = watch->next;
			zloop_reader_end(loop->zloop, socket);
			free(watch);
			return;
		}
	}
}

// ---- deadlines ----

static void place(struct loop *loop, size_t position, struct deadline *deadline)
{
	loop->heap[position] = deadline;
	deadline->position = position;
}

static void sift_up(struct loop *loop, struct deadline *deadline)
{
	size_t position = deadline->position;
	while (position > 1 && loop->heap[position / 2]->at > deadline->at) {
		place(loop, position, loop->heap[position / 2]);
		position /= 2;
	}
	place(loop, position, deadline);
}

static void sift_down(struct loop *loop, struct deadline *deadline)
{
	size_t position = deadline->position;
	for (;;) {
		size_t child = position * 2;
		if (child < loop->heap_count && loop->heap[child + 1]->at < loop->heap[child]->at) {
			child++;
		}
		if (child > loop->heap_count || loop->heap[child]->at >= deadline->at) {
			break;
		}
		place(loop, position, loop->heap[child]);
		position = child;
	}
	place(loop, position, deadline);
}

static void set_timer(struct loop *loop)
{
	instant at = loop->heap_count ? loop->heap[1]->at : INSTANT_NEVER;
	if (at == loop->timer_at) {
		return;
	}
	struct itimerspec setting = {0};
	if (at != INSTANT_NEVER) {
		instant when = at > 0 ? at : 1; // zero would disarm
		setting.it_value = (struct timespec){.tv_sec = when / 1000000, .tv_nsec = when % 1000000 * 1000};
	}
	if (timerfd_settime(loop->timer, TFD_TIMER_ABSTIME, &setting, NULL) < 0) {
		fail("timerfd_settime");
	}
	loop->timer_at = at;
}

static void take_out(struct deadline *deadline)
{
	struct loop *loop = deadline->loop;
	struct deadline *last = loop->heap[loop->heap_count--];
	if (last != deadline) {
		place(loop, deadline->position, last);
		sift_up(loop, last);
		sift_down(loop, last);
	}
	deadline->position = 0;
	deadline->at = INSTANT_NEVER;
}

void deadline_init(struct deadline *deadline, struct loop *loop, loop_fn *fn, void *context)
{
	*deadline = (struct deadline){.loop = loop, .fn = fn, .context = context, .at = INSTANT_NEVER};
}

void deadline_arm(struct deadline *deadline, instant at)
{
	struct loop *loop = deadline->loop;
	if (at == INSTANT_NEVER) {
		deadline_disarm(deadline);
		return;
	}
	// One that arms itself for what is past waits for the next turn, behind the sockets and behind the other deadlines.
	at = at > loop->fired_until ? at : loop->fired_until + 1;
	if (deadline->position && deadline->at == at) {
		return;
	}
	deadline->at = at;
	if (deadline->position == 0) {
		if (loop->heap_count + 1 >= loop->heap_capacity) {
			loop->heap_capacity = loop->heap_capacity ? loop->heap_capacity * 2 : 64;
			loop->heap = reallocate(loop->heap, loop->heap_capacity, sizeof(struct deadline *));
		}
		place(loop, ++loop->heap_count, deadline);
	}
	sift_up(loop, deadline);
	sift_down(loop, deadline);
	set_timer(loop);
}

void deadline_disarm(struct deadline *deadline)
{
	if (deadline->position) {
		take_out(deadline);
		set_timer(deadline->loop);
	}
}

static void on_timer(void *context)
{
	struct loop *loop = context;
	uint64_t expirations;
	if (read(loop->timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN) {
		fail("read of timerfd");
	}
	loop->fired_until = now();
	while (loop->heap_count > 0 && loop->heap[1]->at <= loop->fired_until && !loop->stopped) {
		struct deadline *deadline = loop->heap[1];
		take_out(deadline);
		deadline->fn(deadline->context);
	}
	loop->timer_at = INSTANT_NEVER; // it has fired
	set_timer(loop);
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
	zsys_init();
	zsys_handler_set(NULL);
	loop->zloop = zloop_new();
	if (!loop->zloop) {
		fail("zloop_new");
	}
	zloop_set_nonstop(loop->zloop, true);
	loop->timer_at = INSTANT_NEVER;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	loop->signals = signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK);
	if (loop->epoll < 0 || loop->timer < 0 || loop->signals < 0) {
		fail("descriptors of the loop");
	}
	zmq_pollitem_t item = {.fd = loop->epoll, .events = ZMQ_POLLIN};
	zloop_poller(loop->zloop, &item, on_epoll, loop);
	zloop_poller_set_tolerant(loop->zloop, &item);
	loop_read(loop, loop->timer, on_timer, loop);
	loop_read(loop, loop->signals, on_signal, loop);
	return loop;
}

void loop_free(struct loop **loop_at)
{
	struct loop *loop = *loop_at;
	if (!loop) {
		return;
	}
	while (loop->sockets) {
		loop_socket_end(loop, loop->sockets->socket);
	}
	zloop_destroy(&loop->zloop);
	close(loop->signals);
	close(loop->timer);
	close(loop->epoll);
	sigprocmask(SIG_SETMASK, &loop->signals_before, NULL);
	free(loop->heap);
	free(loop->watches);
	free(loop);
	*loop_at = NULL;
}

int loop_run(struct loop *loop)
{
	while (!loop->stopped) {
		zloop_start(loop->zloop);
	}
	loop->stopped = false;
	return 0;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}
