// See row.h.
#include "common/bus/row.h"

#include <string.h>

#include "common/base/alloc.h"
#include "common/base/secret.h"
#include "common/bus/owner_state.h"

void row_put(struct table *table, const char *scope, struct bytes key, const ProtobufCMessage *message)
{
	// The room of the owner's frames: no frame is being written while a service speaks.
	struct frame_room *room = &table->owner->room;
	size_t length = protobuf_c_message_get_packed_size(message);
	frame_room_reserve(room, length);
	protobuf_c_message_pack(message, room->octets);
	table_put(table, scope, key, (struct bytes){room->octets, length});
	if (table->rule->marks & TABLE_SECRET) {
		wipe(room->octets, length);
	}
}

bool row_key_read(struct bytes key, struct row_key *out)
{
	if (key.length == 0 || key.length >= sizeof out->text || memchr(key.data, '\0', key.length)) {
		return false;
	}
	memcpy(out->text, key.data, key.length);
	out->text[key.length] = '\0';
	const char *slash = strchr(out->text, '/');
	size_t length = slash ? (size_t)(slash - out->text) : key.length;
	memcpy(out->id, out->text, length);
	out->id[length] = '\0';
	out->rest = slash ? slash + 1 : out->text + key.length;
	return length > 0;
}
