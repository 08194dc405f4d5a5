// How much work they may make us who receive at the customer's address and are not authenticated (a host behind its NAT, a
// device with another key): so many attempts of one tunnel at once, and so many a second. An initiator that has not shown by a
// cookie that it receives there does not come as far as this.
#ifndef TWINSPAN_IKE_ADMISSION_H
#define TWINSPAN_IKE_ADMISSION_H

#include "services/ike/tunnel/tunnel.h"

// Counts an attempt that will be answered, whatever the answer. false: too many.
bool admission_take(const struct ike *ike, struct tunnel *tunnel);
// One of the tunnel's attempts is authenticated: it was none of a stranger.
void admission_forgive(struct tunnel *tunnel);

#endif
