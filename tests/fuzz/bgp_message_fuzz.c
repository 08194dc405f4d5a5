// One message of any content to the readers of the core: the first octet says which and under what circumstances, the rest is
// the message.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "services/bgp/as_path.h"
#include "services/bgp/open.h"
#include "services/bgp/update.h"
#include "tests/unit/bgp_prefix.h"

static void read_update(struct bytes body, bool four_octets)
{
	static struct update update;
	const bool families[FAMILIES] = {[FAMILY_IPV4] = true, [FAMILY_IPV6] = four_octets};
	const struct update_context context = {four_octets, 65000, 65001, ipv4(0xa9fe0a02, 32).address, families};
	update_read(body, &context, &update);
	if (update.verdict == UPDATE_SESSION_RESET) {
		if (update.error.code != ERROR_UPDATE) {
			abort();
		}
		return;
	}
	const struct prefix_run *runs[] = {&update.withdrawn, &update.mp_withdrawn, &update.nlri, &update.mp_nlri};
	for (size_t i = 0; i < 4; i++) {
		struct reader r = reader_of(runs[i]->octets);
		struct prefix prefix;
		while (prefix_read(&r, runs[i]->family, &prefix)) {
		}
		if (r.failed) {
			abort(); // what was not a reset can be read to its end
		}
	}
	uint8_t octets[4 * MESSAGE_LIMIT];
	struct writer w = writer_of(octets, sizeof octets);
	as_path_write(&w, 65000, update.draft.as_path, 2);
	if (update.verdict < UPDATE_TREAT_AS_WITHDRAW && update.nlri.octets.length &&
	    (w.failed || as_path_length(update.draft.as_path) == 0)) {
		abort();
	}
}

static void read_header(struct bytes input)
{
	uint8_t header[MESSAGE_HEADER] = {0};
	memcpy(header, input.data, input.length < sizeof header ? input.length : sizeof header);
	enum message_type type;
	struct bgp_error error;
	size_t length = message_header_read(header, &type, &error);
	if (length ? length < MESSAGE_HEADER || length > MESSAGE_LIMIT : error.code != ERROR_HEADER) {
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || size > MESSAGE_LIMIT) {
		return 0;
	}
	// A copy of exactly its size: a step beyond it is found.
	uint8_t *copy = allocate(size);
	memcpy(copy, data + 1, size - 1);
	struct bytes body = {copy, size - 1};
	struct open_message open;
	struct bgp_error error;
	char text[ERROR_TEXT];
	switch (data[0] % 5) {
	case 0:
	case 1:
		read_update(body, data[0] % 5);
		break;
	case 2:
		error = open_read(body, &(struct bgp_session_config){.remote_as = 65001, .hold_time = 9}, &open);
		bgp_error_format(&error, text);
		break;
	case 3:
		error = notification_read(body);
		bgp_error_format(&error, text);
		if (strlen(text) >= ERROR_TEXT) {
			abort();
		}
		break;
	default:
		read_header(body);
		break;
	}
	free(copy);
	return 0;
}
