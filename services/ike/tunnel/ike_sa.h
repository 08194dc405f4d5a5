// An IKE SA and the child SAs under it, of either version of the protocol: what they are, how they are made, replaced, closed
// and removed. The exchanges that do so are in v2/.
#ifndef TWINSPAN_IKE_SA_H
#define TWINSPAN_IKE_SA_H

#include "services/ike/crypto/ike_keys.h"
#include "services/ike/ike.h"
#include "services/ike/wire/ikev2.h"
#include "services/ike/wire/traffic_selector.h"

struct ike;
struct tunnel;
struct ike_version;

enum {
	TUNNEL_SAS_MAX = 24,
	CHILDREN_MAX = 12,
	CHILDREN_LIVE_MAX = 6, // beyond these a peer's wish for another is refused (NO_ADDITIONAL_SAS)
	CLOSING_SECONDS = 6,   // how long a delete is repeated, or a request before it
};

// ---- child SAs ----
struct traffic_count {                         // of one direction
	uint64_t bytes, packets;               // as last reported
	uint64_t bytes_before, packets_before; // by earlier incarnations of the dataplane, which begin at 0
};
struct child_selectors {
	struct traffic_selectors local, remote;
};
enum child_state {
	CHILD_LIVE,
	CHILD_REPLACED,  // another has taken its place; whoever made that one deletes this one
	CHILD_DELETING,  // we delete it
	CHILD_LINGERING, // gone for IKE; what is in flight is still received until `remove_at`
};
struct child_sa {
	struct ike_sa *sa;
	uint32_t spi_in, spi_out;
	uint64_t generation;
	struct suite suite;
	struct secret encryption_in, integrity_in, encryption_out, integrity_out;
	uint8_t state;                          // enum child_state
	bool in_use;                            // outbound
	bool flowing;                           // packets, of which the dataplane tells now and then only
	bool rekey_wanted;                      // asked for, or its lifetime in bytes or packets nears
	instant rekey_at, expire_at, remove_at; // remove_at: of a REPLACED one, when we delete it ourselves
	instant confirmed_at;                   // when the peer is known to have it: before that it is not rekeyed
	uint64_t bytes_soft, packets_soft;      // 0: no limit
	uint64_t bytes_hard, packets_hard;      // what was configured when it was made; 0: no limit
	uint32_t replay_window;                 // as well
	struct traffic_count in, out;
	// What it may carry, from our side and from the peer's. NULL: everything, as with every route-based peer.
	struct child_selectors *selectors;
};

// ---- requests: one at a time (window 1, RFC 7296 §2.3) ----
enum request_kind {
	REQUEST_NONE,
	REQUEST_IKE_SA_INIT,
	REQUEST_IKE_AUTH,
	REQUEST_REKEY_IKE,
	REQUEST_REKEY_CHILD,
	REQUEST_NEW_CHILD,
	REQUEST_DELETE_CHILD,
	REQUEST_DELETE_IKE,
	REQUEST_PROBE,
};
struct request {
	uint8_t kind; // enum request_kind
	uint32_t message_id;
	uint8_t *octets; // as sent, without the non-ESP marker
	size_t length;
	instant first_sent, resend_at;
	duration interval;
	uint8_t sends;    // since it was first sent, or since it became urgent
	bool urgent;      // traffic goes out and nothing comes in: repeated quickly
	instant urged_at; // since when
	// What it asks for, by its kind; a rival is what the peer's request for the same made in the meantime (§2.8.1).
	union {
		struct { // of REQUEST_REKEY_CHILD, REQUEST_NEW_CHILD and REQUEST_DELETE_CHILD: inbound SPIs; 0: none
			uint32_t old, new, rival;
		} child;
		struct { // of REQUEST_REKEY_IKE: our SPIs
			uint64_t new, rival;
			bool decided; // for the rival: what our own request makes is one too many
		} ike;
	};
	// Of a CREATE_CHILD_SA:
	struct nonce nonce;
	struct key_exchange exchange;
	struct nonce rival_lowest; // the lower one of the rival's exchange
};
bool request_is_child(const struct request *request); // it is about a child SA

// What became of our wish to rekey, so far: the next group to try, and when to try something else (rekey_attempts.c).
struct rekey_attempts {
	uint16_t tried;   // groups, by their place in the configuration
	uint8_t refusals; // one after the other
	uint8_t wish;     // the group that the peer asked for by INVALID_KE_PAYLOAD; NO_GROUP
	uint8_t offered;  // the group of the request under way; NO_GROUP
};
enum { NO_GROUP = 0xff };

