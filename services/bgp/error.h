// The errors of BGP as values: what a NOTIFICATION says (RFC 4271 §4.5, §6), and the names for it.
#ifndef TWINSPAN_BGP_ERROR_H
#define TWINSPAN_BGP_ERROR_H

#include "services/bgp/bgp.h"

enum bgp_error_code {
	ERROR_NONE,
	ERROR_HEADER,
	ERROR_OPEN,
	ERROR_UPDATE,
	ERROR_HOLD_TIMER,
	ERROR_FSM,
	ERROR_CEASE,
	ERROR_ROUTE_REFRESH,
	ERROR_SEND_HOLD_TIMER,
};
enum { HEADER_NOT_SYNCHRONIZED = 1, HEADER_BAD_LENGTH, HEADER_BAD_TYPE };
enum {
	OPEN_UNSPECIFIC,
	OPEN_UNSUPPORTED_VERSION,
	OPEN_BAD_PEER_AS,
	OPEN_BAD_IDENTIFIER,
	OPEN_UNSUPPORTED_PARAMETER,
	OPEN_UNACCEPTABLE_HOLD_TIME = 6,
	OPEN_UNSUPPORTED_CAPABILITY,
};
enum { UPDATE_MALFORMED_LIST = 1, UPDATE_OPTIONAL_ATTRIBUTE = 9, UPDATE_INVALID_NETWORK = 10 };
enum { FSM_IN_OPEN_SENT = 1, FSM_IN_OPEN_CONFIRM, FSM_IN_ESTABLISHED }; // RFC 6608
enum {
	CEASE_MAXIMUM_PREFIXES = 1,
	CEASE_ADMINISTRATIVE_SHUTDOWN,
	CEASE_PEER_DECONFIGURED,
	CEASE_ADMINISTRATIVE_RESET,
	CEASE_CONNECTION_REJECTED,
	CEASE_OTHER_CONFIGURATION_CHANGE,
	CEASE_COLLISION,
	CEASE_OUT_OF_RESOURCES,
};

// `data` is what the code asks for, in place in the message that was read, or constant.
struct bgp_error {
	uint8_t code; // ERROR_NONE: no error
	uint8_t subcode;
	struct bytes data;
};

enum { ERROR_TEXT = 400 };
// "Cease/Administrative Shutdown", with a shutdown communication (RFC 9003) behind it.
void bgp_error_format(const struct bgp_error *error, char out[static ERROR_TEXT]);
const char *bgp_error_code_name(uint8_t code);
const char *bgp_error_subcode_name(uint8_t code, uint8_t subcode); // NULL when it has no name

#endif
