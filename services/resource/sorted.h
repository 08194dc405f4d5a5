// A map from octet strings (copied in) to pointers (the caller's), in the order of the keys: what is listed in pages, and found
// by a prefix. A balanced tree (AVL); every call costs the logarithm of the number of entries, whatever the keys.
#ifndef TWINSPAN_RESOURCE_SORTED_H
#define TWINSPAN_RESOURCE_SORTED_H

#include "common/base/bytes.h"

struct sorted;

struct sorted *sorted_new(void);
void sorted_free(struct sorted **sorted, void (*free_value)(void *)); // free_value may be NULL
// False, and nothing is changed, when the key is there.
bool sorted_insert(struct sorted *sorted, struct bytes key, void *value);
void *sorted_remove(struct sorted *sorted, struct bytes key); // the value; NULL when absent
size_t sorted_count(const struct sorted *sorted);

struct sorted_entry {
	struct bytes key; // valid until the next insertion or removal
	void *value;
};
// The first entry after `key`, or at it when `at` is set. False: there is none.
bool sorted_after(const struct sorted *sorted, struct bytes key, bool at, struct sorted_entry *entry);

#endif
