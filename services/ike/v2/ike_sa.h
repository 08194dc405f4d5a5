// What the files of the core share: tunnels, their IKE SAs, their child SAs, and the exchanges between them. Nothing outside
// the core includes this.
//
// A tunnel is one pair of addresses, so each message belongs to the tunnel of its addresses before anything in it is believed.
// All work is found by looking at the state (tunnel_run): what is due is a property of the SAs, not a queue, and a restored
// core goes on as the old one would have.
#ifndef TWINSPAN_IKE_SA_H
#define TWINSPAN_IKE_SA_H

#include "common/base/map.h"
#include "common/base/random.h"
#include "services/ike/v2/cookie.h"
#include "services/ike/tunnel/identity.h"
#include "services/ike/ike.h"
#include "services/ike/crypto/ike_keys.h"
#include "services/ike/v2/nat_detection.h"
#include "services/ike/wire/payload.h"
#include "services/ike/wire/proposal.h"
#include "services/ike/wire/traffic_selector.h"

enum {
	TUNNEL_SAS_MAX = 24,
	CHILDREN_MAX = 12,
	CHILDREN_LIVE_MAX = 6,    // beyond these a peer's wish for another is refused (NO_ADDITIONAL_SAS)
	HALF_OPEN_TUNNEL_MAX = 4, // half-open IKE SAs of one tunnel that the peer began
	HALF_OPEN_COOKIES = 64,   // from so many in all, or 2 of one tunnel, cookies are asked for
	HALF_OPEN_TUNNEL_COOKIES = 2,
};

// ---- child SAs ----
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
	bool rekey_wanted;                      // asked for, or its lifetime in bytes or packets nears
	instant rekey_at, expire_at, remove_at; // remove_at: of a REPLACED one, when we delete it ourselves
	instant confirmed_at;                   // when the peer is known to have it: before that it is not rekeyed
	uint64_t bytes_soft, packets_soft;      // 0: no limit
	uint64_t packets_in;                    // as last reported
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
	// Of a CREATE_CHILD_SA:
	struct nonce nonce;
	struct key_exchange exchange;
	uint32_t new_spi; // inbound SPI of the child SA to be
	uint64_t new_ike_spi;
	uint32_t old_spi; // inbound SPI of the child SA to be rekeyed or deleted
	// What the peer's request for the same made in the meantime (§2.8.1), and the lower nonce of that exchange.
	uint32_t rival_child;
	uint64_t rival_ike;
	bool decided; // for the rival: what our own request makes is one too many
	struct nonce rival_lowest;
};

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
struct handshake { // only until IKE_AUTH is done
	struct nonce nonce_i, nonce_r;
	struct key_exchange exchange;
	uint8_t *init_request, *init_response; // without the marker: they are signed
	size_t init_request_length, init_response_length;
	uint8_t cookie[COOKIE_MAX];
	size_t cookie_length;
	uint8_t retries; // IKE_SA_INIT begun again for a cookie or another group
	uint8_t group;
	uint32_t child_spi; // inbound, offered in IKE_AUTH
};
struct ike_sa {
	struct tunnel *tunnel;
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
	uint8_t child_group; // which the peer asked for by INVALID_KE_PAYLOAD; 0xff: none
	uint8_t ike_group;
	uint16_t farewell; // error to tell when closing
	struct handshake *handshake;
};

// ---- tunnels ----
struct tunnel {
	struct tunnel_config config;
	bool known;   // told by its owner in this incarnation, not only restored
	bool removed; // goes when its SAs are closed
	struct ike_sa *sas[TUNNEL_SAS_MAX];
	size_t sa_count;
	enum tunnel_state state;
	char reason[REASON_MAX];
	char event_reason[REASON_MAX]; // the last failure that was an event, not to be repeated
	instant event_at;
	instant since;
	uint64_t generation, child_rekeys, ike_rekeys, event_number;
	uint64_t rekey_child_handled, rekey_ike_handled, restart_handled;
	bool status_dirty;
	struct tunnel_status_row *shown; // as last told
	bool tried;                      // an attempt has failed since it was last UP
	instant retry_at;                // when to initiate; INSTANT_NEVER: only the peer may
	instant duplicate_closed;        // when last an IKE SA was closed for being one too many
	instant deadline;
	size_t position; // in the heap; 0: not there
};

