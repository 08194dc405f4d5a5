// The OPEN message: RFC 4271 §4.2 and §6.2, capabilities RFC 5492, extended parameters RFC 9072.
#ifndef TWINSPAN_BGP_OPEN_H
#define TWINSPAN_BGP_OPEN_H

#include "services/bgp/family.h"
#include "services/bgp/message.h"

struct open_message {
	uint32_t as; // the four-octet capability's, where there is one
	uint32_t router_id;
	uint16_t hold_time;
	bool four_octet_as;      // RFC 6793
	bool route_refresh;      // RFC 2918
	bool multiprotocol;      // any RFC 4760 capability
	bool families[FAMILIES]; // that both ends offer
};

// `capabilities` false: none are sent, to a peer that refuses optional parameters.
void open_write(struct writer *w, const struct open_message *open, bool capabilities);
// Reads and checks the body against what is configured. Returns ERROR_NONE or the error to send.
struct bgp_error open_read(struct bytes body, const struct bgp_session_config *config, struct open_message *out);

#endif
