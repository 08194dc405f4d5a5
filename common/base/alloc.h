// Memory that is there or the process ends: a service that cannot allocate a few hundred octets is restarted by its supervisor
// rather than limping. Input from a stranger never decides a size here without a bound checked before.
#ifndef TWINSPAN_BASE_ALLOC_H
#define TWINSPAN_BASE_ALLOC_H

#include <stddef.h>

void *allocate(size_t size); // zeroed
void *allocate_array(size_t count, size_t size); // zeroed, overflow checked
void *reallocate(void *memory, size_t count, size_t size); // overflow checked; new octets are not zeroed
char *duplicate_text(const char *text); // NULL stays NULL
char *format_text(const char *format, ...) __attribute__((format(printf, 1, 2), nonnull(1)));

#endif
