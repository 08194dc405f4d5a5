// The bus of many nodes and nothing else of them: for each name, an ike, a bgp and an esp that own and follow what the matrix
// gives to them, as the real ones do when nothing happens. TWINSPAN_KEYS and TWINSPAN_BUS as for every service.
//
//   bus_peers NODE…      says "ready" once every table is there, and stays until it is ended
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/bus/bus.h"
#include "common/bus/row.h"
#include "common/bus/tables.h"
#include "common/io/log.h"
#include "proto/tables.pb-c.h"

enum { MOST_TABLES = 64 };

struct node_peer {
	struct bus *bus;
	struct replica *followed[MOST_TABLES];
	size_t followed_count;
};

struct crowd {
	struct loop *loop;
	struct node_peer *peers;
	size_t count;
	struct deadline look;
};

static void take_nothing(void *context, const struct replica_row *rows, size_t count)
{
	(void)context, (void)rows, (void)count;
}

static void tell_node(struct table *table, const char *node)
{
	Twinspan__NodeStatus row = TWINSPAN__NODE_STATUS__INIT;
	row.node_id = (char *)(uintptr_t)node;
	row.started = wall_clock();
	row.workers = 1;
	row_put(table, "", text_bytes(node), &row.base);
}

static void own(struct node_peer *peer, const struct table_rule *rule, const char *node)
{
	struct table *table = table_own(peer->bus, rule->name);
	if (strcmp(rule->name, "node_status") == 0) {
		tell_node(table, node);
	}
	table_complete(table);
}

static void follow(struct node_peer *peer, const struct table_rule *rule, const char *owner, const char *node)
{
	const char *filter = rule->scope == TABLE_REGION ? "" : node;
	peer->followed[peer->followed_count++] = replica_new(peer->bus, owner, rule->name, filter, take_nothing, NULL);
}

static void peer_begin(struct node_peer *peer, struct loop *loop, const char *service, const char *node)
{
	char *identity = format_text("%s.%s", service, node);
	peer->bus = bus_new(loop, NULL, identity);
	for (size_t i = 0; i < table_rule_count; i++) {
		const struct table_rule *rule = &table_rules[i];
		bool regional = strcmp(rule->owner, "resource") == 0 || strcmp(rule->owner, "route") == 0;
		char *owner = regional ? duplicate_text(rule->owner) : format_text("%s.%s", rule->owner, node);
		if (strcmp(rule->owner, service) == 0) {
			own(peer, rule, node);
		} else if (table_admits(rule, owner, identity)) {
			follow(peer, rule, owner, node);
		}
		free(owner);
	}
	free(identity);
}

static void look(void *context)
{
	struct crowd *crowd = context;
	for (size_t i = 0; i < crowd->count; i++) {
		const struct node_peer *peer = &crowd->peers[i];
		for (size_t j = 0; j < peer->followed_count; j++) {
			if (!replica_has_snapshot(peer->followed[j])) {
				deadline_arm(&crowd->look, now() + MILLISECONDS(100));
				return;
			}
		}
	}
	puts("ready");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const char *const services[] = {"ike", "bgp", "esp"};
	enum { SERVICES = sizeof services / sizeof services[0] };
	log_init("peers", NULL);
	struct crowd crowd = {.loop = loop_new(), .count = (size_t)(argc - 1) * SERVICES};
	crowd.peers = allocate(crowd.count * sizeof *crowd.peers);
	for (size_t i = 0; i < crowd.count; i++) {
		peer_begin(&crowd.peers[i], crowd.loop, services[i % SERVICES], argv[1 + i / SERVICES]);
	}
	deadline_init(&crowd.look, crowd.loop, look, &crowd);
	deadline_arm(&crowd.look, now());
	loop_run(crowd.loop);
	deadline_disarm(&crowd.look);
	for (size_t i = 0; i < crowd.count; i++) {
		bus_free(&crowd.peers[i].bus);
	}
	free(crowd.peers);
	loop_free(&crowd.loop);
	return 0;
}
