// Items as values: their names, comparison and copies.
#ifndef TWINSPAN_VROUTER_ITEM_H
#define TWINSPAN_VROUTER_ITEM_H

#include "services/vrouter/vrouter.h"

struct item_key {
	uint8_t octets[40];
	uint8_t length;
};

// Two items with one key cannot stand in a namespace together.
struct item_key item_key(const struct vrouter_item *item);
struct bytes item_key_bytes(const struct item_key *key);
bool item_equal(const struct vrouter_item *a, const struct vrouter_item *b);
struct vrouter_item *item_copy(const struct vrouter_item *item);
void item_free(void *item); // one that item_copy made

#endif