// ---- IKE SAs ----
enum ike_sa_state {
	IKE_SA_INIT_SENT,
	IKE_SA_HALF_OPEN, // the peer's; waits for its IKE_AUTH
	IKE_SA_AUTH_SENT,
	IKE_SA_ESTABLISHED,
	IKE_SA_REPLACED, // another has its place: answers only
	IKE_SA_CLOSING,  // we delete it
	IKE_SA_CLOSED,   // answers retransmissions until `close_at`
};
struct nat_detection {
	bool supported;     // the peer sent both notifications
	bool local, remote; // there is a NAT before us, before the peer
};
struct handshake { // only until IKE_AUTH is done
	struct nonce nonce_i, nonce_r;
	uint8_t *init_request, *init_response; // without the marker: they are signed
	size_t init_request_length, init_response_length;
	uint32_t child_spi; // inbound, offered in IKE_AUTH
	uint8_t spoiled;    // answers that were none
	// As initiator:
	struct key_exchange exchange;
	struct ke_value *value; // ours
	uint8_t cookie[COOKIE_MAX];
	size_t cookie_length;
	uint8_t retries; // IKE_SA_INIT begun again for a cookie or another group
	char *refusal;   // what the peer said instead of an answer; NULL: nothing
	// As responder:
	uint8_t repeated; // how often the answer was sent again, and when last
	instant repeated_at;
};
struct ike_sa {
	struct tunnel *tunnel;
	const struct ike_version *version;
	uint64_t spi_i, spi_r;
	bool initiator;   // we began it
	uint8_t state;    // enum ike_sa_state
	bool provisional; // made by the peer's rekeying while ours is under way: which one stays is not decided yet
	bool dirty;       // changed since it was saved
	bool encapsulate; // child SAs in UDP
	struct nat_detection nat;
	struct address local, remote;
	uint16_t local_port, remote_port;
	struct suite suite;
	struct ike_keys keys;
	uint64_t next_iv;
	uint32_t next_request, next_expected; // message IDs
	struct request request;
	uint8_t *response; // to request next_expected-1, for its retransmissions
	size_t response_length;
	struct child_sa *children[CHILDREN_MAX];
	size_t child_count;
	struct nonce lowest; // of its exchange, for crossing ones
	instant created, established, rekey_at, expire_at, close_at, new_child_at, last_in, keepalive_at;
	bool rekey_wanted;
	struct rekey_attempts child_attempts, ike_attempts;
	uint32_t orphan; // inbound SPI of a child SA that only the peer has: to be deleted; 0: none
	bool had_child;
	instant doubt_at;     // when a new IKE SA is begun beside this one, unless the peer answers before
	instant out_at;       // when traffic was last seen to go out with nothing coming in
	uint8_t idle_answers; // liveness requests answered while traffic went out and none came in
	bool heard_esp;       // the last sign of life was traffic
	bool ignored;         // the request under way has led to a new IKE SA beside this one
	uint16_t farewell;    // error to tell when closing
	struct handshake *handshake;
};

// ---- ike_sa.c ----
uint64_t ike_sa_spi(const struct ike_sa *sa);                                      // ours
struct ike_sa *ike_sa_new(struct ike *ike, struct tunnel *tunnel, bool initiator); // NULL: the tunnel has too many
struct ike_sa *ike_sa_find(const struct ike *ike, uint64_t spi);                   // by our SPI
uint64_t ike_spi_new(struct ike *ike);
void ike_sa_index(struct ike *ike, struct ike_sa *sa);
// Whether what it sends waits until esp has what was done. An ike that is killed goes on where the peer believes it to be; only
// a handshake has nothing to go on with before its end, and a tunnel nothing after the farewell of its last IKE SA.
bool ike_sa_waits(const struct ike_sa *sa);
// The peer, or whoever sends from its address, begins an IKE SA by itself: ours waits for a moment, so that there are not two of
// which one has to go again, which makes some devices begin once more. ike_sa_yields: it waits now.
void ike_sa_peer_begins(struct ike *ike, struct tunnel *tunnel);
bool ike_sa_yields(const struct ike *ike, const struct ike_sa *sa);
// Takes it out of its tunnel with all its child SAs, without a word to the peer.
void ike_sa_remove(struct ike *ike, struct ike_sa *sa);
void request_done(struct ike *ike, struct ike_sa *sa); // forgets the request under way, its secrets and its promises
void handshake_free(struct ike_sa *sa);
void ike_sa_clock(struct ike *ike, struct ike_sa *sa);  // (re)starts its lifetime
void ike_sa_close(struct ike *ike, struct ike_sa *sa);  // begins to delete it
void ike_sa_closed(struct ike *ike, struct ike_sa *sa); // the peer knows; lingers for retransmissions
void ike_sa_move_children(struct ike *ike, struct ike_sa *from, struct ike_sa *to);
// One IKE SA remains for the tunnel once `sa` is authenticated.
void ike_sa_authenticated(struct ike *ike, struct ike_sa *sa, bool initial_contact);
const struct nonce *nonce_lower(const struct nonce *a, const struct nonce *b);
bool nonce_less(const struct nonce *a, const struct nonce *b);

// ---- child_sa.c ----
uint32_t child_spi_new(struct ike *ike); // promised until child_spi_release or child_new
void child_spi_release(struct ike *ike, uint32_t spi);
// What an exchange agreed on; `initiator`: we began that exchange. Installs it.
struct child_agreement {
	uint32_t spi_in, spi_out;
	const struct suite *suite;
	const struct key_inputs *inputs;
	const struct traffic_selectors *ts_i, *ts_r;
};
struct child_sa *child_new(struct ike *ike, struct ike_sa *sa, const struct child_agreement *agreed, bool initiator,
                           bool in_use);
void child_free(struct child_sa *child);                               // its memory alone
bool child_covers(const struct child_sa *a, const struct child_sa *b); // does `a` carry everything that `b` does?
struct child_sa *child_find_in(const struct ike_sa *sa, uint32_t spi_in);
struct child_sa *child_find_out(const struct ike_sa *sa, uint32_t spi_out); // not one that lingers
size_t child_count_live(const struct ike_sa *sa);                           // LIVE and REPLACED
void child_linger(struct ike *ike, struct ike_sa *sa, struct child_sa *child);
void child_remove(struct ike *ike, struct ike_sa *sa, struct child_sa *child);
// The peer has it: send on it, and on no older one that carries nothing but what this one does too.
void child_use(struct ike *ike, struct ike_sa *sa, struct child_sa *child);
// The peer has what it asked for: with a window of one, its next request says so, and so does traffic.
void children_confirm(struct ike *ike, struct ike_sa *sa);
void tunnel_select_outbound(struct ike *ike, struct tunnel *tunnel); // something is in use, if there is anything

#endif
