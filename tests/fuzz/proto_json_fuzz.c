// A request's body to a record and back: the first octet chooses the kind, the rest is the body. What was read must survive the
// way through JSON and through the bus row.
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "proto/message_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1) {
		return 0;
	}
	enum resource_kind kind = (enum resource_kind)(data[0] % RESOURCE_KINDS);
	json_t *json = json_loadb((const char *)data + 1, size - 1, JSON_REJECT_DUPLICATES, NULL);
	struct problem problem = {0};
	struct cleared cleared;
	struct record *record = json ? record_from_json(kind, json, &cleared, &problem) : NULL;
	json_decref(json);
	if (record) {
		json_t *shown = record_to_json(record);
		struct record *again = record_from_json(kind, shown, NULL, &problem);
		json_decref(shown);
		struct record *copy = record_copy(record);
		if (!again || !record_equal(record, again) || !record_equal(record, copy)) {
			abort();
		}
		record_free(&copy);
		record_free(&again);
		record_free(&record);
	} else if (problem.status) {
		json_decref(problem_to_json(&problem));
	}
	// The same octets as a row of the bus.
	record = record_unpack(kind, (struct bytes){data + 1, size - 1});
	if (record) {
		json_decref(record_to_json(record));
		record_free(&record);
	}
	return 0;
}
