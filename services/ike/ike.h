// The only door into the core of ike: IKEv2 (RFC 7296) for the tunnels of one gateway node. Events and the time go in, actions
// come out; the same input gives the same output. Nothing here waits, sends, logs or reads a clock.
//
// The caller carries out the actions of a step in their order and lets a datagram leave only when the child SAs and saved
// states that were put before it are safe (the output barrier): so an inbound SA is in the dataplane before the peer may use
// it, and a core restored from the saved states resumes where the peer believes it to be.
#ifndef TWINSPAN_IKE_IKE_H
#define TWINSPAN_IKE_IKE_H

#include "common/base/address.h"
#include "common/base/instant.h"
#include "common/base/secret.h"

enum {
	TUNNEL_ID_MAX = 32, // with the final zero
	IDENTITY_TEXT_MAX = 256,
	ALGORITHMS_MAX = 8,
	GROUPS_MAX = 16,
	REASON_MAX = 1024,
	SUITE_TEXT_MAX = 96,
	EVENT_NAME_MAX = 32,
	CHILD_SELECTORS_MAX = 16,
};

enum encryption {
	ENCRYPTION_AES_CBC_128 = 1,
	ENCRYPTION_AES_CBC_192,
	ENCRYPTION_AES_CBC_256,
	ENCRYPTION_AES_GCM16_128,
	ENCRYPTION_AES_GCM16_256,
};
enum integrity { INTEGRITY_NONE, INTEGRITY_SHA1, INTEGRITY_SHA2_256, INTEGRITY_SHA2_384, INTEGRITY_SHA2_512 };

// What one kind of SA may use, each list in order of preference.
struct algorithms {
	uint8_t encryption[ALGORITHMS_MAX]; // enum encryption
	uint8_t integrity[ALGORITHMS_MAX];  // enum integrity without NONE; for an IKE SA the PRFs too
	uint8_t groups[GROUPS_MAX];         // IANA numbers; 0 is NONE (no PFS)
	uint8_t encryption_count, integrity_count, group_count;
};

enum dpd_action { DPD_RESTART = 1, DPD_CLEAR, DPD_NONE };

struct tunnel_config {
	char id[TUNNEL_ID_MAX];
	char border_gateway_id[TUNNEL_ID_MAX];
	struct address local, remote;
	char local_id[IDENTITY_TEXT_MAX], remote_id[IDENTITY_TEXT_MAX];
	bool enabled;             // administratively up
	bool initiate;            // startup INITIATE; otherwise wait for the peer
	bool version_1;           // IKEv1 is asked for: not spoken, said in the status
	bool force_encapsulation; // always UDP
	struct algorithms ike, child;
	uint32_t ike_lifetime, child_lifetime; // seconds
	uint64_t child_bytes, child_packets;   // 0: no limit
	uint32_t rekey_margin, rekey_fuzz;     // seconds, percent
	uint32_t replay_window;
	bool dpd;
	uint32_t dpd_interval, dpd_timeout; // seconds
	uint8_t dpd_action;                 // enum dpd_action
	// Requests counted by whoever makes them; a number above the last one seen asks for the deed once.
	uint64_t rekey_child_requests, rekey_ike_requests, restart_requests;
};

enum ike_event_kind {
	IKE_EVENT_TIME, // nothing but the time
	IKE_EVENT_DATAGRAM,
	IKE_EVENT_TUNNEL,         // made or changed
	IKE_EVENT_TUNNEL_REMOVED, // `text` is the tunnel id
	IKE_EVENT_TUNNEL_KEPT,    // `text` is the id of a tunnel that there is, though nothing new is known of it
	IKE_EVENT_TUNNELS_KNOWN,  // every tunnel there is was told: restored ones that were not are removed
	IKE_EVENT_SECRET,         // `text` tunnel id, `secret`
	IKE_EVENT_SECRET_REMOVED, // `text` tunnel id
	IKE_EVENT_USAGE,
	IKE_EVENT_RESTORE, // `bytes`: what an earlier incarnation saved; before IKE_EVENT_START
	IKE_EVENT_START,   // nothing more to restore: negotiate
};

struct ike_datagram {
	struct address local, remote;
	uint16_t local_port, remote_port;
	struct bytes octets; // on port 4500 with the non-ESP marker
};

struct sa_usage { // what the dataplane says of one child SA
	uint32_t inbound_spi;
	uint64_t bytes_in, packets_in, bytes_out, packets_out, sequence_out;
	instant last_in;            // of the last packet that authenticated; INSTANT_NEVER: none yet
	struct address seen_remote; // length 0: as the SA has it
	uint16_t seen_remote_port;
	bool resting; // no packet for a while, and the next one is told of at once
};

struct ike_event {
	enum ike_event_kind kind;
	struct ike_datagram datagram;
	const struct tunnel_config *tunnel;
	const char *text;
	const struct secret *secret;
	struct bytes bytes;
	struct sa_usage usage;
};

enum ike_action_kind {
	IKE_ACTION_SEND,
	IKE_ACTION_PUT_CHILD,
	IKE_ACTION_REMOVE_CHILD, // `child` with tunnel_id and inbound_spi
	IKE_ACTION_PUT_STATE,    // `key`, `octets`: a secret; seal it
	IKE_ACTION_REMOVE_STATE, // `key`
	IKE_ACTION_STATUS,
	IKE_ACTION_REMOVE_STATUS, // `status.tunnel_id`
	IKE_ACTION_EVENT,
};

