// The kernel's randomness, for seeding a core's generator.
#ifndef TWINSPAN_IO_ENTROPY_H
#define TWINSPAN_IO_ENTROPY_H

#include <stdint.h>
#include "common/base/random.h"

void entropy_fill(void *out, size_t length); // aborts when the kernel has none
void entropy_seed(struct random *random);

#endif
