// Who may make us work: an initiator of whom nothing is known but a datagram with the customer's address in it (RFC 7296 §2.6).
#ifndef TWINSPAN_IKE_ADMISSION_H
#define TWINSPAN_IKE_ADMISSION_H

#include "services/ike/v2/cookie.h"

struct admission;
struct admission *admission_new(void);
void admission_free(struct admission **admission);
struct cookie_jar *admission_cookies(struct admission *admission);

#endif
