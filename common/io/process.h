// What every service does first.
#ifndef TWINSPAN_IO_PROCESS_H
#define TWINSPAN_IO_PROCESS_H

// Starts the log (log.h); lets the process have as many descriptors as the system allows it (a node holds a thousand sessions and border
// gateways); forbids core dumps and other processes' looks into memory, where keys are; and has a violated invariant
// (common/base/invariant.h) written to the log as "invariant-violated". `node` as in log_init.
void process_begin(const char *service, const char *node);

#endif
