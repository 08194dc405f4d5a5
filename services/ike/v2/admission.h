// Who may make us work: an initiator of whom nothing is known but a datagram with the customer's address in it (RFC 7296 §2.6).
// What has come of late is counted for each tunnel and in all; beyond a few, an initiator first shows by a cookie that it
// receives at its address, and of those that do only so many are taken in a second.
#ifndef TWINSPAN_IKE_ADMISSION_H
#define TWINSPAN_IKE_ADMISSION_H

#include "services/ike/tunnel/tunnel.h"
#include "services/ike/v2/cookie.h"

struct admission;
struct admission *admission_new(void);
void admission_free(struct admission **admission);

// The initiator of one IKE_SA_INIT, as far as it is known.
struct stranger {
	struct tunnel *tunnel;
	const struct address *remote;
	uint64_t spi_i;
	struct bytes nonce;
	bool proven; // it returned our cookie
};
// Whether `cookie` is one that we gave to this initiator.
bool admission_proves(struct ike *ike, const struct stranger *stranger, struct bytes cookie);
// Whether it is to be asked for a cookie now; `half_open` of its tunnel's IKE SAs wait for IKE_AUTH. Each asking keeps the
// guard up.
bool admission_asks(struct ike *ike, const struct stranger *stranger, size_t half_open);
void admission_cookie(struct ike *ike, const struct stranger *stranger, uint8_t out[static COOKIE_LENGTH]);
// Counts an attempt that will be answered, whatever the answer. false: too many of this tunnel, though proven.
bool admission_take(struct ike *ike, const struct stranger *stranger);
// One of the tunnel's attempts is authenticated: it was none of a stranger.
void admission_forgive(struct ike *ike, struct tunnel *tunnel);

#endif
