// See fib.h. A node covers 8 bits: 256 slots, each with the value of the longest prefix that ends inside this node and covers
// the slot, and perhaps a child. Prefixes are not pushed into children: the reader remembers the last value it passed. So a
// change touches one node, at most 256 slots of it. What a removed prefix hid is found again in a hash table of all prefixes,
// which only the writer uses.
#include "services/esp/fib.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <urcu-qsbr.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "services/esp/grace.h"

struct fib_node;
struct fib_children {
	struct rcu_head head;
	_Atomic(struct fib_node *) at[256];
};
struct fib_node {
	_Atomic uint32_t value[256];
	_Atomic(struct fib_children *) children; // NULL while there are none
	uint32_t used;                           // prefixes that end here, and children
	uint32_t child_count;
	uint8_t length[256]; // 1 + bits of the prefix whose value the slot has; 0: none
	struct rcu_head head;
};
struct fib_prefix {
	uint8_t address[16];
	uint32_t value; // 0: free
	uint8_t octets, length;
};
struct fib {
	struct fib_node *root[2]; // IPv4, IPv6
	struct fib_prefix *prefixes;
	size_t capacity, count; // capacity is a power of two
	size_t nodes, tables;
	uint64_t seed;
};

struct fib *fib_new(uint64_t hash_seed)
{
	struct fib *fib = allocate(sizeof *fib);
	fib->seed = hash_seed;
	fib->capacity = 64;
	fib->prefixes = allocate_array(fib->capacity, sizeof *fib->prefixes);
	fib->root[0] = allocate(sizeof *fib->root[0]);
	fib->root[1] = allocate(sizeof *fib->root[1]);
	fib->nodes = 2;
	return fib;
}

static void free_node(struct fib_node *node)
{
	struct fib_children *children = atomic_load(&node->children);
	for (unsigned i = 0; children && i < 256; i++) {
		struct fib_node *child = atomic_load(&children->at[i]);
		if (child) {
			free_node(child);
		}
	}
	free(children);
	free(node);
}

void fib_free(struct fib **fib)
{
	if (*fib) {
		free_node((*fib)->root[0]);
		free_node((*fib)->root[1]);
		free((*fib)->prefixes);
		free(*fib);
		*fib = NULL;
	}
}

// ---- the hash table of prefixes (open addressing, linear) ----

static size_t home_of(const struct fib *fib, const uint8_t address[static 16], uint8_t octets, uint8_t length)
{
	uint64_t words[2];
	memcpy(words, address, sizeof words);
	uint64_t hash = fib->seed ^ ((uint64_t)octets << 8 | length);
	for (int i = 0; i < 2; i++) {
		hash = (hash ^ words[i]) * 0x9fb21c651e98df25u;
		hash ^= hash >> 29;
	}
	hash *= 0xbf58476d1ce4e5b9u;
	return (size_t)(hash ^ hash >> 32) & (fib->capacity - 1);
}

static struct fib_prefix *slot_of(const struct fib *fib, const uint8_t address[static 16], uint8_t octets, uint8_t length)
{
	for (size_t i = home_of(fib, address, octets, length);; i = (i + 1) & (fib->capacity - 1)) {
		struct fib_prefix *at = &fib->prefixes[i];
		if (at->value == 0 ||
		    (at->octets == octets && at->length == length && memcmp(at->address, address, sizeof at->address) == 0)) {
			return at;
		}
	}
}

static void grow(struct fib *fib)
{
	struct fib_prefix *old = fib->prefixes;
	size_t capacity = fib->capacity;
	fib->capacity *= 2;
	fib->prefixes = allocate_array(fib->capacity, sizeof *fib->prefixes);
	for (size_t i = 0; i < capacity; i++) {
		if (old[i].value) {
			*slot_of(fib, old[i].address, old[i].octets, old[i].length) = old[i];
		}
	}
	free(old);
}

static void vacate(struct fib *fib, struct fib_prefix *hole)
{
	size_t mask = fib->capacity - 1;
	size_t gap = (size_t)(hole - fib->prefixes);
	for (size_t i = (gap + 1) & mask; fib->prefixes[i].value; i = (i + 1) & mask) {
		const struct fib_prefix *at = &fib->prefixes[i];
		size_t home = home_of(fib, at->address, at->octets, at->length);
		if (((i - home) & mask) >= ((i - gap) & mask)) {
			fib->prefixes[gap] = *at;
			gap = i;
		}
	}
	memset(&fib->prefixes[gap], 0, sizeof fib->prefixes[gap]);
	invariant(fib->count > 0);
	fib->count--;
}

