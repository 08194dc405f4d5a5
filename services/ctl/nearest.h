// "Did you mean …?": of the words that could have been meant, the one that is nearest to what was typed.
#ifndef TWINSPAN_CTL_NEAREST_H
#define TWINSPAN_CTL_NEAREST_H

#include <stddef.h>

enum { NEAREST_TEXT = 96 };

// Begin with {.given = text}; offer every candidate; then read.
struct nearest {
	const char *given;
	char best[NEAREST_TEXT]; // empty: nothing offered was near
	size_t distance;
};

void nearest_offer(struct nearest *nearest, const char *candidate);
// "; did you mean vpn-tunnel?" or "". Valid until the next call of this function.
const char *nearest_hint(const struct nearest *nearest);

#endif
