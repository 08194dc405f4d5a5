// Key material: a type that no log call accepts, compared in constant time and wiped when its life ends.
#ifndef TWINSPAN_BASE_SECRET_H
#define TWINSPAN_BASE_SECRET_H

#include "common/base/bytes.h"

enum { SECRET_CAPACITY = 128 };

struct secret {
	uint16_t length;
	uint8_t octets[SECRET_CAPACITY];
};

bool secret_set(struct secret *secret, struct bytes octets); // false when too long
struct bytes secret_bytes(const struct secret *secret);
bool secret_equal(const struct secret *a, const struct secret *b);
bool constant_time_equal(struct bytes a, struct bytes b); // lengths are not secret
void secret_wipe(struct secret *secret);
void wipe(void *memory, size_t length); // not optimised away

#endif