struct ike {
	struct random random;
	struct map *tunnels; // by id
	struct map *tunnels_by_addresses;
	struct map *secrets;    // struct secret by tunnel id
	struct map *sas;        // by our SPI
	struct map *child_spis; // inbound SPIs in use or promised, to their struct child_sa or to a placeholder
	struct cookie_jar cookies;
	uint64_t child_generation;
	size_t half_open;
	bool started;
	uint64_t counters[IKE_COUNTER_COUNT];
	struct tunnel **heap; // by deadline; heap[1] is the earliest
	size_t heap_count, heap_capacity;
	// During a step:
	instant now;
	struct ike_actions *out;
};

// ---- actions.c ----
void action_send(struct ike *ike, const struct ike_sa *sa, struct bytes message);
void action_send_datagram(struct ike *ike, const struct ike_datagram *to, struct bytes message); // back to where `to` came from
void action_keepalive(struct ike *ike, const struct ike_sa *sa);
void action_put_child(struct ike *ike, const struct ike_sa *sa, const struct child_sa *child);
void action_remove_child(struct ike *ike, const struct tunnel *tunnel, uint32_t spi_in);
void action_state(struct ike *ike, uint64_t key, struct bytes state);    // empty: remove
void action_status(struct ike *ike, struct tunnel *tunnel, bool remove); // when it differs from what was told
void tunnel_event(struct ike *ike, struct tunnel *tunnel, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void actions_sends_last(struct ike_actions *actions);

// ---- deadline_heap.c ----
void heap_set(struct ike *ike, struct tunnel *tunnel, instant deadline);
void heap_remove(struct ike *ike, struct tunnel *tunnel);

// ---- ike_sa.c ----
uint64_t ike_sa_spi(const struct ike_sa *sa);                                      // ours
struct ike_sa *ike_sa_new(struct ike *ike, struct tunnel *tunnel, bool initiator); // NULL: the tunnel has too many
struct ike_sa *ike_sa_find(const struct ike *ike, uint64_t spi);                   // by our SPI
uint64_t ike_spi_new(struct ike *ike);
void ike_sa_index(struct ike *ike, struct ike_sa *sa);
// Takes it out of its tunnel with all its child SAs, without a word to the peer.
void ike_sa_remove(struct ike *ike, struct ike_sa *sa);
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
struct child_sa *child_new(struct ike *ike, struct ike_sa *sa, uint32_t spi_in, uint32_t spi_out, const struct suite *suite,
                           const struct key_inputs *inputs, bool initiator, bool in_use);
struct child_sa *child_find_in(const struct ike_sa *sa, uint32_t spi_in);
struct child_sa *child_find_out(const struct ike_sa *sa, uint32_t spi_out); // not one that lingers
size_t child_count_live(const struct ike_sa *sa);                           // LIVE and REPLACED
void child_linger(struct ike *ike, struct ike_sa *sa, struct child_sa *child);
void child_remove(struct ike *ike, struct ike_sa *sa, struct child_sa *child);
void child_use(struct ike *ike, struct ike_sa *sa, struct child_sa *child); // the peer has it: send on it and no older one
// The peer has what it asked for: with a window of one, its next request says so, and so does traffic.
void children_confirm(struct ike *ike, struct ike_sa *sa);
void tunnel_select_outbound(struct ike *ike, struct tunnel *tunnel); // something is in use, if there is anything

// ---- message.c ----
// Seals a chain into a whole message; returns its length, 0 when it does not fit.
size_t message_seal(struct ike *ike, struct ike_sa *sa, uint8_t exchange, bool response, uint32_t message_id,
                    const struct chain *chain, uint8_t out[static IKE_MESSAGE_MAX]);
// Checks and decrypts the SK payload of `message` into `plain` and splits what was inside. NOTIFY_NONE, INVALID_SYNTAX
// (authentic but malformed), or AUTHENTICATION_FAILED (not authentic, or no SK payload at all).
enum notify message_open(const struct ike_sa *sa, struct bytes message, const struct ike_header *header,
                         uint8_t plain[static IKE_MESSAGE_MAX], struct payloads *out);

// ---- ike_window.c ----
void request_send(struct ike *ike, struct ike_sa *sa, enum request_kind kind, uint8_t exchange, const struct chain *chain);
void request_send_plain(struct ike *ike, struct ike_sa *sa, enum request_kind kind, struct bytes message);
void request_resend(struct ike *ike, struct ike_sa *sa); // when due
void request_done(struct ike *ike, struct ike_sa *sa);   // forgets it, its secrets and its promises
void respond(struct ike *ike, struct ike_sa *sa, uint8_t exchange, const struct chain *chain);

// ---- the exchanges ----
// Each answers by writing into `chain` what the response holds.
void ike_sa_init_begin(struct ike *ike, struct tunnel *tunnel);
void ike_sa_init_request(struct ike *ike, const struct ike_datagram *datagram, struct bytes message,
                         const struct ike_header *header);
void ike_sa_init_response(struct ike *ike, struct ike_sa *sa, const struct ike_datagram *datagram, struct bytes message,
                          const struct ike_header *header);
void ike_auth_begin(struct ike *ike, struct ike_sa *sa);
void ike_auth_request(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads, struct chain *chain);
void ike_auth_response(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads);
void create_child_begin(struct ike *ike, struct ike_sa *sa, struct child_sa *old); // NULL: a new one
void create_child_request(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads, struct chain *chain);
void create_child_response(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads);
void rekey_ike_begin(struct ike *ike, struct ike_sa *sa);
void rekey_ike_request(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads, struct chain *chain);
void rekey_ike_response(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads);
void rekey_ike_adopt_rival(struct ike *ike, struct ike_sa *sa);      // ours came to nothing
void rekey_ike_decided(struct ike *ike, struct ike_sa *provisional); // the peer uses what it made
void informational_begin(struct ike *ike, struct ike_sa *sa, enum request_kind kind, struct child_sa *child);
void informational_request(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads, struct chain *chain);
void informational_response(struct ike *ike, struct ike_sa *sa, enum request_kind kind, uint32_t old_spi);
// The child SA part of IKE_AUTH and CREATE_CHILD_SA for a responder: chooses and narrows. NOTIFY_NONE or the error.
struct child_choice {
	struct suite suite;
	uint8_t number;
	uint32_t spi_out;
	struct traffic_selectors ts_i, ts_r;
	char reason[REASON_MAX]; // when it failed
};
enum notify child_choose(const struct tunnel *tunnel, const struct payloads *payloads, enum proposal_groups groups,
                         unsigned ke_group, struct child_choice *out);
enum notify child_accept(const struct tunnel *tunnel, const struct payloads *payloads, enum proposal_groups groups,
                         struct child_choice *out);
void child_answer_write(struct chain *chain, const struct child_choice *choice, uint32_t spi_in, enum proposal_groups groups);
void selectors_write(struct chain *chain, uint8_t type, const struct traffic_selectors *selectors);

// ---- liveness.c: what is due on one IKE SA, and when the next is ----
void ike_sa_run(struct ike *ike, struct ike_sa *sa);
instant ike_sa_deadline(const struct ike_sa *sa);

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
// The same for what anybody at the peer's address could have caused: it is nothing while the tunnel is UP, and moves no timer.
void tunnel_refused(struct ike *ike, struct tunnel *tunnel, const char *format, ...) __attribute__((format(printf, 3, 4)));
void tunnel_retry(struct ike *ike, struct tunnel *tunnel, duration least, duration spread);
const struct secret *tunnel_secret(const struct ike *ike, const struct tunnel *tunnel);
struct ike_sa *tunnel_current(const struct tunnel *tunnel); // the newest established IKE SA, or NULL

// ---- ike_state.c ----
void state_save(struct ike *ike, struct ike_sa *sa);
bool state_restore(struct ike *ike, struct bytes state);

#endif
