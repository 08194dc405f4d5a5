// The control thread's side of border gateways, tunnels and groups (routes: route.c; SAs: sa.c). Rows come in any order: an
// object is made when it is first referred to and goes when neither its row nor a reference is left. A group's change replaces
// its member list and touches nothing else.
#include "services/esp/table.h"

#include <stdlib.h>
#include <string.h>
#include <urcu-qsbr.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "services/esp/grace.h"
#include "services/esp/octets.h"

// ---- grace periods ----

#ifdef __SANITIZE_THREAD__
char grace_of_workers;
#endif

struct retired {
	struct rcu_head head;
	void *object;
	void (*fn)(void *object);
};

static void free_retired(struct rcu_head *head)
{
	struct retired *retired = caa_container_of(head, struct retired, head);
	grace_over(head);
	retired->fn(retired->object);
	free(retired);
}

void retire(void *object, void (*fn)(void *object))
{
	if (object) {
		struct retired *retired = allocate(sizeof *retired);
		retired->object = object;
		retired->fn = fn;
		grace_retired(&retired->head);
		call_rcu(&retired->head, free_retired);
	}
}

void esp_synchronize(struct esp *esp)
{
	rcu_barrier();
	grace_over(esp);
}

// ---- names ----

static struct name *name_hold(struct esp *esp, const char *text)
{
	struct name *name = map_find_text(esp->connections, text);
	if (!name) {
		name = allocate(sizeof *name + strlen(text) + 1);
		strcpy(name->text, text);
		name->number = ++esp->names;
		map_insert_text(esp->connections, text, name);
	}
	name->references++;
	return name;
}

static void name_release(struct esp *esp, struct name *name)
{
	invariant(name->references > 0);
	if (--name->references == 0) {
		map_remove_text(esp->connections, name->text);
		free(name);
	}
}

// ---- border gateways ----

static void gateway_free(void *object)
{
	struct esp_gateway *gateway = object;
	fib_free(&gateway->fib);
	free(load(gateway->inside));
	free(gateway->id);
	free(gateway);
}

struct esp_gateway *gateway_hold(struct esp *esp, const char *id)
{
	struct esp_gateway *gateway = map_find_text(esp->gateways, id);
	if (!gateway) {
		gateway = allocate(sizeof *gateway);
		gateway->id = duplicate_text(id);
		gateway->fib = fib_new(esp->config.hash_seed);
		map_insert_text(esp->gateways, id, gateway);
	}
	gateway->references++;
	return gateway;
}

void gateway_release(struct esp *esp, struct esp_gateway *gateway)
{
	invariant(gateway->references > 0);
	if (--gateway->references == 0) {
		map_remove_text(esp->gateways, gateway->id);
		retire(gateway, gateway_free);
	}
}

struct esp_gateway *esp_gateway_set(struct esp *esp, const char *id, bool allow_transit, void *context)
{
	struct esp_gateway *gateway = map_find_text(esp->gateways, id);
	if (!gateway || !gateway->known) {
		gateway = gateway_hold(esp, id);
		gateway->known = true;
	}
	atomic_store(&gateway->transit, allow_transit);
	publish(gateway->context, context);
	return gateway;
}

void esp_gateway_remove(struct esp *esp, const char *id)
{
	struct esp_gateway *gateway = map_find_text(esp->gateways, id);
	if (gateway && gateway->known) {
		gateway->known = false;
		publish(gateway->context, NULL);
		gateway_release(esp, gateway);
	}
}

// ---- tunnels ----

// Puts `pair` in place of what the gateway has for its tunnel, in one change: a tunnel that stays is never absent. A pair
// without a customer address takes the tunnel away.
static void inside_put(struct esp_gateway *gateway, struct inside_pair pair)
{
	struct inside *old = load(gateway->inside);
	size_t held = old ? old->count : 0;
	struct inside *next = allocate(sizeof *next + (held + 1) * sizeof next->at[0]);
	bool put = pair.customer == 0;
	for (size_t i = 0; i < held; i++) {
		if (!put && old->at[i].customer >= pair.customer) {
			next->at[next->count++] = pair;
			put = true;
		}
		if (old->at[i].tunnel != pair.tunnel) {
			next->at[next->count++] = old->at[i];
		}
	}
	if (!put) {
		next->at[next->count++] = pair;
	}
	invariant(next->count <= held + 1);
	publish(gateway->inside, next);
	retire(old, free);
}

static void tunnel_free(void *object)
{
	struct esp_tunnel *tunnel = object;
	free(tunnel->counters);
	free(tunnel->id);
	free(tunnel);
}

