// What every service does first.
#ifndef TWINSPAN_IO_PROCESS_H
#define TWINSPAN_IO_PROCESS_H

#include <stdbool.h>

// Starts the log (log.h); lets the process have as many descriptors as the system allows it (a node holds a thousand sessions and border
// gateways); forbids core dumps and other processes' looks into memory, where keys are; and has a violated invariant
// (common/base/invariant.h) written to the log as "invariant-violated". `node` as in log_init.
void process_begin(const char *service, const char *node);
// Whether a listening socket that failed with `error` may be had later without anybody changing a setting: its address or its folder is not there
// yet, or another process has not let go of it. What such a process exits with is not 2, which supervisors take for "never again".
bool process_may_retry(int error);
// At the start, before the loop turns: says what is missing (the first time) and waits a moment. false when it will never be right. A signal
// that ends the process is obeyed.
bool process_wait_for(const char *setting, const char *where, int error);

#endif
