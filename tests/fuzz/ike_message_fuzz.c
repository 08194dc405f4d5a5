// Every parser of the IKE codec on the same octets: the first says which payload comes first, the rest is the chain.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "services/ike/tunnel/identity.h"
#include "services/ike/v2/nat_detection.h"
#include "services/ike/wire/payload.h"
#include "services/ike/wire/proposal.h"
#include "services/ike/wire/traffic_selector.h"

static const struct algorithms ours = {.encryption = {5, 3, 1},
                                       .integrity = {2, 3},
                                       .groups = {31, 19, 0},
                                       .encryption_count = 3,
                                       .integrity_count = 2,
                                       .group_count = 3};

static void check(bool good)
{
	if (!good) {
		abort();
	}
}

static void proposals(struct bytes body)
{
	static struct proposals offered;
	struct suite suite;
	char reason[REASON_MAX];
	if (!proposals_read(body, &offered)) {
		return;
	}
	for (uint8_t protocol = PROTOCOL_IKE; protocol <= PROTOCOL_ESP; protocol++) {
		const struct proposal *chosen =
		    proposals_choose(&offered, protocol, &ours, GROUPS_COUNT, GROUP_ECP_256, &suite);
		proposals_mismatch(&offered, protocol, &ours, GROUPS_IGNORED, reason);
		if (!chosen) {
			continue;
		}
		if (suite.esn) {
			continue; // taken when it is all that the peer has, and never offered: as an answer it is refused
		}
		// What we chose, said back, is what we would accept.
		uint8_t octets[512];
		struct writer w = writer_of(octets, sizeof octets);
		proposal_write_chosen(&w, protocol, chosen->number, (struct bytes){0}, &suite, GROUPS_COUNT);
		static struct proposals answer;
		struct suite back;
		check(proposals_read(writer_bytes(&w), &answer));
		check(proposals_accept(&answer, protocol, &ours, GROUPS_COUNT, &back) != NULL);
		check(back.encryption == suite.encryption && back.integrity == suite.integrity && back.group == suite.group);
	}
}

static void selectors(struct bytes body)
{
	struct traffic_selectors offered, any = traffic_selectors_any(), narrowed;
	char text[256];
	if (!traffic_selectors_read(body, &offered)) {
		return;
	}
	traffic_selectors_narrow(&offered, &any, &narrowed);
	traffic_selectors_format(&offered, text, sizeof text);
	check(narrowed.count == 0 ||
	      (traffic_selectors_within(&narrowed, &any) && traffic_selectors_within(&narrowed, &offered)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ike_header header;
	header_read((struct bytes){data, size}, &header);
	static struct payloads payloads;
	if (size < 1 || payloads_read((struct bytes){data + 1, size - 1}, data[0], &payloads) != NOTIFY_NONE) {
		return 0;
	}
	uint8_t offender;
	for (enum message_kind kind = 0; kind < MESSAGE_KINDS; kind++) {
		payloads_legal(&payloads, kind, &offender);
	}
	struct address address = {.length = 4};
	nat_detection_read(&payloads, 1, 2, &address, 500, &address, 500);
	for (size_t i = 0; i < payloads.count; i++) {
		struct bytes body = payloads.items[i].body;
		struct notification n;
		struct ke_payload ke;
		struct delete_payload d;
		struct auth_payload auth;
		char text[IDENTITY_TEXT_MAX];
		notification_read(body, &n);
		ke_read(body, &ke);
		delete_read(body, &d);
		auth_read(body, &auth);
		identity_format(body, text);
		identity_matches(body, "198.51.100.17");
		proposals(body);
		selectors(body);
	}
	return 0;
}
