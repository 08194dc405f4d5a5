// See index.h. One sorted map holds all indexes: kind, path, value, a zero, place.
#include "services/resource/index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/base/map.h"
#include "services/resource/sorted.h"

struct index {
	struct sorted *rows; // key below -> struct record
	struct map *counts;  // kind, path, value -> how many
};

// `walk`: the path leads through a list, or to a number. `with`: both together ("a+b").
static const struct indexed {
	enum resource_kind kind; // RESOURCE_KINDS: of every kind
	const char *path;
	const char *with;
	bool walk;
} indexed[] = {
    {RESOURCE_KINDS, "", NULL, false},
    {RESOURCE_KINDS, "name", NULL, false},
    {RESOURCE_VPC, "tenant", NULL, false},
    {RESOURCE_SUBNET, "tenant", NULL, false},
    {RESOURCE_VPC_ROUTE_TABLE, "tenant", NULL, false},
    {RESOURCE_BORDER_GATEWAY, "tenant", NULL, false},
    {RESOURCE_VPC_ATTACHMENT, "tenant", NULL, false},
    {RESOURCE_CUSTOMER_GATEWAY, "tenant", NULL, false},
    {RESOURCE_VPN_CONNECTION, "tenant", NULL, false},
    {RESOURCE_VPN_TUNNEL, "tenant", NULL, false},
    {RESOURCE_BORDER_GATEWAY_ROUTE, "tenant", NULL, false},
    {RESOURCE_TOKEN, "tenant", NULL, false},
    {RESOURCE_NODE, "publicAddresses", NULL, true},
    {RESOURCE_NODE, "fabricAddress", NULL, false},
    {RESOURCE_VPC_HOST, "fabricAddress", NULL, false},
    {RESOURCE_VPC, "vpcHostId", NULL, false},
    {RESOURCE_SUBNET, "vpcId", NULL, false},
    {RESOURCE_SUBNET, "routeTableId", NULL, false},
    {RESOURCE_VPC_ROUTE_TABLE, "vpcId", NULL, false},
    {RESOURCE_BORDER_GATEWAY, "nodeIds", NULL, true},
    {RESOURCE_VPC_ATTACHMENT, "borderGatewayId", NULL, false},
    {RESOURCE_VPC_ATTACHMENT, "vpcId", NULL, false},
    {RESOURCE_VPC_ATTACHMENT, "vpcId", "borderGatewayId", false},
    {RESOURCE_VPC_ATTACHMENT, "subnetIds", NULL, true},
    {RESOURCE_VPC_ATTACHMENT, "vni", NULL, true},
    {RESOURCE_VPN_CONNECTION, "borderGatewayId", NULL, false},
    {RESOURCE_VPN_CONNECTION, "customerGatewayId", NULL, false},
    {RESOURCE_VPN_CONNECTION, "cloudAddresses.address", NULL, true},
    {RESOURCE_VPN_CONNECTION, "cloudAddresses.nodeId", NULL, true},
    {RESOURCE_VPN_TUNNEL, "vpnConnectionId", NULL, false},
    {RESOURCE_VPN_TUNNEL, "borderGatewayId", NULL, false},
    {RESOURCE_VPN_TUNNEL, "nodeId", NULL, false},
    {RESOURCE_VPN_TUNNEL, "cloudAddress", "customerAddress", false},
    {RESOURCE_VPN_TUNNEL, "borderGatewayId", "insideCidr", false},
    {RESOURCE_BORDER_GATEWAY_ROUTE, "borderGatewayId", NULL, false},
    {RESOURCE_BORDER_GATEWAY_ROUTE, "borderGatewayId", "destination", false},
    {RESOURCE_BORDER_GATEWAY_ROUTE, "nextHopId", NULL, false},
};
enum { INDEXES = sizeof indexed / sizeof indexed[0] };

static bool is_path(const struct indexed *of, const char *path)
{
	size_t length = strlen(of->path);
	if (strncmp(of->path, path, length) != 0) {
		return false;
	}
	return of->with ? path[length] == '+' && strcmp(path + length + 1, of->with) == 0 : path[length] == '\0';
}

static size_t find(enum resource_kind kind, const char *path)
{
	size_t i = 0;
	while (i < INDEXES && !((indexed[i].kind == RESOURCE_KINDS || indexed[i].kind == kind) && is_path(&indexed[i], path))) {
		i++;
	}
	return i;
}

bool is_indexed(enum resource_kind kind, const char *path)
{
	return find(kind, path) < INDEXES;
}

char *index_pair(const char *a, const char *b, char out[static INDEX_PAIR])
{
	snprintf(out, INDEX_PAIR, "%s\x01%s", a, b);
	return out;
}

// ---- values ----
typedef void value_fn(void *context, const char *text);
struct walker {
	value_fn *fn;
	void *context;
};

static bool walk_value(void *context, const struct record_value *value)
{
	const struct walker *walker = context;
	char number[24];
	snprintf(number, sizeof number, "%llu", (unsigned long long)value->number);
	walker->fn(walker->context, value->text ? value->text : number);
	return true;
}

static void each_value(const struct indexed *of, const struct record *row, value_fn *fn, void *context)
{
	char pair[INDEX_PAIR];
	if (of->walk) {
		record_walk(row, of->path, walk_value, &(struct walker){fn, context});
	} else if (of->with) {
		fn(context, index_pair(record_text(row, of->path), record_text(row, of->with), pair));
	} else {
		fn(context, *of->path ? record_text(row, of->path) : "");
	}
}

struct search {
	const char *text;
	bool found;
};

static void compare_value(void *context, const char *text)
{
	struct search *search = context;
	search->found = search->found || strcmp(search->text, text) == 0;
}

