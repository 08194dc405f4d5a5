// See nat_detection.h. A peer with several addresses may send several source hashes: one that fits is enough.
#include "services/ike/v2/nat_detection.h"

#include "services/ike/crypto/ike_crypto.h"
#include <string.h>

void nat_hash(uint64_t spi_i, uint64_t spi_r, const struct address *address, uint16_t port, uint8_t out[static NAT_HASH_LENGTH])
{
	uint8_t octets[8 + 8 + 16 + 2];
	struct writer w = writer_of(octets, sizeof octets);
	write_u64(&w, spi_i);
	write_u64(&w, spi_r);
	write_bytes(&w, address_bytes(address));
	write_u16(&w, port);
	sha1(writer_bytes(&w), out);
}

void nat_detection_write(struct chain *chain, uint64_t spi_i, uint64_t spi_r, const struct address *local, uint16_t local_port,
                         const struct address *remote, uint16_t remote_port, bool conceal)
{
	uint8_t hash[NAT_HASH_LENGTH];
	struct bytes data = {hash, sizeof hash};
	nat_hash(spi_i, spi_r, local, local_port, hash);
	if (conceal) {
		hash[0] ^= 0xff;
	}
	chain_notify(chain, 0, (struct bytes){0}, NAT_DETECTION_SOURCE_IP, data);
	nat_hash(spi_i, spi_r, remote, remote_port, hash);
	chain_notify(chain, 0, (struct bytes){0}, NAT_DETECTION_DESTINATION_IP, data);
}

struct nat_detection nat_detection_read(const struct payloads *payloads, uint64_t spi_i, uint64_t spi_r,
                                        const struct address *local, uint16_t local_port, const struct address *remote,
                                        uint16_t remote_port)
{
	uint8_t source[NAT_HASH_LENGTH], destination[NAT_HASH_LENGTH];
	nat_hash(spi_i, spi_r, remote, remote_port, source);
	nat_hash(spi_i, spi_r, local, local_port, destination);
	bool sources = false, destinations = false, source_fits = false, destination_fits = false;
	for (size_t i = 0; i < payloads->count; i++) {
		struct notification n;
		if (payloads->items[i].type != PAYLOAD_NOTIFY || !notification_read(payloads->items[i].body, &n) ||
		    n.data.length != NAT_HASH_LENGTH) {
			continue;
		}
		if (n.type == NAT_DETECTION_SOURCE_IP) {
			sources = true;
			source_fits = source_fits || memcmp(n.data.data, source, sizeof source) == 0;
		} else if (n.type == NAT_DETECTION_DESTINATION_IP) {
			destinations = true;
			destination_fits = destination_fits || memcmp(n.data.data, destination, sizeof destination) == 0;
		}
	}
	bool supported = sources && destinations;
	return (struct nat_detection){
	    .supported = supported, .local = supported && !destination_fits, .remote = supported && !source_fits};
}