uint32_t fib_find(const struct fib *fib, const struct prefix *prefix)
{
	return slot_of(fib, prefix->address.octets, prefix->address.length, prefix->length)->value;
}

// ---- the trie ----

// The node's depth in octets: the one in whose 8 bits the prefix ends (0 bits: the root).
static unsigned depth_of(unsigned length)
{
	return length == 0 ? 0 : (length - 1) / 8;
}

static struct fib_node *child_of(const struct fib_node *node, unsigned slot)
{
	struct fib_children *children = atomic_load_explicit(&node->children, memory_order_acquire);
	return children ? atomic_load_explicit(&children->at[slot], memory_order_acquire) : NULL;
}

static struct fib_node *make_child(struct fib *fib, struct fib_node *node, unsigned slot)
{
	struct fib_children *children = atomic_load_explicit(&node->children, memory_order_relaxed);
	if (!children) {
		children = allocate(sizeof *children);
		fib->tables++;
		atomic_store_explicit(&node->children, children, memory_order_release);
	}
	struct fib_node *child = allocate(sizeof *child);
	invariant(!child_of(node, slot));
	fib->nodes++;
	node->used++;
	node->child_count++;
	atomic_store_explicit(&children->at[slot], child, memory_order_release);
	return child;
}

struct span {
	unsigned first, count;
};

// The slots of its node that a prefix covers.
static struct span span_of(const uint8_t *address, unsigned length)
{
	unsigned bits = length - 8 * depth_of(length);
	unsigned count = 256u >> bits;
	return (struct span){.first = address[depth_of(length)] & ~(count - 1) & 0xff, .count = count};
}

uint32_t fib_set(struct fib *fib, const struct prefix *prefix, uint32_t value)
{
	const uint8_t *address = prefix->address.octets;
	uint8_t octets = prefix->address.length, length = prefix->length;
	struct fib_prefix *entry = slot_of(fib, address, octets, length);
	uint32_t before = entry->value;
	if (before == 0) {
		if (2 * (fib->count + 1) > fib->capacity) {
			grow(fib);
			entry = slot_of(fib, address, octets, length);
		}
		fib->count++;
		memcpy(entry->address, address, sizeof entry->address);
		entry->octets = octets;
		entry->length = length;
	}
	entry->value = value;
	invariant(value != 0 && 2 * fib->count <= fib->capacity);
	struct fib_node *node = fib->root[octets == 16];
	for (unsigned depth = 0; depth < depth_of(length); depth++) {
		struct fib_node *child = child_of(node, address[depth]);
		node = child ? child : make_child(fib, node, address[depth]);
	}
	node->used += before == 0;
	struct span span = span_of(address, length);
	for (unsigned i = span.first; i < span.first + span.count; i++) {
		if (node->length[i] <= length + 1) {
			node->length[i] = (uint8_t)(length + 1);
			atomic_store_explicit(&node->value[i], value, memory_order_release);
		}
	}
	return before;
}

static void free_node_rcu(struct rcu_head *head)
{
	grace_over(head);
	free(caa_container_of(head, struct fib_node, head));
}

static void free_children_rcu(struct rcu_head *head)
{
	grace_over(head);
	free(caa_container_of(head, struct fib_children, head));
}

// Takes empty nodes away, from the one at `depth` up.
static void prune(struct fib *fib, struct fib_node *const path[], const uint8_t *address, unsigned depth)
{
	for (; depth > 0 && path[depth]->used == 0; depth--) {
		struct fib_node *parent = path[depth - 1];
		struct fib_children *children = atomic_load_explicit(&parent->children, memory_order_relaxed);
		atomic_store_explicit(&children->at[address[depth - 1]], NULL, memory_order_release);
		invariant(path[depth]->child_count == 0 && parent->used > 0 && parent->child_count > 0);
		parent->used--;
		if (--parent->child_count == 0) {
			atomic_store_explicit(&parent->children, NULL, memory_order_release);
			fib->tables--;
			grace_retired(&children->head);
			call_rcu(&children->head, free_children_rcu);
		}
		fib->nodes--;
		grace_retired(&path[depth]->head);
		call_rcu(&path[depth]->head, free_node_rcu);
	}
}

