// See tables.h and proto/README.md.
#include "common/bus/tables.h"

#include <string.h>

const struct table_rule table_rules[] = {
    {"node", "resource", {"route", "esp", "vrouter"}, TABLE_REGION, 0},
    {"vpc_host", "resource", {"route", "esp", "vrouter"}, TABLE_REGION, 0},
    {"border_gateway", "resource", {"route", "esp", "bgp", "vrouter"}, TABLE_REGION, 0},
    {"vpc", "resource", {"route", "esp", "vrouter"}, TABLE_REGION, 0},
    {"subnet", "resource", {"route", "vrouter"}, TABLE_REGION, 0},
    {"vpc_route_table", "resource", {"route", "vrouter"}, TABLE_REGION, 0},
    {"vpc_attachment", "resource", {"route", "esp", "vrouter"}, TABLE_REGION, 0},
    {"customer_gateway", "resource", {"route", "bgp"}, TABLE_REGION, 0},
    {"vpn_connection", "resource", {"route", "bgp"}, TABLE_REGION, 0},
    {"vpn_tunnel", "resource", {"route", "esp", "ike", "bgp"}, TABLE_NODE, TABLE_PLACES_TUNNELS},
    {"border_gateway_route", "resource", {"route"}, TABLE_REGION, 0},
    {"tunnel_secret", "resource", {"ike"}, TABLE_NODE, TABLE_SECRET},
    {"quota", "resource", {"route", "bgp"}, TABLE_REGION, 0},
    {"ike_sa", "ike", {"esp"}, TABLE_OWN_NODE, TABLE_SECRET},
    {"child_sa", "ike", {"esp"}, TABLE_OWN_NODE, TABLE_SECRET},
    {"tunnel_status", "ike", {"resource", "route", "bgp"}, TABLE_NODE, TABLE_OF_TUNNELS | TABLE_LAZY},
    {"tunnel_event", "ike", {"resource"}, TABLE_NODE, TABLE_OF_TUNNELS | TABLE_LAZY},
    {"node_status", "esp", {"route", "vrouter"}, TABLE_REGION, TABLE_OF_NODES | TABLE_LAZY},
    {"held_ike_sa", "esp", {"ike"}, TABLE_OWN_NODE, TABLE_SECRET},
    {"sa_usage", "esp", {"ike"}, TABLE_OWN_NODE, TABLE_LAZY},
    {"tunnel_counters", "esp", {"resource"}, TABLE_REGION, TABLE_OF_TUNNELS | TABLE_LAZY},
    {"bgp_session", "bgp", {"resource", "route"}, TABLE_REGION, TABLE_OF_TUNNELS},
    {"bgp_event", "bgp", {"resource"}, TABLE_REGION, TABLE_OF_TUNNELS | TABLE_LAZY},
    {"learned_route", "bgp", {"route"}, TABLE_REGION, TABLE_OF_TUNNELS},
    {"next_hop_group", "route", {"esp", "vrouter", "resource"}, TABLE_REGION, TABLE_LAZY},
    {"effective_route", "route", {"esp", "resource"}, TABLE_REGION, TABLE_LAZY},
    {"border_gateway_route_row", "route", {"resource"}, TABLE_REGION, TABLE_LAZY},
    {"advertised_route", "route", {"bgp"}, TABLE_NODE, TABLE_LAZY},
    {"vpc_route", "route", {"vrouter", "resource"}, TABLE_NODE, TABLE_LAZY},
};
const size_t table_rule_count = sizeof table_rules / sizeof table_rules[0];

const struct table_rule *table_rule_find(const char *name)
{
	for (size_t i = 0; i < table_rule_count; i++) {
		if (strcmp(table_rules[i].name, name) == 0) {
			return &table_rules[i];
		}
	}
	return NULL;
}

bool identity_split(const char *identity, char service[static 32], char node[static 64])
{
	const char *dot = strchr(identity, '.');
	size_t length = dot ? (size_t)(dot - identity) : strlen(identity);
	if (length == 0 || length >= 32 || (dot && (dot[1] == '\0' || strlen(dot + 1) >= 64))) {
		return false;
	}
	memcpy(service, identity, length);
	service[length] = '\0';
	strcpy(node, dot ? dot + 1 : "");
	return true;
}

bool table_admits(const struct table_rule *rule, const char *owner, const char *reader)
{
	char owner_service[32], owner_node[64], service[32], node[64];
	if (!identity_split(owner, owner_service, owner_node) || !identity_split(reader, service, node)) {
		return false;
	}
	if (strcmp(rule->owner, owner_service) != 0) {
		return false;
	}
	if (rule->scope == TABLE_OWN_NODE && strcmp(owner_node, node) != 0) {
		return false;
	}
	for (size_t i = 0; i < sizeof rule->readers / sizeof rule->readers[0] && rule->readers[i]; i++) {
		if (strcmp(rule->readers[i], service) == 0) {
			return true;
		}
	}
	return false;
}
