// NAT_DETECTION_SOURCE_IP and NAT_DETECTION_DESTINATION_IP (RFC 7296 §2.23).
#ifndef TWINSPAN_IKE_NAT_DETECTION_H
#define TWINSPAN_IKE_NAT_DETECTION_H

#include "common/base/address.h"
#include "services/ike/tunnel/ike_sa.h"
#include "services/ike/wire/payload.h"

enum { NAT_HASH_LENGTH = 20 };

void nat_hash(uint64_t spi_i, uint64_t spi_r, const struct address *address, uint16_t port,
              uint8_t out[static NAT_HASH_LENGTH]);
// Adds both notifications. `conceal`: a hash of the source that fits nothing, so that the peer sees a NAT and encapsulates in
// UDP.
void nat_detection_write(struct chain *chain, uint64_t spi_i, uint64_t spi_r, const struct address *local, uint16_t local_port,
                         const struct address *remote, uint16_t remote_port, bool conceal);
struct nat_detection nat_detection_read(const struct payloads *payloads, uint64_t spi_i, uint64_t spi_r,
                                        const struct address *local, uint16_t local_port, const struct address *remote,
                                        uint16_t remote_port);

#endif
