// A host's addresses, looked up without holding the loop up: the system's resolver has no call that does not block, so a thread
// asks it.
#ifndef TWINSPAN_IO_RESOLVE_H
#define TWINSPAN_IO_RESOLVE_H

#include "common/io/loop.h"

struct resolve;
// `addresses` are numeric, in the resolver's order, valid during the call. None: `error` says why.
typedef void resolve_fn(void *context, char *const *addresses, size_t count, const char *error);

// Calls `done` once. NULL when no thread can be made.
struct resolve *resolve_start(struct loop *loop, const char *host, resolve_fn *done, void *context);
// Forgets an answer that has not come, or frees what is left of one that has. The thread ends when the resolver lets it go.
void resolve_end(struct resolve **resolve);

#endif