bool index_holds(struct index_key key, const struct record *row)
{
	struct search search = {.text = key.text};
	size_t i = find(key.kind, key.path);
	invariant(i < INDEXES && record_kind(row) == key.kind);
	each_value(&indexed[i], row, compare_value, &search);
	return search.found;
}

// ---- places ----
enum { TIME_OCTETS = INDEX_PLACE - 8 };

struct index_place index_place_at(const char *created_at)
{
	struct index_place place = {0};
	size_t length = strlen(created_at);
	memcpy(place.octets, created_at, length < TIME_OCTETS ? length : TIME_OCTETS);
	return place;
}

struct index_place index_place_of(const struct record *row, uint64_t order)
{
	struct index_place place = index_place_at(record_text(row, "createdAt"));
	for (size_t i = 0; i < 8; i++) {
		place.octets[TIME_OCTETS + i] = (uint8_t)(order >> (56 - 8 * i));
	}
	return place;
}

// ---- keys ----
// Texts of rows are bounded by the rules (256 octets), a pair by INDEX_PAIR; one that is looked for is not.
enum { TEXT_OCTETS = 512, KEY_OCTETS = 2 + TEXT_OCTETS + 1 + INDEX_PLACE };
struct key {
	uint8_t octets[KEY_OCTETS];
	size_t head; // without the place
};

static void make_key(struct key *key, enum resource_kind kind, size_t i, const char *text)
{
	size_t length = strlen(text);
	invariant(i < INDEXES);
	length = length < TEXT_OCTETS ? length : TEXT_OCTETS; // what is longer is found by its beginning
	key->octets[0] = (uint8_t)kind;
	key->octets[1] = (uint8_t)i;
	memcpy(key->octets + 2, text, length);
	key->octets[2 + length] = 0;
	key->head = 2 + length + 1;
}

static struct bytes with_place(struct key *key, const struct index_place *place)
{
	memcpy(key->octets + key->head, place->octets, INDEX_PLACE);
	return (struct bytes){key->octets, key->head + INDEX_PLACE};
}

// ---- rows in and out ----
struct entry {
	struct index *index;
	const struct record *row;
	enum resource_kind kind;
	size_t i;
	struct index_place place;
};

// Names are not counted: tenants choose them, and could choose those that fall together in a hash map.
static bool is_counted(size_t i)
{
	return strcmp(indexed[i].path, "name") != 0;
}

static void count(struct index *index, const struct key *key, bool more)
{
	if (!is_counted(key->octets[1])) {
		return;
	}
	struct bytes head = {key->octets, key->head};
	uintptr_t before = (uintptr_t)map_find(index->counts, head);
	invariant(more || before > 0);
	uintptr_t after = more ? before + 1 : before - 1;
	if (after) {
		map_insert(index->counts, head, (void *)after);
	} else {
		map_remove(index->counts, head);
	}
}

static void add_value(void *context, const char *text)
{
	struct entry *entry = context;
	struct key key;
	make_key(&key, entry->kind, entry->i, text);
	// A value may come twice in one row's list.
	if (sorted_insert(entry->index->rows, with_place(&key, &entry->place), (void *)(uintptr_t)entry->row)) {
		count(entry->index, &key, true);
	}
}

static void drop_value(void *context, const char *text)
{
	struct entry *entry = context;
	struct key key;
	make_key(&key, entry->kind, entry->i, text);
	if (sorted_remove(entry->index->rows, with_place(&key, &entry->place))) {
		count(entry->index, &key, false);
	}
}

static void each_index(struct index *index, const struct record *row, uint64_t order, value_fn *fn)
{
	struct entry entry = {index, row, record_kind(row), 0, index_place_of(row, order)};
	for (; entry.i < INDEXES; entry.i++) {
		if (indexed[entry.i].kind == RESOURCE_KINDS || indexed[entry.i].kind == entry.kind) {
			each_value(&indexed[entry.i], row, fn, &entry);
		}
	}
}

void index_add(struct index *index, const struct record *row, uint64_t order)
{
	size_t before = sorted_count(index->rows);
	each_index(index, row, order, add_value);
	invariant(sorted_count(index->rows) >= before + 2); // at least as one of its kind, and by its name
}

void index_drop(struct index *index, const struct record *row, uint64_t order)
{
	size_t before = sorted_count(index->rows);
	each_index(index, row, order, drop_value);
	invariant(sorted_count(index->rows) + 2 <= before);
}

// ---- looking ----
size_t index_count(const struct index *index, struct index_key wanted)
{
	struct key key;
	size_t i = find(wanted.kind, wanted.path);
	make_key(&key, wanted.kind, i, wanted.text);
	invariant(is_counted(i));
	return (uintptr_t)map_find(index->counts, (struct bytes){key.octets, key.head});
}

bool index_next(const struct index *index, struct index_key wanted, struct index_cursor *cursor)
{
	struct key key;
	struct sorted_entry entry;
	make_key(&key, wanted.kind, find(wanted.kind, wanted.path), wanted.text);
	struct bytes after = with_place(&key, &cursor->place);
	if (!sorted_after(index->rows, after, !cursor->started, &entry) || entry.key.length != key.head + INDEX_PLACE ||
	    memcmp(entry.key.data, key.octets, key.head) != 0) {
		return false;
	}
	cursor->started = true;
	memcpy(cursor->place.octets, entry.key.data + key.head, INDEX_PLACE);
	cursor->row = entry.value;
	return true;
}

struct index *index_new(void)
{
	struct index *index = allocate(sizeof *index);
	index->rows = sorted_new();
	index->counts = map_new(NULL);
	return index;
}

void index_free(struct index **index)
{
	if (*index) {
		sorted_free(&(*index)->rows, NULL);
		map_free(&(*index)->counts, NULL);
		free(*index);
		*index = NULL;
	}
}