struct child_direction {
	uint32_t spi;
	struct secret encryption_key; // with the salt last for AES-GCM
	struct secret integrity_key;
};
struct child_selector { // IPv4 or IPv6 addresses from first to last
	struct address first, last;
	uint16_t first_port, last_port;
	uint8_t protocol; // 0: any
};
struct child_row {
	char tunnel_id[TUNNEL_ID_MAX], border_gateway_id[TUNNEL_ID_MAX];
	struct child_direction inbound, outbound;
	bool outbound_in_use, udp_encapsulation, extended_sequence_numbers;
	uint64_t generation;
	enum encryption encryption;
	enum integrity integrity;
	struct address local, remote;
	uint16_t local_port, remote_port;
	uint32_t replay_window;
	// What it may carry. No selectors at all: everything. Among the child SAs of a tunnel that are in use the newest whose
	// selectors have a packet sends it.
	struct child_selector local_selectors[CHILD_SELECTORS_MAX], remote_selectors[CHILD_SELECTORS_MAX];
	uint8_t local_selector_count, remote_selector_count;
};

enum tunnel_state { TUNNEL_DOWN, TUNNEL_CONNECTING, TUNNEL_UP };
struct tunnel_status_row {
	char tunnel_id[TUNNEL_ID_MAX];
	enum tunnel_state state;
	char reason[REASON_MAX];
	instant since;
	uint64_t generation, child_rekeys, ike_rekeys;
	char ike_suite[SUITE_TEXT_MAX], child_suite[SUITE_TEXT_MAX];
	bool weak, udp_encapsulated;
};
struct tunnel_event_row {
	char tunnel_id[TUNNEL_ID_MAX];
	uint64_t number;
	char event[EVENT_NAME_MAX];
	char detail[REASON_MAX];
};

struct ike_action {
	enum ike_action_kind kind;
	struct ike_datagram datagram; // SEND: `octets` point into `octets` below
	bool stateless;               // SEND: what it answers has made no state, so it need not wait for any to be safe
	uint64_t key;                 // our IKE SPI
	uint8_t *octets;
	size_t length;
	struct child_row *child;
	struct tunnel_status_row *status;
	struct tunnel_event_row *event;
};
struct ike_actions {
	struct ike_action *items;
	size_t count, capacity;
};
void ike_actions_clear(struct ike_actions *actions); // wipes and frees what the actions hold; the array stays for reuse
void ike_actions_free(struct ike_actions *actions);

// Why datagrams are dropped or requests refused: every one counts once. The last three are none: what was asked for or
// answered, and each computation of a public value or a shared secret.
#define IKE_COUNTERS(X)                                                                                                        \
	X(DROP_SHORT, "short")                                                                                                 \
	X(DROP_KEEPALIVE, "nat-keepalive")                                                                                     \
	X(DROP_NOT_IKE, "no-non-esp-marker")                                                                                   \
	X(DROP_LENGTH, "length")                                                                                               \
	X(DROP_VERSION, "version")                                                                                             \
	X(DROP_EXCHANGE, "exchange")                                                                                           \
	X(DROP_UNKNOWN_PEER, "unknown-peer")                                                                                   \
	X(DROP_UNKNOWN_SPI, "unknown-spi")                                                                                     \
	X(DROP_STATE, "state")                                                                                                 \
	X(DROP_MESSAGE_ID, "message-id")                                                                                       \
	X(DROP_INTEGRITY, "integrity")                                                                                         \
	X(DROP_SYNTAX, "syntax")                                                                                               \
	X(DROP_HALF_OPEN, "half-open-limit")                                                                                   \
	X(DROP_NOT_STARTED, "not-started")                                                                                     \
	X(DROP_DISABLED, "tunnel-disabled")                                                                                    \
	X(DROP_REPEATED, "repeated-too-often")                                                                                 \
	X(COOKIE_ASKED, "cookie-asked")                                                                                        \
	X(RETRANSMIT_ANSWERED, "retransmission-answered")                                                                      \
	X(KEY_EXCHANGE, "key-exchange")
enum ike_counter {
#define X(name, text) IKE_##name,
	IKE_COUNTERS(X)
#undef X
	    IKE_COUNTER_COUNT
};
const char *ike_counter_text(enum ike_counter counter);

struct ike;
// `seed`: 32 octets that nobody else knows.
struct ike *ike_new(const uint8_t seed[static 32]);
void ike_free(struct ike **ike);
// Overwrites the secrets of all tunnels and their SAs, and frees nothing. For the end of the process: nothing else may be called
// after it.
void ike_wipe(struct ike *ike);
void ike_step(struct ike *ike, const struct ike_event *event, instant now, struct ike_actions *out);
instant ike_deadline(const struct ike *ike);         // when the next step is due; INSTANT_NEVER
const uint64_t *ike_counters(const struct ike *ike); // by enum ike_counter
struct ike_gauges {
	size_t tunnels, tunnels_up, ike_sas, half_open, child_sas;
};
struct ike_gauges ike_gauges(const struct ike *ike);

#endif
