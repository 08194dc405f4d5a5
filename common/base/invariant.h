// Assertions that stay in production. A core states what must hold of its own state; where it does not, the process says what and where, wipes
// its secrets and ends: its supervisor starts it again from what its neighbours hold, which is better than going on with a state that cannot be.
// Never for input: what a peer, a user or another service sent is refused with an error or a counter.
#ifndef TWINSPAN_BASE_INVARIANT_H
#define TWINSPAN_BASE_INVARIANT_H

// invariant(sa->count <= SAS_MAX); the condition has no side effects.
#define invariant(condition) ((condition) ? (void)0 : invariant_violated(#condition, __FILE__, __LINE__))

// Reports, wipes, and ends the process with SIGABRT.
_Noreturn void invariant_violated(const char *what, const char *file, int line);

// Who says it: process_begin (common/io/process.h) sets a function that writes a log line. It may not allocate.
typedef void invariant_report_fn(const char *what, const char *file, int line);
void invariant_on_violation(invariant_report_fn *report);

enum { INVARIANT_WIPES_MAX = 8 };
// Called before the process ends, to overwrite key material. At most INVARIANT_WIPES_MAX in a process.
typedef void invariant_wipe_fn(void *context);
void invariant_wipe_at_end(invariant_wipe_fn *wipe, void *context);
void invariant_wipe_end(void *context); // forgets what was registered with this context

#endif
