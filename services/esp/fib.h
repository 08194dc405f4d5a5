// Longest-prefix match: a multibit trie with strides of 8 bits for IPv4 and for IPv6, so a lookup is at most one load per octet
// and a million prefixes change one by one. One writer; readers under RCU.
#ifndef TWINSPAN_ESP_FIB_H
#define TWINSPAN_ESP_FIB_H

#include "common/base/address.h"

struct fib;

struct fib *fib_new(uint64_t hash_seed);
void fib_free(struct fib **fib); // when no reader can see it any more
// `value` is not 0. Returns the value that was there, or 0.
uint32_t fib_set(struct fib *fib, const struct prefix *prefix, uint32_t value);
uint32_t fib_remove(struct fib *fib, const struct prefix *prefix);
uint32_t fib_find(const struct fib *fib, const struct prefix *prefix); // this very prefix; 0 when absent. The writer's.
size_t fib_count(const struct fib *fib);
size_t fib_memory(const struct fib *fib); // octets
// Calls `each` for every prefix. The writer's.
void fib_each(const struct fib *fib, void (*each)(void *context, const struct prefix *prefix, uint32_t value), void *context);
// The same for those that lie inside `outer` and are longer: what is looked at is what the trie has there.
void fib_each_inside(const struct fib *fib, const struct prefix *outer,
                     void (*each)(void *context, const struct prefix *prefix, uint32_t value), void *context);
// The value of the longest prefix that contains the address of 4 or 16 octets; 0 when there is none.
uint32_t fib_lookup(const struct fib *fib, const uint8_t *address, unsigned octets);

#endif
