// Forward-only migrations: what <schema>.migration does not list is applied in order, each with its line in one transaction.
// Several processes may start at once: an advisory lock lets one at a time look.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/io/database_statement.h"
#include "common/io/log.h"

static bool run(struct database *database, const char *sql)
{
	PGresult *result = database_run(database, sql, NULL);
	PQclear(result);
	return result != NULL;
}

// A NULL for no rows and for failure alike would hide the latter: 1 applied, 0 not, -1 failed.
static int is_applied(struct database *database, const char *name)
{
	PGresult *result = database_query(database, "SELECT 1 FROM migration WHERE name = $1", &name, 1, NULL);
	int applied = result ? PQntuples(result) > 0 : -1;
	PQclear(result);
	return applied;
}

static bool note(struct database *database, const char *name)
{
	PGresult *result = database_query(database, "INSERT INTO migration (name) VALUES ($1)", &name, 1, NULL);
	PQclear(result);
	return result != NULL;
}

static bool lock(struct database *database)
{
	PGresult *result = database_query(database, "SELECT pg_advisory_xact_lock(hashtextextended('twinspan.' || $1, 0))",
	                                  &database->schema, 1, NULL);
	PQclear(result);
	return result != NULL;
}

static bool apply(struct database *database, const struct migration *migration)
{
	if (!database_begin(database)) {
		return false;
	}
	int applied = lock(database) ? is_applied(database, migration->name) : -1;
	bool good = applied == 1 || (applied == 0 && run(database, migration->sql) && note(database, migration->name));
	if (!good) {
		log_event(LOG_ERROR, "migration-failed", "name", migration->name, NULL);
		database_rollback(database);
		return false;
	}
	bool committed = database_commit(database);
	if (committed && applied == 0) {
		log_event(LOG_INFO, "migration-applied", "name", migration->name, NULL);
	}
	return committed;
}

static bool create_schema(struct database *database)
{
	char *schema = PQescapeIdentifier(database->connection, database->schema, strlen(database->schema));
	char *sql = format_text("CREATE SCHEMA IF NOT EXISTS %s; CREATE TABLE IF NOT EXISTS %s.migration "
	                        "(name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())",
	                        schema, schema);
	PQfreemem(schema);
	bool created = database_begin(database) && lock(database) && run(database, sql);
	free(sql);
	if (!created) {
		database_rollback(database);
		return false;
	}
	return database_commit(database);
}

bool database_migrate(struct database *database)
{
	if (!create_schema(database)) {
		return false;
	}
	for (size_t i = 0; i < database->migration_count; i++) {
		if (!apply(database, &database->migrations[i])) {
			return false;
		}
	}
	return true;
}
