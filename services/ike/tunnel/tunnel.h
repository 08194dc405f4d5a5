// What the files of the core share: tunnels, and the core as a whole. Nothing outside the core includes this.
//
// A tunnel is one pair of addresses, so each message belongs to the tunnel of its addresses before anything in it is believed.
// All work is found by looking at the state (tunnel_run): what is due is a property of the SAs, not a queue, and a restored
// core goes on as the old one would have.
#ifndef TWINSPAN_IKE_TUNNEL_H
#define TWINSPAN_IKE_TUNNEL_H

#include "common/base/heap.h"
#include "common/base/map.h"
#include "common/base/random.h"
#include "services/ike/ike.h"
#include "services/ike/tunnel/identity.h"
#include "services/ike/tunnel/ike_sa.h"
#include "services/ike/wire/payload.h"

enum { IKE_VERSIONS = 3 };

// What a version of the protocol does for the tunnels that speak it; v2/receive.c has that of IKEv2. A tunnel's IKE SAs are run
// by the version that made them.
struct ike_version {
	// A datagram from the pair of addresses of some tunnel or of none, with its header of this version; without the non-ESP
	// marker.
	void (*receive)(struct ike *ike, const struct ike_datagram *datagram, struct bytes message,
	                const struct ike_header *header);
	void (*begin)(struct ike *ike, struct tunnel *tunnel); // an attempt as initiator
	void (*run)(struct ike *ike, struct ike_sa *sa);       // does what is due
	instant (*deadline)(const struct ike_sa *sa);          // when the next is; INSTANT_NEVER
};

// ---- tunnels ----
struct recent {        // a count that is forgotten at a steady rate (v2/admission.c)
	int64_t count; // in thousandths
	instant at;
};
// How far the one who caused a failure is known.
enum standing {
	STANDING_UNPROVEN,  // anybody could have sent it in the peer's name
	STANDING_REACHABLE, // whoever it is receives at the peer's address
	STANDINGS,
};
enum { REASONS_TOLD = 4 };
struct told_reason { // a failure that was an event, not to be repeated soon
	uint64_t hash;
	instant at; // 0: none
};
struct tunnel {
	struct tunnel_config config;
	bool known;   // told by its owner in this incarnation, not only restored
	bool removed; // goes when its SAs are closed
	struct ike_sa *sas[TUNNEL_SAS_MAX];
	size_t sa_count;
	enum tunnel_state state;
	char reason[REASON_MAX];
	char event_reason[REASON_MAX]; // the last failure
	struct told_reason told[REASONS_TOLD];
	instant event_at;
	instant since;
	uint64_t generation, child_rekeys, ike_rekeys, event_number;
	uint64_t rekey_child_handled, rekey_ike_handled, restart_handled;
	bool status_dirty;
	struct tunnel_status_row *shown; // as last told
	bool tried;                      // an attempt has failed since it was last UP
	instant retry_at;                // when to initiate; INSTANT_NEVER: only the peer may
	instant yields_until;            // the peer begins by itself: until then ours waits; 0: it never did
	instant duplicates_since;        // since when IKE SAs of the peer were closed for being one too many, and how many
	uint8_t duplicates_closed;
	uint8_t child_group;           // with which a child SA was last made by CREATE_CHILD_SA; NO_GROUP
	instant turn;                  // of its next attempt among those of other tunnels; 0: none yet
	instant beside_at;             // when to begin a new IKE SA beside the one that stands; INSTANT_NEVER: not wanted
	instant beside_last;           // when last one was begun
	uint8_t failures;              // since it was last UP: how long the pause before the next attempt is
	uint8_t ike_group;             // of the key exchange that worked last; 0: none yet
	struct recent attempts;        // IKE_SA_INIT with a cookie, of whom is not authenticated
	instant refused_at[STANDINGS]; // when a stranger's failure was last told; 0: never
	struct heap_entry due;         // in ike.deadlines
};

