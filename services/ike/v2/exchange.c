// Key exchanges of all exchanges, counted: each public value and each shared secret.
#include "services/ike/v2/exchanges.h"

void exchange_begin(struct ike *ike, struct key_exchange *exchange, unsigned group, struct ke_value *ours)
{
	ike->counters[IKE_KEY_EXCHANGE]++;
	key_exchange_begin(exchange, group, &ike->random, ours);
}

bool exchange_respond(struct ike *ike, unsigned group, struct bytes peer, struct ke_value *ours, struct shared_secret *out)
{
	ike->counters[IKE_KEY_EXCHANGE] += 2;
	return key_exchange_respond(group, peer, &ike->random, ours, out);
}

bool exchange_finish(struct ike *ike, const struct key_exchange *exchange, struct bytes peer, struct shared_secret *out)
{
	ike->counters[IKE_KEY_EXCHANGE]++;
	return key_exchange_finish(exchange, peer, out);
}
