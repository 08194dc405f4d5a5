// See admission.h.
#include "common/bus/admission.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/map.h"

struct bus_admission {
	struct map *tunnels; // id → the node's name
};

struct bus_admission *bus_admission_new(void)
{
	struct bus_admission *admission = allocate(sizeof *admission);
	admission->tunnels = map_new(NULL);
	return admission;
}

void bus_admission_free(struct bus_admission **admission)
{
	if (*admission) {
		map_free(&(*admission)->tunnels, free);
		free(*admission);
		*admission = NULL;
	}
}

bool bus_admission_place(struct bus_admission *admission, struct bytes tunnel, const char *node, bool *moved)
{
	char *before = map_find(admission->tunnels, tunnel);
	*moved = false;
	if (!node) {
		free(map_remove(admission->tunnels, tunnel));
		return false; // what was shown of it goes with the tunnel; what comes now waits
	}
	if (before && strcmp(before, node) == 0) {
		return false;
	}
	*moved = before != NULL;
	free(map_insert(admission->tunnels, tunnel, duplicate_text(node)));
	return true;
}

struct bytes bus_admission_id(struct bytes key)
{
	const uint8_t *slash = key.length > 0 ? memchr(key.data, '/', key.length) : NULL;
	return (struct bytes){key.data, slash ? (size_t)(slash - key.data) : key.length};
}

enum row_verdict bus_admission_judge(const struct bus_admission *admission, const struct table_rule *rule, const char *owner,
                                     const char *reader, struct bytes key)
{
	char service[32], owner_node[64], reader_node[64];
	if (!(rule->marks & (TABLE_OF_TUNNELS | TABLE_OF_NODES))) {
		return ROW_SHOWN;
	}
	if (!identity_split(owner, service, owner_node) || !identity_split(reader, service, reader_node)) {
		return ROW_REFUSED;
	}
	if (rule->marks & TABLE_OF_NODES) {
		return bytes_equal(key, text_bytes(owner_node)) ? ROW_SHOWN : ROW_REFUSED;
	}
	if (reader_node[0] != '\0' && strcmp(reader_node, owner_node) == 0) {
		return ROW_SHOWN;
	}
	const char *node = map_find(admission->tunnels, bus_admission_id(key));
	return !node ? ROW_WAITING : strcmp(node, owner_node) == 0 ? ROW_SHOWN : ROW_REFUSED;
}
