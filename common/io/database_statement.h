// What database.c, database_statement.c and database_migration.c share.
#ifndef TWINSPAN_IO_DATABASE_STATEMENT_H
#define TWINSPAN_IO_DATABASE_STATEMENT_H

#include "common/base/map.h"
#include "common/base/secret.h"
#include "common/io/database.h"

struct database {
	struct loop *loop;
	struct health *health;
	const char *schema;
	const struct migration *migrations;
	size_t migration_count;
	loop_fn *on_up;
	void *context;

	const char *where; // the connection string
	struct secret password;
	int64_t timeout_ms;

	PGconn *connection;       // NULL while waiting to try again
	int socket;               // as the loop knows it, or -1
	struct deadline deadline; // of the attempt, or until the next
	unsigned attempts;
	bool up;
	bool migrated;
	struct map *prepared; // SQL → the statement's name in this session
	bool in_transaction;
	bool failed; // something in the transaction
};

// Ends the connection and arms the next attempt.
void database_down(struct database *database, const char *why);
// Statements without parameters. NULL when refused or gone; the last result otherwise.
PGresult *database_run(struct database *database, const char *sql, char sqlstate[6]);
bool database_migrate(struct database *database);

#endif