struct ike {
	struct random random;
	struct map *tunnels; // by id
	struct map *tunnels_by_addresses;
	struct map *secrets;        // struct secret by tunnel id
	struct map *sas;            // by our SPI
	struct map *child_spis;     // inbound SPIs in use or promised, to their struct child_sa or to a placeholder
	struct cookie_jar *cookies; // for strangers, v2/cookie.c
	uint64_t child_generation;
	size_t half_open;
	bool started;
	uint64_t counters[IKE_COUNTER_COUNT];
	struct heap deadlines;                            // of the tunnels
	const struct ike_version *versions[IKE_VERSIONS]; // by major version; NULL: not spoken
	instant last_turn;                                // that was given to an attempt
	uint8_t *scratch;                                 // where states are put together; NULL before the first
	// During a step:
	instant now;
	struct ike_actions *out;
};

// ---- actions.c ----
void action_send(struct ike *ike, const struct ike_sa *sa, struct bytes message); // waits as ike_sa_waits says
// The same, back to where `to` came from.
void action_answer(struct ike *ike, const struct ike_sa *sa, const struct ike_datagram *to, struct bytes message);
// An answer that goes with no state: it waits for nothing.
void action_send_stateless(struct ike *ike, const struct ike_datagram *to, struct bytes message);
void action_keepalive(struct ike *ike, const struct ike_sa *sa);
void action_put_child(struct ike *ike, const struct ike_sa *sa, const struct child_sa *child);
void action_remove_child(struct ike *ike, const struct tunnel *tunnel, uint32_t spi_in);
void action_state(struct ike *ike, uint64_t key, struct bytes state);    // empty: remove
void action_status(struct ike *ike, struct tunnel *tunnel, bool remove); // when it differs from what was told
void tunnel_event(struct ike *ike, struct tunnel *tunnel, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void actions_sends_last(struct ike_actions *actions);

// ---- tunnel.c ----
struct tunnel *tunnel_find(const struct ike *ike, const char *id);
struct tunnel *tunnel_by_addresses(const struct ike *ike, const struct address *local, const struct address *remote);
struct tunnel *tunnel_new(struct ike *ike, const struct tunnel_config *config);
void tunnel_free(struct ike *ike, struct tunnel *tunnel);
void tunnel_configure(struct ike *ike, const struct tunnel_config *config);
void tunnel_remove(struct ike *ike, struct tunnel *tunnel);
void tunnel_run(struct ike *ike, struct tunnel *tunnel); // does all that is due, and sets the next deadline
// An attempt or an SA failed: says why, and when to try again.
void tunnel_failed(struct ike *ike, struct tunnel *tunnel, const char *format, ...) __attribute__((format(printf, 3, 4)));
// The same for what somebody who is not authenticated caused: it is nothing while the tunnel is UP, moves no timer, and is told
// once in a while. tunnel_hears says beforehand whether it would be told, so that no text is made in vain.
bool tunnel_hears(const struct ike *ike, const struct tunnel *tunnel, enum standing standing);
void tunnel_refused(struct ike *ike, struct tunnel *tunnel, enum standing standing, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void tunnel_retry(struct ike *ike, struct tunnel *tunnel, duration least, duration spread);
instant tunnel_heard(const struct tunnel *tunnel); // when last a sign of life came on any of its IKE SAs that stand
// A new IKE SA beside the one that stands, and in its place once it is there: when that one cannot be rekeyed.
void tunnel_begin_beside(struct ike *ike, struct tunnel *tunnel);
const struct secret *tunnel_secret(const struct ike *ike, const struct tunnel *tunnel);
struct ike_sa *tunnel_current(const struct tunnel *tunnel); // the newest established IKE SA, or NULL

// ---- usage.c ----
void tunnel_usage(struct ike *ike, const struct sa_usage *usage); // what the dataplane says of a child SA

// ---- ike_state.c ----
void state_save(struct ike *ike, struct ike_sa *sa);
bool state_restore(struct ike *ike, struct bytes state);

#endif
