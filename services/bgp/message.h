// The messages' frame (RFC 4271 §4.1, §6.1) and the small ones: NOTIFICATION, KEEPALIVE, ROUTE-REFRESH.
#ifndef TWINSPAN_BGP_MESSAGE_H
#define TWINSPAN_BGP_MESSAGE_H

#include "services/bgp/error.h"

enum { MESSAGE_HEADER = 19, MESSAGE_LIMIT = 4096 };
enum message_type { MESSAGE_OPEN = 1, MESSAGE_UPDATE, MESSAGE_NOTIFICATION, MESSAGE_KEEPALIVE, MESSAGE_ROUTE_REFRESH };

// Reads the 19 octets of a header. Returns the message's whole length, or 0 and `error`.
size_t message_header_read(const uint8_t header[static MESSAGE_HEADER], enum message_type *type, struct bgp_error *error);
// Starts a message; message_end fills the length in.
void message_begin(struct writer *w, enum message_type type);
void message_end(struct writer *w, size_t start);
void notification_write(struct writer *w, const struct bgp_error *error);
struct bgp_error notification_read(struct bytes body);

#endif
