// See process.h.
#include "common/io/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "common/base/invariant.h"
#include "common/io/log.h"

static void report_violation(const char *what, const char *file, int line)
{
	char where[160];
	snprintf(where, sizeof where, "%s:%d", file, line);
	log_event(LOG_ERROR, "invariant-violated", "what", what, "where", where, "action",
	          "the process ends and its supervisor starts it again: report this line", NULL);
}

void process_begin(const char *service, const char *node)
{
	log_init(service, node);
	invariant_on_violation(report_violation);
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	prctl(PR_SET_DUMPABLE, 0);
}

bool process_may_retry(int error)
{
	static const int passing[] = {EADDRNOTAVAIL, EADDRINUSE, ENODEV, ENETDOWN, ENETUNREACH, ENOENT,
	                              ENOMEM,        ENOBUFS,    EMFILE, ENFILE,   EINTR,       EAGAIN};
	for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++) {
		if (error == passing[i]) {
			return true;
		}
	}
	return false;
}

bool process_wait_for(const char *setting, const char *where, int error)
{
	static const char *said; // for which setting: a service waits for one at a time
	if (!process_may_retry(error)) {
		return false;
	}
	if (said != setting) {
		said = setting;
		log_event(LOG_WARNING, "waiting-for-address", "setting", setting, "where", where, "error", strerror(error),
		          NULL);
	}
	// The loop may have blocked them by now, and does not turn yet.
	sigset_t ending;
	sigemptyset(&ending);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGINT);
	if (sigtimedwait(&ending, NULL, &(struct timespec){.tv_nsec = 200000000}) > 0) {
		exit(0);
	}
	return true;
}