struct esp_tunnel *tunnel_hold(struct esp *esp, const char *id)
{
	struct esp_tunnel *tunnel = map_find_text(esp->tunnels, id);
	if (!tunnel) {
		tunnel = allocate(sizeof *tunnel);
		tunnel->id = duplicate_text(id);
		tunnel->seed = esp->config.hash_seed;
		for (const char *at = id; *at; at++) {
			tunnel->seed = (tunnel->seed ^ (uint8_t)*at) * 0x100000001b3u; // FNV-1a: the same in every process
		}
		size_t size = esp->config.workers * sizeof *tunnel->counters;
		tunnel->counters = aligned_alloc(_Alignof(struct tunnel_counters), size);
		if (!tunnel->counters) {
			abort();
		}
		memset(tunnel->counters, 0, size);
		map_insert_text(esp->tunnels, id, tunnel);
	}
	tunnel->references++;
	return tunnel;
}

void tunnel_release(struct esp *esp, struct esp_tunnel *tunnel)
{
	invariant(tunnel->references > 0);
	if (--tunnel->references == 0) {
		map_remove_text(esp->tunnels, tunnel->id);
		retire(tunnel, tunnel_free);
	}
}

static void config_release(struct esp *esp, struct tunnel_config *config)
{
	gateway_release(esp, config->gateway);
	name_release(esp, config->connection);
	retire(config, free);
}

void esp_tunnel_set(struct esp *esp, const struct esp_tunnel_row *row)
{
	struct esp_tunnel *tunnel = map_find_text(esp->tunnels, row->id);
	struct tunnel_config *old = tunnel ? load(tunnel->config) : NULL;
	if (!old) {
		tunnel = tunnel_hold(esp, row->id);
	}
	struct tunnel_config *config = allocate(sizeof *config);
	config->gateway = gateway_hold(esp, row->gateway);
	config->connection = name_hold(esp, row->connection);
	config->connection_number = config->connection->number;
	config->mss = row->mss;
	if (row->cloud_inside.length == 4 && row->customer_inside.length == 4) {
		config->cloud = raw32(row->cloud_inside.octets);
		config->customer = raw32(row->customer_inside.octets);
	}
	inside_put(config->gateway, (struct inside_pair){config->customer, config->cloud, tunnel});
	publish(tunnel->config, config);
	if (old) {
		if (old->gateway != config->gateway) {
			inside_put(old->gateway, (struct inside_pair){.tunnel = tunnel});
		}
		config_release(esp, old);
	}
}

void esp_tunnel_remove(struct esp *esp, const char *id)
{
	struct esp_tunnel *tunnel = map_find_text(esp->tunnels, id);
	struct tunnel_config *old = tunnel ? load(tunnel->config) : NULL;
	if (old) {
		publish(tunnel->config, NULL);
		inside_put(old->gateway, (struct inside_pair){.tunnel = tunnel});
		config_release(esp, old);
		tunnel_release(esp, tunnel);
	}
}

// ---- groups ----

static void members_free(void *object)
{
	struct members *members = object;
	free(members->tunnels);
	free(members->connections);
	free(members->names);
	free(members);
}

static void release_members(struct esp *esp, struct members *members)
{
	if (members) {
		for (size_t i = 0; i < members->tunnel_count; i++) {
			tunnel_release(esp, members->tunnels[i]);
		}
		for (size_t i = 0; i < members->connection_count; i++) {
			name_release(esp, members->names[i]);
		}
		retire(members, members_free);
	}
}

// A number for a new group: one that was given back and that no worker can still hold, or one never given.
static uint32_t number_take(struct esp *esp)
{
	if (esp->free_count == 0 && esp->waiting_count >= 1024) {
		esp_synchronize(esp);
		uint32_t *swap = esp->free_numbers;
		esp->free_numbers = esp->waiting_numbers;
		esp->waiting_numbers = swap;
		esp->free_count = esp->waiting_count;
		esp->waiting_count = 0;
	}
	if (esp->free_count > 0) {
		return esp->free_numbers[--esp->free_count];
	}
	struct targets *old = load(esp->targets);
	if (esp->targets_used == old->capacity) {
		struct targets *next = allocate(sizeof *next + 2 * old->capacity * sizeof next->at[0]);
		next->capacity = 2 * old->capacity;
		for (size_t i = 0; i < old->capacity; i++) {
			publish(next->at[i], load(old->at[i]));
		}
		publish(esp->targets, next);
		retire(old, free);
	}
	invariant(esp->targets_used < load(esp->targets)->capacity);
	return esp->targets_used++;
}

static void number_give(struct esp *esp, uint32_t number)
{
	invariant(number >= TARGET_FIRST && number < esp->targets_used);
	publish(load(esp->targets)->at[number], NULL);
	if (esp->waiting_count == esp->numbers_capacity || esp->free_count == esp->numbers_capacity) {
		esp->numbers_capacity = esp->numbers_capacity ? 2 * esp->numbers_capacity : 1024;
		esp->free_numbers = reallocate(esp->free_numbers, esp->numbers_capacity, sizeof *esp->free_numbers);
		esp->waiting_numbers = reallocate(esp->waiting_numbers, esp->numbers_capacity, sizeof *esp->waiting_numbers);
	}
	esp->waiting_numbers[esp->waiting_count++] = number;
}

