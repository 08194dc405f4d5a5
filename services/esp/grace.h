// RCU's grace periods, told to ThreadSanitizer: liburcu is not built with it, so it sees neither that what a worker has read it
// read before it said that it rests, nor that what is freed is freed after all have said so, nor how a thing gets to the thread
// that frees it. In any other build nothing of this is there.
#ifndef TWINSPAN_ESP_GRACE_H
#define TWINSPAN_ESP_GRACE_H

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>

extern char grace_of_workers; // table.c

static inline void grace_rests(void) // a worker refers to nothing
{
	__tsan_release(&grace_of_workers);
}

static inline void grace_retired(void *thing) // by the control thread
{
	__tsan_release(thing);
}

static inline void grace_over(void *thing) // all workers have rested since: it is freed now
{
	__tsan_acquire(thing);
	__tsan_acquire(&grace_of_workers);
}
#else
static inline void grace_rests(void)
{
}

static inline void grace_retired(void *thing)
{
	(void)thing;
}

static inline void grace_over(void *thing)
{
	(void)thing;
}
#endif

#endif
