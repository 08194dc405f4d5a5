// What the dataplane says of child SAs: lifetimes in octets and packets, whether the peer sends on a new one, where a NAT has
// moved it, and the evidence that liveness goes by (RFC 7296 §2.4).
#include "services/ike/tunnel/tunnel.h"

#include "common/base/invariant.h"

static uint64_t bytes_of(const struct traffic_count *counted)
{
	return counted->bytes_before + counted->bytes;
}

static uint64_t packets_of(const struct traffic_count *counted)
{
	return counted->packets_before + counted->packets;
}

// A dataplane that was restarted counts from 0 again; what it had counted before still counts.
static void count(struct traffic_count *counted, uint64_t bytes, uint64_t packets)
{
	if (packets < counted->packets || bytes < counted->bytes) {
		counted->bytes_before += counted->bytes;
		counted->packets_before += counted->packets;
	}
	counted->bytes = bytes;
	counted->packets = packets;
	invariant(bytes_of(counted) >= bytes);
}

// Traffic that comes in is a sign of life; traffic that went out with none coming in since the last report is a reason to ask.
static void take_evidence(struct ike *ike, struct ike_sa *sa, struct child_sa *child, const struct sa_usage *usage)
{
	bool in = usage->packets_in != child->in.packets;
	child->flowing = !usage->resting;
	if (usage->last_in != INSTANT_NEVER && usage->last_in > sa->last_in && usage->last_in <= ike->now) {
		sa->last_in = usage->last_in;
		sa->heard_esp = true;
		sa->idle_answers = 0;
	}
	if (usage->packets_out > child->out.packets && !in) {
		sa->out_at = ike->now;
	}
}

static void check_lifetime(struct ike *ike, struct child_sa *child, const struct sa_usage *usage)
{
	uint64_t in = bytes_of(&child->in), out = bytes_of(&child->out), bytes = in > out ? in : out;
	uint64_t packets_in = packets_of(&child->in), packets_out = packets_of(&child->out);
	uint64_t packets = packets_in > packets_out ? packets_in : packets_out;
	bool soft = (child->bytes_soft && bytes >= child->bytes_soft) ||
	            (child->packets_soft && packets >= child->packets_soft) ||
	            (!child->suite.esn && usage->sequence_out >= 0xc0000000u);
	bool hard =
	    (child->bytes_hard && bytes >= child->bytes_hard) || (child->packets_hard && packets >= child->packets_hard);
	if (soft && child->state == CHILD_LIVE && child->rekey_at > ike->now + SECONDS(10)) {
		child->rekey_wanted = true;
	}
	if (hard && child->expire_at > ike->now + SECONDS(10)) {
		child->expire_at = ike->now + SECONDS(10); // time for the rekeying that is under way
	}
}

// §2.23: the NAT before the peer has a new mapping.
static void follow_nat(struct ike *ike, struct ike_sa *sa, const struct sa_usage *usage)
{
	bool moved = usage->seen_remote.length > 0 && sa->encapsulate && sa->nat.remote && !sa->nat.local &&
	             address_equal(&usage->seen_remote, &sa->remote) && usage->seen_remote_port != 0 &&
	             usage->seen_remote_port != sa->remote_port && sa->local_port == IKE_NAT_PORT;
	if (!moved) {
		return;
	}
	sa->remote_port = usage->seen_remote_port;
	sa->dirty = true;
	for (size_t i = 0; i < sa->child_count; i++) {
		action_put_child(ike, sa, sa->children[i]);
	}
}

void tunnel_usage(struct ike *ike, const struct sa_usage *usage)
{
	void *found =
	    map_find(ike->child_spis, (struct bytes){(const uint8_t *)&usage->inbound_spi, sizeof usage->inbound_spi});
	if (!found || found == ike) {
		return;
	}
	struct child_sa *child = found;
	struct ike_sa *sa = child->sa;
	invariant(child->spi_in == usage->inbound_spi && child_find_in(sa, child->spi_in) == child);
	take_evidence(ike, sa, child, usage);
	bool received = usage->packets_in > child->in.packets;
	count(&child->in, usage->bytes_in, usage->packets_in);
	count(&child->out, usage->bytes_out, usage->packets_out);
	if (received && child->state == CHILD_LIVE && sa->state == IKE_SA_ESTABLISHED) {
		child->confirmed_at = instant_min(child->confirmed_at, ike->now); // the peer sends on it, so it has it
		if (!child->in_use) {
			child_use(ike, sa, child);
		}
	}
	check_lifetime(ike, child, usage);
	follow_nat(ike, sa, usage);
	tunnel_run(ike, sa->tunnel);
}