uint32_t fib_remove(struct fib *fib, const struct prefix *prefix)
{
	const uint8_t *address = prefix->address.octets;
	uint8_t octets = prefix->address.length, length = prefix->length;
	struct fib_prefix *entry = slot_of(fib, address, octets, length);
	uint32_t before = entry->value;
	if (before == 0) {
		return 0;
	}
	vacate(fib, entry);
	// What it hid inside its node.
	unsigned depth = depth_of(length);
	unsigned shortest = depth == 0 ? 0 : 8 * depth + 1;
	uint32_t value = 0;
	uint8_t mark = 0;
	for (unsigned l = length; l-- > shortest && value == 0;) {
		struct prefix cover = prefix_of(&prefix->address, (uint8_t)l);
		value = fib_find(fib, &cover);
		mark = value ? (uint8_t)(l + 1) : 0;
	}
	struct fib_node *path[16] = {fib->root[octets == 16]};
	for (unsigned i = 0; i < depth; i++) {
		path[i + 1] = child_of(path[i], address[i]);
	}
	struct fib_node *node = path[depth];
	struct span span = span_of(address, length);
	for (unsigned i = span.first; i < span.first + span.count; i++) {
		if (node->length[i] == length + 1) {
			node->length[i] = mark;
			atomic_store_explicit(&node->value[i], value, memory_order_release);
		}
	}
	invariant(node->used > 0);
	node->used--;
	prune(fib, path, address, depth);
	return before;
}

uint32_t fib_lookup(const struct fib *fib, const uint8_t *address, unsigned octets)
{
	const struct fib_node *node = fib->root[octets == 16];
	uint32_t best = 0;
	for (unsigned i = 0; i < octets && node; i++) {
		uint32_t value = atomic_load_explicit(&node->value[address[i]], memory_order_acquire);
		best = value ? value : best;
		node = child_of(node, address[i]);
	}
	return best;
}

void fib_each(const struct fib *fib, void (*each)(void *context, const struct prefix *prefix, uint32_t value), void *context)
{
	for (size_t i = 0; i < fib->capacity; i++) {
		const struct fib_prefix *at = &fib->prefixes[i];
		if (at->value) {
			struct prefix prefix = {.address.length = at->octets, .length = at->length};
			memcpy(prefix.address.octets, at->address, sizeof at->address);
			each(context, &prefix, at->value);
		}
	}
}

struct inside {
	const struct fib *fib;
	const struct prefix *outer;
	void (*each)(void *context, const struct prefix *prefix, uint32_t value);
	void *context;
};

static void if_inside(void *context, const struct prefix *prefix, uint32_t value)
{
	const struct inside *inside = context;
	if (prefix->length > inside->outer->length && prefix_contains(inside->outer, prefix)) {
		inside->each(inside->context, prefix, value);
	}
}

// Every prefix that may end in this node is looked up by itself, since longer ones can hide it from the slots.
static void walk(const struct inside *inside, const struct fib_node *node, struct prefix *at, unsigned depth)
{
	for (unsigned bits = 1; bits <= 8; bits++) {
		for (unsigned i = 0; i < 1u << bits; i++) {
			at->address.octets[depth] = (uint8_t)(i << (8 - bits));
			at->length = (uint8_t)(8 * depth + bits);
			uint32_t value = fib_find(inside->fib, at);
			if (value) {
				if_inside((void *)(uintptr_t)inside, at, value);
			}
		}
	}
	for (unsigned slot = 0; slot < 256; slot++) {
		const struct fib_node *child = child_of(node, slot);
		at->address.octets[depth] = (uint8_t)slot;
		at->length = (uint8_t)(8 * depth + 8);
		if (child && (at->length <= inside->outer->length || prefix_contains(inside->outer, at))) {
			walk(inside, child, at, depth + 1);
		}
	}
	at->address.octets[depth] = 0;
}

void fib_each_inside(const struct fib *fib, const struct prefix *outer,
                     void (*each)(void *context, const struct prefix *prefix, uint32_t value), void *context)
{
	struct inside inside = {fib, outer, each, context};
	if (outer->length < 8) {
		fib_each(fib, if_inside, &inside);
		return;
	}
	struct prefix at = {.address.length = outer->address.length};
	const struct fib_node *node = fib->root[outer->address.length == 16];
	unsigned depth = 0;
	for (; node && depth < outer->length / 8u; depth++) {
		at.address.octets[depth] = outer->address.octets[depth];
		node = child_of(node, outer->address.octets[depth]);
	}
	if (node) {
		walk(&inside, node, &at, depth);
	}
}

size_t fib_count(const struct fib *fib)
{
	return fib->count;
}

size_t fib_memory(const struct fib *fib)
{
	return fib->nodes * sizeof(struct fib_node) + fib->tables * sizeof(struct fib_children) +
	       fib->capacity * sizeof(struct fib_prefix);
}
