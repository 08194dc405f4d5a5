// The identification payload (RFC 7296 §3.5) from and against the text that a tunnel has.
#ifndef TWINSPAN_IKE_IDENTITY_H
#define TWINSPAN_IKE_IDENTITY_H

#include "services/ike/ike.h"

enum { IDENTITY_BODY_MAX = 4 + IDENTITY_TEXT_MAX };

// Writes the body of IDi or IDr. Text that is an address is an address, one with @ a user FQDN ("@" first: an FQDN), one with a
// dot an FQDN, any other a key id.
void identity_write(struct writer *w, const char *text);
// Is the payload's body this identity? A peer may call the same octets an FQDN, a user FQDN or a key id.
bool identity_matches(struct bytes body, const char *text);
char *identity_format(struct bytes body, char out[static IDENTITY_TEXT_MAX]);

#endif
