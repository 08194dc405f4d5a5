// See invariant.h.
#include "common/base/invariant.h"

#include <stddef.h>
#include <stdlib.h>

static invariant_report_fn *reporter;
static struct {
	invariant_wipe_fn *wipe;
	void *context;
} wipes[INVARIANT_WIPES_MAX];

void invariant_on_violation(invariant_report_fn *report)
{
	reporter = report;
}

void invariant_wipe_at_end(invariant_wipe_fn *wipe, void *context)
{
	for (size_t i = 0; i < INVARIANT_WIPES_MAX; i++) {
		if (!wipes[i].wipe) {
			wipes[i].wipe = wipe;
			wipes[i].context = context;
			return;
		}
	}
	invariant_violated("at most INVARIANT_WIPES_MAX wipes in a process", __FILE__, __LINE__);
}

void invariant_wipe_end(void *context)
{
	for (size_t i = 0; i < INVARIANT_WIPES_MAX; i++) {
		if (wipes[i].wipe && wipes[i].context == context) {
			wipes[i].wipe = NULL;
		}
	}
}

void invariant_violated(const char *what, const char *file, int line)
{
	// A wipe that finds a violation itself must not come back here for ever.
	invariant_report_fn *report = reporter;
	reporter = NULL;
	if (report) {
		report(what, file, line);
	}
	for (size_t i = 0; i < INVARIANT_WIPES_MAX; i++) {
		invariant_wipe_fn *wipe = wipes[i].wipe;
		wipes[i].wipe = NULL;
		if (wipe) {
			wipe(wipes[i].context);
		}
	}
	abort();
}
