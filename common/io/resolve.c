// See resolve.h. The question is shared by the loop and the thread; the last of the two frees it.
#include "common/io/resolve.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/alloc.h"

enum { ADDRESSES = 16, STACK = 256 << 10 };

struct question {
	atomic_int holders;
	int answered; // an eventfd
	char *host;
	int error; // getaddrinfo's
	size_t count;
	char *addresses[ADDRESSES];
};

struct resolve {
	struct loop *loop;
	struct question *question;
	resolve_fn *done;
	void *context;
	bool watched;
};

static void release(struct question *question)
{
	if (atomic_fetch_sub(&question->holders, 1) != 1) {
		return;
	}
	close(question->answered);
	for (size_t i = 0; i < question->count; i++) {
		free(question->addresses[i]);
	}
	free(question->host);
	free(question);
}

static void *ask(void *argument)
{
	struct question *question = argument;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
	question->error = getaddrinfo(question->host, NULL, &hints, &found);
	for (struct addrinfo *at = found; at && question->count < ADDRESSES; at = at->ai_next) {
		char text[NI_MAXHOST];
		if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0) {
			question->addresses[question->count++] = duplicate_text(text);
		}
	}
	if (found) {
		freeaddrinfo(found);
	}
	eventfd_write(question->answered, 1);
	release(question);
	return NULL;
}

static void on_answer(void *context)
{
	struct resolve *resolve = context;
	struct question *question = resolve->question;
	eventfd_t value;
	eventfd_read(question->answered, &value);
	loop_read_end(resolve->loop, question->answered);
	resolve->watched = false;
	const char *error = question->error ? gai_strerror(question->error) : "it has no address";
	resolve->done(resolve->context, question->addresses, question->count, question->count ? NULL : error);
}

static bool start_thread(struct question *question)
{
	pthread_attr_t attributes;
	pthread_t thread;
	sigset_t all, before;
	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	int error = pthread_create(&thread, &attributes, ask, question);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return error == 0;
}

struct resolve *resolve_start(struct loop *loop, const char *host, resolve_fn *done, void *context)
{
	struct question *question = allocate(sizeof *question);
	question->host = duplicate_text(host);
	question->answered = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	atomic_init(&question->holders, 2);
	if (question->answered < 0 || !start_thread(question)) {
		atomic_store(&question->holders, 1);
		release(question);
		return NULL;
	}
	struct resolve *resolve = allocate(sizeof *resolve);
	*resolve = (struct resolve){loop, question, done, context, true};
	loop_read(loop, question->answered, on_answer, resolve);
	return resolve;
}

void resolve_end(struct resolve **resolve_at)
{
	struct resolve *resolve = *resolve_at;
	if (!resolve) {
		return;
	}
	if (resolve->watched) {
		loop_read_end(resolve->loop, resolve->question->answered);
	}
	release(resolve->question);
	free(resolve);
	*resolve_at = NULL;
}
