// The places that a connection string names. libpq would try them itself, but with one deadline that is the caller's, restarted
// from the first place each time: a first host that swallows every packet would be tried for ever. So each attempt here is
// given one place, by its address.
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include "common/io/database_private.h"

enum { HOSTS = 16, OPTIONS = 80 };
#define ATTEMPT SECONDS(3)

static const char *option(const PQconninfoOption *options, const char *keyword)
{
	for (const PQconninfoOption *at = options; at->keyword; at++) {
		if (strcmp(at->keyword, keyword) == 0) {
			return at->val ? at->val : "";
		}
	}
	return "";
}

static size_t items_of(const char *list)
{
	size_t count = 1;
	for (; *list; list++) {
		count += *list == ',';
	}
	return count;
}

// The item at `index`; of a list of one, that one for every index (as libpq reads ports).
static char *item_of(const char *list, size_t index)
{
	if (items_of(list) > 1) {
		for (; index > 0 && *list; list++) {
			index -= *list == ',';
		}
	}
	return format_text("%.*s", (int)strcspn(list, ","), list);
}

bool database_hosts_parse(struct database_hosts *hosts, const char *text, char **error)
{
	*hosts = (struct database_hosts){.options = PQconninfoParse(text, error), .deadline = ATTEMPT};
	if (!hosts->options) {
		return false;
	}
	const char *names = option(hosts->options, "host"), *addresses = option(hosts->options, "hostaddr");
	const char *ports = option(hosts->options, "port");
	size_t count = items_of(names) > items_of(addresses) ? items_of(names) : items_of(addresses);
	bool fits = count <= HOSTS && (!*names || !*addresses || items_of(names) == items_of(addresses)) &&
	            (items_of(ports) == 1 || items_of(ports) == count);
	if (!fits) {
		PQconninfoFree(hosts->options);
		hosts->options = NULL;
		*error = NULL;
		return false;
	}
	hosts->hosts = allocate(count * sizeof *hosts->hosts);
	hosts->count = count;
	for (size_t i = 0; i < count; i++) {
		hosts->hosts[i] = (struct database_host){
		    .name = *names ? item_of(names, i) : duplicate_text(""),
		    .address = *addresses ? item_of(addresses, i) : duplicate_text(""),
		    .port = item_of(ports, i),
		};
	}
	long seconds = strtol(option(hosts->options, "connect_timeout"), NULL, 10);
	hosts->deadline = seconds > 0 && seconds <= 60 ? SECONDS(seconds) : ATTEMPT;
	return true;
}

void database_hosts_free(struct database_hosts *hosts)
{
	for (size_t i = 0; i < hosts->count; i++) {
		struct database_host *host = &hosts->hosts[i];
		database_host_set(host, NULL, 0);
		resolve_end(&host->lookup);
		free(host->name);
		free(host->address);
		free(host->port);
	}
	free(hosts->hosts);
	if (hosts->options) {
		PQconninfoFree(hosts->options);
	}
	*hosts = (struct database_hosts){0};
}

bool database_host_is_name(const struct database_host *host)
{
	struct in6_addr any;
	return !host->address[0] && host->name[0] && host->name[0] != '/' && host->name[0] != '@' &&
	       inet_pton(AF_INET, host->name, &any) != 1 && inet_pton(AF_INET6, host->name, &any) != 1;
}

void database_host_set(struct database_host *host, char *const *addresses, size_t count)
{
	for (size_t i = 0; i < host->address_count; i++) {
		free(host->addresses[i]);
	}
	free(host->addresses);
	host->addresses = count ? allocate(count * sizeof *host->addresses) : NULL;
	host->address_count = count;
	for (size_t i = 0; i < count; i++) {
		host->addresses[i] = duplicate_text(addresses[i]);
	}
}

size_t database_host_attempts(const struct database_host *host)
{
	return database_host_is_name(host) ? host->address_count : 1;
}

PGconn *database_host_connect(const struct database_hosts *hosts, size_t host_index, size_t attempt, const char *schema,
                              const struct secret *secret)
{
	invariant(host_index < hosts->count);
	const struct database_host *host = &hosts->hosts[host_index];
	invariant(attempt < database_host_attempts(host));
	char password[SECRET_CAPACITY + 1];
	struct bytes octets = secret_bytes(secret);
	memcpy(password, octets.data, octets.length);
	password[octets.length] = '\0';
	// The first eight are defaults that the connection string may overrule, and what stands after it overrules it. (Looking
	// for a Kerberos ticket may ask the network: only where it is wanted. Keepalives find a server that went while nothing
	// is sent.)
	const char *keywords[OPTIONS] = {"target_session_attrs", "tcp_user_timeout", "fallback_application_name",
	                                 "gssencmode",           "keepalives_idle",  "keepalives_interval",
	                                 "keepalives_count"};
	const char *values[OPTIONS] = {"read-write", "10000", schema, "disable", "5", "5", "3"};
	size_t count = 7;
	for (const PQconninfoOption *at = hosts->options; at->keyword; at++) {
		bool ours = strcmp(at->keyword, "host") == 0 || strcmp(at->keyword, "hostaddr") == 0 ||
		            strcmp(at->keyword, "port") == 0;
		if (at->val && at->val[0] && !ours) {
			invariant(count < OPTIONS - 5);
			keywords[count] = at->keyword;
			values[count++] = at->val;
		}
	}
	const char *address = database_host_is_name(host) ? host->addresses[attempt] : host->address;
	const char *names[] = {"host", "hostaddr", "port", "password"};
	const char *given[] = {host->name, address, host->port, password};
	for (size_t i = 0; i < 4; i++) {
		if (given[i][0]) {
			keywords[count] = names[i];
			values[count++] = given[i];
		}
	}
	PGconn *connection = PQconnectStartParams(keywords, values, 0);
	wipe(password, sizeof password);
	return connection;
}
