// The tunnel that tests, simulation, fuzzer and tools of ike negotiate: as a customer would leave it, between two addresses of
// documentation (RFC 5737). Each changes of it what it is about.
#ifndef TWINSPAN_TEST_IKE_TUNNEL_H
#define TWINSPAN_TEST_IKE_TUNNEL_H

#include <string.h>

#include "services/ike/ike.h"
#include "services/ike/wire/ikev2.h"

// As end 0 or 1 has it; end 0 begins.
static inline struct tunnel_config ike_test_tunnel(int end)
{
	static const char *const addresses[2] = {"198.51.100.17", "203.0.113.1"};
	static const struct algorithms algorithms = {.encryption = {ENCRYPTION_AES_GCM16_256, ENCRYPTION_AES_CBC_256},
	                                             .integrity = {INTEGRITY_SHA2_256},
	                                             .groups = {GROUP_CURVE25519, GROUP_ECP_256},
	                                             .encryption_count = 2,
	                                             .integrity_count = 1,
	                                             .group_count = 2};
	struct tunnel_config config = {.id = "tun-1",
	                               .border_gateway_id = "bgw-1",
	                               .enabled = true,
	                               .initiate = end == 0,
	                               .ike = algorithms,
	                               .child = algorithms,
	                               .ike_lifetime = 28800,
	                               .child_lifetime = 3600,
	                               .rekey_margin = 270,
	                               .rekey_fuzz = 100,
	                               .replay_window = 1024,
	                               .dpd = true,
	                               .dpd_interval = 10,
	                               .dpd_timeout = 30,
	                               .dpd_action = DPD_RESTART};
	address_parse(addresses[end], &config.local);
	address_parse(addresses[!end], &config.remote);
	strcpy(config.local_id, addresses[end]);
	strcpy(config.remote_id, addresses[!end]);
	return config;
}

#endif
