// See process.h.
#include "common/io/process.h"

#include <stdio.h>
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
