// Reading the UPDATE message: RFC 4271 §4.3 and §6.3 as revised by RFC 7606, with RFC 4760, 6793, 1997, 4360 and 8092
// attributes.
#ifndef TWINSPAN_BGP_UPDATE_H
#define TWINSPAN_BGP_UPDATE_H

#include "services/bgp/attribute_set.h"
#include "services/bgp/family.h"
#include "services/bgp/message.h"

// What of the session an UPDATE depends on.
struct update_context {
	bool four_octet_as;
	uint32_t local_as;
	uint32_t remote_as;
	struct address remote; // the only next hop there is behind a tunnel
	const bool *families;  // that were negotiated
};

// RFC 7606 §2, from the mildest to the strongest.
enum update_verdict { UPDATE_ACCEPT, UPDATE_ATTRIBUTE_DISCARD, UPDATE_TREAT_AS_WITHDRAW, UPDATE_SESSION_RESET };

// Why routes that are well-formed are not accepted all the same.
enum update_exclusion { EXCLUSION_NONE, EXCLUSION_AS_LOOP, EXCLUSION_NEXT_HOP };

struct prefix_run { // as it is on the wire
	struct bytes octets;
	enum family family;
};

struct update {
	enum update_verdict verdict;
	enum update_exclusion exclusion;
	struct bgp_error error; // of the verdict: for a reset what to send, for the others what to log
	const char *attribute;  // whose fault the verdict is, or NULL
	unsigned discarded;     // attributes
	unsigned other_family;  // attributes of families that were not negotiated
	bool end_of_rib;        // RFC 4724 §2
	// Checked: prefix_read goes through them without failing.
	struct prefix_run withdrawn, mp_withdrawn;
	struct prefix_run nlri, mp_nlri;
	struct attribute_draft draft;
	uint8_t as_path[2 * MESSAGE_LIMIT];
	uint8_t as4_path[MESSAGE_LIMIT];
	uint8_t merged_path[3 * MESSAGE_LIMIT];
	uint8_t others[MESSAGE_LIMIT];
};

// `body` is the message without its header and must stay while `out` is used.
void update_read(struct bytes body, const struct update_context *context, struct update *out);
// The next prefix of a checked run; false at its end.
bool prefix_read(struct reader *r, enum family family, struct prefix *out);
void prefix_write(struct writer *w, const struct prefix *prefix);

#endif
