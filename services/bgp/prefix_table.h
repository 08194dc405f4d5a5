// A hash table from prefixes to slots, of sixteen octets for IPv4 and 32 for IPv6: both the routes of a peer (adj_rib_in) and
// those advertised to it (adj_rib_out) can be a million, so a route is its slot and nothing else. Open addressing with linear
// probing, a part for each address family; a removal moves later slots back, so a slot's address holds until the next insertion
// or removal only.
#ifndef TWINSPAN_BGP_PREFIX_TABLE_H
#define TWINSPAN_BGP_PREFIX_TABLE_H

#include "services/bgp/bgp.h"
#include "services/bgp/family.h"

enum { PREFIX_SLOT_EMPTY = 0xff };

struct prefix_slot {
	struct bgp_attributes *attributes; // the table's user holds the reference
	uint8_t length;                    // PREFIX_SLOT_EMPTY: no entry
	// adj_rib_out: one bit for each session of the set.
	uint8_t known;     // the peer has this prefix from us
	uint8_t current;   // and what it has is what it should have
	uint8_t pending;   // the session has it in its list of what to look at
	uint8_t address[]; // as many octets as the family has
};

struct prefix_part {
	uint8_t *slots;
	size_t capacity; // a power of two, or 0
	size_t count;
};
struct prefix_table {
	struct prefix_part parts[FAMILIES];
	size_t count;      // of all
	uint64_t hash_key; // odd; prefixes are chosen by strangers
};

void prefix_table_init(struct prefix_table *table, uint64_t hash_key);
void prefix_table_fini(struct prefix_table *table); // empties it
struct prefix_slot *prefix_table_find(const struct prefix_table *table, const struct prefix *prefix);
struct prefix_slot *prefix_table_insert(struct prefix_table *table, const struct prefix *prefix); // finds it, or adds it zeroed
void prefix_table_remove(struct prefix_table *table, const struct prefix *prefix, struct prefix_slot *slot); // of `prefix`
// The slot at or after position `at`, and whose it is; NULL at the end. Removing the slot returned and asking for its own
// position again visits every slot.
struct prefix_slot *prefix_table_next(const struct prefix_table *table, size_t *at, struct prefix *prefix);

#endif