static void group_free(void *object)
{
	struct esp_group *group = object;
	free(group->id);
	free(group);
}

struct esp_group *group_hold(struct esp *esp, const char *id)
{
	struct esp_group *group = map_find_text(esp->groups, id);
	if (!group) {
		group = allocate(sizeof *group);
		group->id = duplicate_text(id);
		group->number = number_take(esp);
		invariant(load(load(esp->targets)->at[group->number]) == NULL);
		publish(load(esp->targets)->at[group->number], group);
		map_insert_text(esp->groups, id, group);
	}
	group->references++;
	return group;
}

void group_release(struct esp *esp, struct esp_group *group)
{
	invariant(group->references > 0);
	if (--group->references == 0) {
		map_remove_text(esp->groups, group->id);
		number_give(esp, group->number);
		retire(group, group_free);
	}
}

void esp_group_set(struct esp *esp, const struct esp_group_row *row)
{
	struct esp_group *group = map_find_text(esp->groups, row->id);
	if (!group || !group->known) {
		group = group_hold(esp, row->id);
		group->known = true;
	}
	struct members *members = allocate(sizeof *members);
	members->tunnels = allocate_array(row->tunnel_count + 1, sizeof *members->tunnels);
	members->connections = allocate_array(row->connection_count + 1, sizeof *members->connections);
	members->names = allocate_array(row->connection_count + 1, sizeof *members->names);
	members->tunnel_count = row->tunnel_count;
	members->connection_count = row->connection_count;
	for (size_t i = 0; i < row->tunnel_count; i++) {
		members->tunnels[i] = tunnel_hold(esp, row->tunnels[i]);
	}
	for (size_t i = 0; i < row->connection_count; i++) {
		members->names[i] = name_hold(esp, row->connections[i]);
		members->connections[i] = members->names[i]->number;
	}
	struct members *old = load(group->members);
	publish(group->members, members);
	release_members(esp, old);
}

void esp_group_remove(struct esp *esp, const char *id)
{
	struct esp_group *group = map_find_text(esp->groups, id);
	if (group && group->known) {
		struct members *old = load(group->members);
		group->known = false;
		publish(group->members, NULL);
		release_members(esp, old);
		group_release(esp, group);
	}
}

// ---- all of it ----

void esp_join_udp(struct esp *esp, bool may)
{
	atomic_store(&esp->keeps_udp_apart, !may);
}

struct esp *esp_new(const struct esp_config *config)
{
	struct esp *esp = allocate(sizeof *esp);
	esp->config = *config;
	esp->engine = crypto_engine_new(config->openssl);
	sequence_file_init(&esp->sequences, config->sequences, config->sequence_count);
	size_t size = config->workers * sizeof *esp->counters;
	esp->counters = aligned_alloc(_Alignof(struct worker_counters), size);
	if (!esp->counters) {
		abort();
	}
	memset(esp->counters, 0, size);
	esp->gateways = map_new(NULL);
	esp->tunnels = map_new(NULL);
	esp->groups = map_new(NULL);
	esp->connections = map_new(NULL);
	struct targets *targets = allocate(sizeof *targets + 64 * sizeof targets->at[0]);
	targets->capacity = 64;
	publish(esp->targets, targets);
	esp->targets_used = TARGET_FIRST;
	struct spi_table *spis = allocate(sizeof *spis + 64 * sizeof spis->at[0]);
	spis->mask = 63;
	publish(esp->spis, spis);
	esp->tombstone = allocate(sizeof *esp->tombstone);
	return esp;
}

const char *esp_crypto_name(const struct esp *esp)
{
	return crypto_engine_name(esp->engine);
}

static void free_tunnel_value(void *object)
{
	struct esp_tunnel *tunnel = object;
	free(load(tunnel->config));
	tunnel_free(tunnel);
}

static void free_group_value(void *object)
{
	struct esp_group *group = object;
	if (load(group->members)) {
		members_free(load(group->members));
	}
	group_free(group);
}

void esp_free(struct esp **esp)
{
	struct esp *e = *esp;
	if (!e) {
		return;
	}
	sa_free_all(e);
	esp_synchronize(e);
	map_free(&e->groups, free_group_value);
	map_free(&e->tunnels, free_tunnel_value);
	map_free(&e->gateways, gateway_free);
	map_free(&e->connections, free);
	sequence_file_fini(&e->sequences);
	crypto_engine_free(&e->engine);
	free(load(e->targets));
	free(load(e->spis));
	free(e->tombstone);
	free(e->free_numbers);
	free(e->waiting_numbers);
	free(e->counters);
	free(e);
	*esp = NULL;
}
