// See attribute_set.h.
#include "services/bgp/attribute_set.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/base/map.h"
#include "services/bgp/as_path.h"

enum { SMALLEST = 64 };

void attribute_pool_init(struct attribute_pool *pool, const uint8_t hash_key[static 16])
{
	*pool = (struct attribute_pool){.capacity = SMALLEST, .next_serial = 1};
	pool->buckets = allocate_array(SMALLEST, sizeof(struct bgp_attributes *));
	memcpy(pool->hash_key, hash_key, sizeof pool->hash_key);
}

void attribute_pool_bury(struct attribute_pool *pool)
{
	while (pool->dead) {
		struct bgp_attributes *next = pool->dead->next;
		free(pool->dead);
		pool->dead = next;
	}
}

void attribute_pool_fini(struct attribute_pool *pool)
{
	attribute_pool_bury(pool);
	for (size_t i = 0; i < pool->capacity; i++) {
		while (pool->buckets[i]) {
			struct bgp_attributes *next = pool->buckets[i]->next;
			free(pool->buckets[i]);
			pool->buckets[i] = next;
		}
	}
	free(pool->buckets);
}

static void grow(struct attribute_pool *pool)
{
	size_t capacity = pool->capacity * 2;
	struct bgp_attributes **buckets = allocate_array(capacity, sizeof(struct bgp_attributes *));
	for (size_t i = 0; i < pool->capacity; i++) {
		while (pool->buckets[i]) {
			struct bgp_attributes *moved = pool->buckets[i];
			pool->buckets[i] = moved->next;
			moved->next = buckets[moved->hash & (capacity - 1)];
			buckets[moved->hash & (capacity - 1)] = moved;
		}
	}
	free(pool->buckets);
	pool->buckets = buckets;
	pool->capacity = capacity;
}

static void append(struct bgp_attributes *set, size_t *at, struct bytes run)
{
	if (run.length) {
		memcpy(set->octets + *at, run.data, run.length);
	}
	*at += run.length;
}

static struct bgp_attributes *set_of(const struct attribute_draft *draft)
{
	size_t length =
	           draft->as_path.length + draft->communities.length + draft->large_communities.length + draft->others.length,
	       at = 0;
	struct bgp_attributes *set = allocate(sizeof *set + length);
	set->origin = draft->origin;
	set->has_med = draft->has_med;
	set->atomic_aggregate = draft->atomic_aggregate;
	set->med = draft->med;
	set->next_hop = draft->next_hop;
	// A message has 4,096 octets; an AS path of two-octet ASes at most doubles.
	invariant(length <= UINT16_MAX);
	set->as_path_octets = (uint16_t)draft->as_path.length;
	set->communities_octets = (uint16_t)draft->communities.length;
	set->large_communities_octets = (uint16_t)draft->large_communities.length;
	set->others_octets = (uint16_t)draft->others.length;
	append(set, &at, draft->as_path);
	append(set, &at, draft->communities);
	append(set, &at, draft->large_communities);
	append(set, &at, draft->others);
	return set;
}

// What makes two sets equal: everything from next_hop on, the padding being zero by allocation.
static struct bytes identity_of(const struct bgp_attributes *set)
{
	size_t start = offsetof(struct bgp_attributes, next_hop);
	size_t runs =
	    (size_t)set->as_path_octets + set->communities_octets + set->large_communities_octets + set->others_octets;
	return (struct bytes){(const uint8_t *)set + start, offsetof(struct bgp_attributes, octets) - start + runs};
}

struct bgp_attributes *attributes_intern(struct attribute_pool *pool, const struct attribute_draft *draft)
{
	struct bgp_attributes *set = set_of(draft);
	set->hash = siphash(pool->hash_key, identity_of(set));
	for (struct bgp_attributes *have = pool->buckets[set->hash & (pool->capacity - 1)]; have; have = have->next) {
		if (have->hash == set->hash && bytes_equal(identity_of(have), identity_of(set))) {
			free(set);
			return attributes_hold(have);
		}
	}
	if (pool->count == pool->capacity) {
		grow(pool);
	}
	set->references = 1;
	set->serial = pool->next_serial++;
	set->next = pool->buckets[set->hash & (pool->capacity - 1)];
	pool->buckets[set->hash & (pool->capacity - 1)] = set;
	pool->count++;
	return set;
}

struct bgp_attributes *attributes_hold(struct bgp_attributes *attributes)
{
	invariant(attributes->references > 0 && attributes->references < UINT32_MAX);
	attributes->references++;
	return attributes;
}

void attributes_release(struct attribute_pool *pool, struct bgp_attributes *attributes)
{
	if (!attributes) {
		return;
	}
	invariant(attributes->references > 0);
	if (--attributes->references > 0) {
		return;
	}
	invariant(pool->count > 0);
	struct bgp_attributes **link = &pool->buckets[attributes->hash & (pool->capacity - 1)];
	while (*link != attributes) {
		link = &(*link)->next;
	}
	*link = attributes->next;
	pool->count--;
	attributes->next = pool->dead;
	pool->dead = attributes;
}

struct bytes attributes_as_path(const struct bgp_attributes *attributes)
{
	return (struct bytes){attributes->octets, attributes->as_path_octets};
}

struct bytes attributes_communities(const struct bgp_attributes *attributes)
{
	return (struct bytes){attributes->octets + attributes->as_path_octets, attributes->communities_octets};
}

void bgp_attributes_view(const struct bgp_attributes *attributes, struct bgp_attributes_view *out)
{
	*out = (struct bgp_attributes_view){
	    .origin = attributes->origin,
	    .has_med = attributes->has_med,
	    .med = attributes->med,
	    .next_hop = attributes->next_hop,
	    .as_path = attributes_as_path(attributes),
	    .communities = attributes_communities(attributes),
	};
	out->as_path_length = as_path_length(out->as_path);
}
