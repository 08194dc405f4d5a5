// The matrix: table × owner × readers. proto/README.md shows it to people; a test holds the two together.
#ifndef TWINSPAN_BUS_TABLES_H
#define TWINSPAN_BUS_TABLES_H

#include <stdbool.h>
#include <stddef.h>

enum table_scope {
	TABLE_REGION,   // a reader sees every row
	TABLE_NODE,     // a reader that has a node sees only rows of its own node's scope and of the scope ""
	TABLE_OWN_NODE, // as TABLE_NODE, and only a reader on the owner's own node is admitted at all
};

enum table_mark {
	TABLE_SECRET = 1,     // its rows hold keys: they are wiped when they are let go
	TABLE_OF_TUNNELS = 2, // a key begins with a tunnel's id: only the services of that tunnel's node may say anything of it
	TABLE_OF_NODES = 4,   // a key is a node's id: only that node's services may
	TABLE_PLACES_TUNNELS = 16, // its rows say on which node a tunnel is
	TABLE_LAZY = 8, // its owner waits for no change to be applied, so many of them are answered at once
};

struct table_rule {
	const char *name;
	const char *owner;      // service
	const char *readers[6]; // services, ended by NULL
	enum table_scope scope;
	unsigned marks; // enum table_mark
};

extern const struct table_rule table_rules[];
extern const size_t table_rule_count;
const struct table_rule *table_rule_find(const char *name);
// Splits "ike.node-a"; node is "" for a regional service. false when malformed.
bool identity_split(const char *identity, char service[static 32], char node[static 64]);
// May `reader` open `table` of `owner` (identities)?
bool table_admits(const struct table_rule *rule, const char *owner, const char *reader);

#endif
