// Interned sets of path attributes: routes with equal attributes share one, so an UPDATE costs one look-up and a million routes
// cost the memory of their distinct sets. Used for what peers send and for what we advertise alike.
#ifndef TWINSPAN_BGP_ATTRIBUTE_SET_H
#define TWINSPAN_BGP_ATTRIBUTE_SET_H

#include "services/bgp/bgp.h"

// What is decoded, before it is interned. The runs are somebody else's memory.
struct attribute_draft {
	uint8_t origin;
	bool has_med;
	bool atomic_aggregate;
	uint32_t med;
	struct address next_hop;
	struct bytes as_path;           // segments, four octets an AS
	struct bytes communities;       // RFC 1997
	struct bytes large_communities; // RFC 8092
	struct bytes others; // whole attributes as received that would be passed on: AGGREGATOR, extended communities, unknown
	                     // transitive ones
};

struct bgp_attributes {
	uint32_t references;
	uint32_t serial; // in the order of interning: the same input sorts the same way
	uint64_t hash;
	struct bgp_attributes *next; // in its bucket, or in the list of the dead
	struct address next_hop;
	uint32_t med;
	uint8_t origin;
	bool has_med;
	bool atomic_aggregate;
	uint16_t as_path_octets, communities_octets, large_communities_octets, others_octets;
	uint8_t octets[]; // the four runs
};

struct attribute_pool {
	struct bgp_attributes **buckets;
	size_t capacity; // a power of two
	size_t count;
	uint32_t next_serial;
	struct bgp_attributes *dead; // kept until attribute_pool_bury: actions may still name them
	uint8_t hash_key[16];
};

void attribute_pool_init(struct attribute_pool *pool, const uint8_t hash_key[static 16]);
void attribute_pool_fini(struct attribute_pool *pool);
void attribute_pool_bury(struct attribute_pool *pool);
// Returns a set with one reference more.
struct bgp_attributes *attributes_intern(struct attribute_pool *pool, const struct attribute_draft *draft);
struct bgp_attributes *attributes_hold(struct bgp_attributes *attributes);
void attributes_release(struct attribute_pool *pool, struct bgp_attributes *attributes); // NULL is allowed
struct bytes attributes_as_path(const struct bgp_attributes *attributes);
struct bytes attributes_communities(const struct bgp_attributes *attributes);

#endif
