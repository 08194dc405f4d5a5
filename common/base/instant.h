// Monotonic time as a value. A core never asks for it: it comes in with every event.
#ifndef TWINSPAN_BASE_INSTANT_H
#define TWINSPAN_BASE_INSTANT_H

#include <stdint.h>

typedef int64_t instant; // microseconds of CLOCK_MONOTONIC
typedef int64_t duration; // microseconds

#define INSTANT_NEVER INT64_MAX
#define MILLISECONDS(n) ((duration)(n)*1000)
#define SECONDS(n) ((duration)(n)*1000000)

static inline instant instant_min(instant a, instant b)
{
	return a < b ? a : b;
}

static inline instant instant_max(instant a, instant b)
{
	return a > b ? a : b;
}

#endif
