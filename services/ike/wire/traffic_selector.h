// Traffic selectors (RFC 7296 §2.9, §3.13). Tunnels are route-based: both ends offer everything, and what a peer narrows is
// accepted.
#ifndef TWINSPAN_IKE_TRAFFIC_SELECTOR_H
#define TWINSPAN_IKE_TRAFFIC_SELECTOR_H

#include "common/base/address.h"
#include "services/ike/wire/ikev2.h"

enum { SELECTORS_MAX = 16 };

struct traffic_selector {
	uint8_t type;     // TS_IPV4_ADDR_RANGE or TS_IPV6_ADDR_RANGE
	uint8_t protocol; // 0: any
	uint16_t first_port, last_port;
	struct address first, last;
};
struct traffic_selectors {
	struct traffic_selector items[SELECTORS_MAX];
	size_t count;
};
// Selectors of types that we do not know are left out. false when malformed.
bool traffic_selectors_read(struct bytes body, struct traffic_selectors *out);
void traffic_selectors_write(struct writer *w, const struct traffic_selectors *selectors);
struct traffic_selectors traffic_selectors_any(void); // 0.0.0.0/0
// What both allow, in the order of `offered`. An empty result is TS_UNACCEPTABLE.
void traffic_selectors_narrow(const struct traffic_selectors *offered, const struct traffic_selectors *ours,
                              struct traffic_selectors *out);
// Is everything in `inner` inside `outer`, and not empty: what an answer must be.
bool traffic_selectors_within(const struct traffic_selectors *inner, const struct traffic_selectors *outer);
char *traffic_selectors_format(const struct traffic_selectors *selectors, char *out, size_t capacity);

#endif
