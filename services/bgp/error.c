// See error.h. Names are IANA's ("BGP Error Codes").
#include "services/bgp/error.h"

#include <stdio.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static const char *const header_names[] = {
    [HEADER_NOT_SYNCHRONIZED] = "Connection Not Synchronized",
    [HEADER_BAD_LENGTH] = "Bad Message Length",
    [HEADER_BAD_TYPE] = "Bad Message Type",
};
static const char *const open_names[] = {
    [OPEN_UNSUPPORTED_VERSION] = "Unsupported Version Number",
    [OPEN_BAD_PEER_AS] = "Bad Peer AS",
    [OPEN_BAD_IDENTIFIER] = "Bad BGP Identifier",
    [OPEN_UNSUPPORTED_PARAMETER] = "Unsupported Optional Parameter",
    [OPEN_UNACCEPTABLE_HOLD_TIME] = "Unacceptable Hold Time",
    [OPEN_UNSUPPORTED_CAPABILITY] = "Unsupported Capability",
    [8] = "Deprecated",
    [11] = "Role Mismatch",
};
static const char *const update_names[] = {
    [UPDATE_MALFORMED_LIST] = "Malformed Attribute List",
    [2] = "Unrecognized Well-known Attribute",
    [3] = "Missing Well-known Attribute",
    [4] = "Attribute Flags Error",
    [5] = "Attribute Length Error",
    [6] = "Invalid ORIGIN Attribute",
    [8] = "Invalid NEXT_HOP Attribute",
    [UPDATE_OPTIONAL_ATTRIBUTE] = "Optional Attribute Error",
    [UPDATE_INVALID_NETWORK] = "Invalid Network Field",
    [11] = "Malformed AS_PATH",
};
static const char *const fsm_names[] = {
    [FSM_IN_OPEN_SENT] = "Receive Unexpected Message in OpenSent State",
    [FSM_IN_OPEN_CONFIRM] = "Receive Unexpected Message in OpenConfirm State",
    [FSM_IN_ESTABLISHED] = "Receive Unexpected Message in Established State",
};
static const char *const cease_names[] = {
    [CEASE_MAXIMUM_PREFIXES] = "Maximum Number of Prefixes Reached",
    [CEASE_ADMINISTRATIVE_SHUTDOWN] = "Administrative Shutdown",
    [CEASE_PEER_DECONFIGURED] = "Peer De-configured",
    [CEASE_ADMINISTRATIVE_RESET] = "Administrative Reset",
    [CEASE_CONNECTION_REJECTED] = "Connection Rejected",
    [CEASE_OTHER_CONFIGURATION_CHANGE] = "Other Configuration Change",
    [CEASE_COLLISION] = "Connection Collision Resolution",
    [CEASE_OUT_OF_RESOURCES] = "Out of Resources",
    [9] = "Hard Reset",
    [10] = "BFD Down",
};
static const char *const refresh_names[] = {[1] = "Invalid Message Length"};

static const struct {
	const char *name;
	const char *const *subcodes;
	size_t count;
} codes[] = {
    [ERROR_HEADER] = {"Message Header Error", header_names, COUNT(header_names)},
    [ERROR_OPEN] = {"OPEN Message Error", open_names, COUNT(open_names)},
    [ERROR_UPDATE] = {"UPDATE Message Error", update_names, COUNT(update_names)},
    [ERROR_HOLD_TIMER] = {"Hold Timer Expired", NULL, 0},
    [ERROR_FSM] = {"Finite State Machine Error", fsm_names, COUNT(fsm_names)},
    [ERROR_CEASE] = {"Cease", cease_names, COUNT(cease_names)},
    [ERROR_ROUTE_REFRESH] = {"ROUTE-REFRESH Message Error", refresh_names, COUNT(refresh_names)},
    [ERROR_SEND_HOLD_TIMER] = {"Send Hold Timer Expired", NULL, 0},
};

const char *bgp_error_code_name(uint8_t code)
{
	return code > 0 && code < COUNT(codes) ? codes[code].name : "Unknown Error";
}

const char *bgp_error_subcode_name(uint8_t code, uint8_t subcode)
{
	if (code == 0 || code >= COUNT(codes) || subcode >= codes[code].count) {
		return NULL;
	}
	return codes[code].subcodes[subcode];
}

// RFC 9003 §2: one octet of length, then UTF-8. What is not printable ASCII is shown as '?': the text is a stranger's and ends
// in logs.
static void append_communication(struct bytes data, char *out, size_t capacity)
{
	if (data.length < 2 || data.data[0] == 0 || data.data[0] > data.length - 1) {
		return;
	}
	size_t at = 0;
	const char *lead = ": \"";
	for (; *lead && at + 1 < capacity; at++) {
		out[at] = *lead++;
	}
	for (size_t i = 0; i < data.data[0] && at + 2 < capacity; i++, at++) {
		uint8_t c = data.data[1 + i];
		out[at] = c >= 0x20 && c < 0x7f && c != '"' ? (char)c : '?';
	}
	if (at + 1 < capacity) {
		out[at++] = '"';
	}
	out[at] = '\0';
}

void bgp_error_format(const struct bgp_error *error, char out[static ERROR_TEXT])
{
	const char *subcode = bgp_error_subcode_name(error->code, error->subcode);
	int length;
	if (subcode) {
		length = snprintf(out, ERROR_TEXT, "%s/%s", bgp_error_code_name(error->code), subcode);
	} else if (error->subcode || error->code == 0 || error->code >= COUNT(codes)) {
		length = snprintf(out, ERROR_TEXT, "%s/%u.%u", bgp_error_code_name(error->code), error->code, error->subcode);
	} else {
		length = snprintf(out, ERROR_TEXT, "%s", bgp_error_code_name(error->code));
	}
	if (error->code == ERROR_CEASE &&
	    (error->subcode == CEASE_ADMINISTRATIVE_SHUTDOWN || error->subcode == CEASE_ADMINISTRATIVE_RESET)) {
		append_communication(error->data, out + length, ERROR_TEXT - (size_t)length);
	}
}
