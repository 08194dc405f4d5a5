// What the files of database.h share.
#ifndef TWINSPAN_IO_DATABASE_PRIVATE_H
#define TWINSPAN_IO_DATABASE_PRIVATE_H

#include "common/base/map.h"
#include "common/base/secret.h"
#include "common/io/database.h"
#include "common/io/resolve.h"

// ---- database_host.c: the places of the connection string ----
struct database_host {
	char *name;    // a name, an address, or a directory of Unix sockets; "": libpq's own default
	char *address; // hostaddr, or ""
	char *port;    // or ""
	struct database *database;
	struct resolve *lookup;
	size_t address_count; // of the last lookup that found any
	char **addresses;
};
struct database_hosts {
	PQconninfoOption *options; // the connection string's
	size_t count;
	struct database_host *hosts;
	duration deadline; // of one attempt
};
// false, and `error` (to be freed with PQfreemem) when the text is no connection string.
bool database_hosts_parse(struct database_hosts *hosts, const char *text, char **error);
void database_hosts_free(struct database_hosts *hosts);
bool database_host_is_name(const struct database_host *host); // to be looked up
void database_host_set(struct database_host *host, char *const *addresses, size_t count);
// How many attempts the host is worth now: one for each address.
size_t database_host_attempts(const struct database_host *host);
PGconn *database_host_connect(const struct database_hosts *hosts, size_t host, size_t attempt, const char *schema,
                              const struct secret *password);

// ---- database_work.c ----
enum database_phase {
	DATABASE_WAITING,    // until the next round of attempts
	DATABASE_LOOKING_UP, // a host's name
	DATABASE_CONNECTING,
	DATABASE_SETTING,   // the session's settings
	DATABASE_LOCKING,   // the migrations: who else is at them, and what is applied
	DATABASE_MIGRATING, // applying what is missing
	DATABASE_UP,
};

struct database {
	struct loop *loop;
	struct health *health;
	const char *schema;
	const struct migration *migrations;
	size_t migration_count;
	loop_fn *on_up;
	void *context;
	int64_t timeout_ms;
	struct secret password;

	struct database_hosts hosts;
	size_t host, attempt; // where it is, or is tried
	size_t tried;         // hosts in this round
	unsigned rounds;      // in vain
	uint32_t timeline;    // the highest that a server was on
	bool writable;        // the server was when the session began
	bool proven;          // it has answered a piece of work

	enum database_phase phase;
	PGconn *connection;
	int socket;               // as the loop knows it, or -1
	bool writing;             // the loop waits for room in it too
	struct deadline deadline; // of the attempt, the set-up or the work; or until the next round
	PGresult *told;           // set-up: the rows of the statement that has some
	bool refused;             // set-up: a statement was
	bool committed;           // set-up: what came last was the tag of a commit
	char *newer;              // what /readyz says of a schema that is too new

	struct map *prepared; // SQL → the statement's name in this session
	size_t names;
	struct database_work *first, **last; // the first may be under way
	struct deadline turn;                // the queue is to be looked at
	struct deadline probe;               // an idle connection is asked whether it is still there
};

struct database_slot { // one answer of the server that is to come
	enum { SLOT_CONTROL, SLOT_PREPARE, SLOT_STATEMENT } kind;
	size_t statement; // of SLOT_PREPARE and SLOT_STATEMENT
};
struct database_statement {
	const char *sql;
	int count;
	char **values;
	long rows;
};
struct database_work {
	struct database *database;
	struct database_work *next;
	enum database_access access;
	size_t count, capacity;
	struct database_statement *statements;
	database_fn *done;
	void *context;
	enum { WORK_QUEUED, WORK_SENT, WORK_COMMITTING, WORK_ROLLING_BACK } phase;
	struct database_answer answer;
	bool unsure; // the server warned that the commit is not replicated
	struct database_slot *slots;
	size_t slot, slot_count, slot_capacity;
};

// Watches the connection's socket; `write`: there is more to send.
void database_watch(struct database *database, bool write);
// Ends the connection: what was under way gets its outcome, what waits is told that the database is away, and the next attempt
// is armed.
void database_down(struct database *database, const char *why);
// What can be read was read, and what can be written is to be.
void database_work_advance(struct database *database);
void database_work_init(struct database *database);
void database_work_begin(struct database *database); // the connection stands
// After the connection has ended.
void database_work_fail_all(struct database *database);
void database_work_drop_all(struct database *database); // without a call
void database_work_warned(struct database *database);   // a notice of severity WARNING came
void database_log_refusal(const PGresult *result);

// ---- database_migration.c: from connected to up ----
void database_setup_begin(struct database *database);
void database_setup_advance(struct database *database);
void database_setup_done(struct database *database); // database.c

#endif
