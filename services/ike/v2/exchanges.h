// IKEv2 (RFC 7296): what the exchanges share. Each is one file, both roles.
#ifndef TWINSPAN_IKE_EXCHANGES_H
#define TWINSPAN_IKE_EXCHANGES_H

#include "services/ike/tunnel/tunnel.h"
#include "services/ike/v2/nat_detection.h"
#include "services/ike/wire/payload.h"
#include "services/ike/wire/proposal.h"
#include "services/ike/wire/traffic_selector.h"

extern const struct ike_version ike_version_2;

// ---- message.c ----
// Seals a chain into a whole message; returns its length, 0 when it does not fit.
size_t message_seal(struct ike *ike, struct ike_sa *sa, uint8_t exchange, bool response, uint32_t message_id,
                    const struct chain *chain, uint8_t out[static IKE_MESSAGE_MAX]);
// Checks and decrypts the SK payload of `message` into `plain` and splits what was inside. NOTIFY_NONE, INVALID_SYNTAX
// (authentic but malformed), or AUTHENTICATION_FAILED (not authentic, or no SK payload at all).
enum notify message_open(const struct ike_sa *sa, struct bytes message, const struct ike_header *header,
                         uint8_t plain[static IKE_MESSAGE_MAX], struct payloads *out);

// ---- exchange.c: key exchanges as in crypto/key_exchange.h, counted ----
void exchange_begin(struct ike *ike, struct key_exchange *exchange, unsigned group, struct ke_value *ours);
bool exchange_respond(struct ike *ike, unsigned group, struct bytes peer, struct ke_value *ours, struct shared_secret *out);
bool exchange_finish(struct ike *ike, const struct key_exchange *exchange, struct bytes peer, struct shared_secret *out);

// ---- ike_window.c ----
void request_send(struct ike *ike, struct ike_sa *sa, enum request_kind kind, uint8_t exchange, const struct chain *chain);
void request_send_plain(struct ike *ike, struct ike_sa *sa, enum request_kind kind, struct bytes message);
void request_resend(struct ike *ike, struct ike_sa *sa);      // when due
void request_urge(struct ike *ike, struct ike_sa *sa);        // repeats it now, and quickly from now on
bool request_exhausted(const struct ike_sa *sa, instant now); // urgent, and repeated often enough
// Goes back to where the request came from (§2.11).
void respond(struct ike *ike, struct ike_sa *sa, const struct ike_datagram *to, uint8_t exchange, const struct chain *chain);

// ---- the exchanges ----
// Each answers by writing into `chain` what the response holds. INVALID_SYNTAX from one that returns an error: the request is
// malformed, which is the end of the IKE SA (RFC 7296 §2.21.3, RFC 6989 §2.5).
void ike_sa_init_begin(struct ike *ike, struct tunnel *tunnel);
// What the two roles of IKE_SA_INIT share: a whole unprotected message around what a chain will hold, a copy of one, the keys
// from the shared secret (§2.14), which is wiped.
struct chain init_message_begin(struct writer *w, uint64_t spi_i, uint64_t spi_r, uint8_t flags);
struct bytes init_message_end(struct writer *w, const struct chain *chain);
void handshake_keep(uint8_t **copy, size_t *length, struct bytes message);
void init_keys(struct ike_sa *sa, struct shared_secret *shared);
// An answer to IKE_SA_INIT or IKE_AUTH was none; of a second one the attempt ends, and the next is begun soon.
void handshake_spoiled(struct ike *ike, struct ike_sa *sa, const char *what);
// Returns the tunnel in which something may have changed, or NULL.
struct tunnel *ike_sa_init_request(struct ike *ike, const struct ike_datagram *datagram, struct bytes message,
                                   const struct ike_header *header);
void ike_sa_init_response(struct ike *ike, struct ike_sa *sa, const struct ike_datagram *datagram, struct bytes message,
                          const struct ike_header *header);
void ike_auth_begin(struct ike *ike, struct ike_sa *sa);
void ike_auth_request(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads, struct chain *chain);
void ike_auth_response(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads);
void create_child_begin(struct ike *ike, struct ike_sa *sa, struct child_sa *old); // NULL: a new one
enum notify create_child_request(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads, struct chain *chain);
void create_child_response(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads);
void rekey_ike_begin(struct ike *ike, struct ike_sa *sa);
enum notify rekey_ike_request(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads, struct chain *chain);
void rekey_ike_response(struct ike *ike, struct ike_sa *sa, const struct payloads *payloads);
void rekey_ike_adopt_rival(struct ike *ike, struct ike_sa *sa);      // ours came to nothing
void rekey_ike_decided(struct ike *ike, struct ike_sa *provisional); // the peer uses what it made
// `spi_in`: of the child SA to be deleted.
void informational_begin(struct ike *ike, struct ike_sa *sa, enum request_kind kind, uint32_t spi_in);
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

// ---- rekey_attempts.c: what to do when the peer refuses to rekey ----
// The group of the next request: what the peer asked for, `preferred`, `second`, then the others as configured. NO_GROUP: all
// have been refused.
uint8_t rekey_attempts_next(const struct rekey_attempts *attempts, const struct algorithms *ours, uint8_t preferred,
                            uint8_t second);
// Begins one with `group`, and what it offers: all of ours with that group first; only that group once one was refused.
struct algorithms rekey_attempts_offer(struct rekey_attempts *attempts, const struct algorithms *ours, uint8_t group);
enum rekey_remedy {
	REKEY_AGAIN,         // at once, with another group
	REKEY_LATER,         // the same, when the peer is done with what hinders it
	REKEY_IN_NEW_IKE_SA, // not in this IKE SA: a new one beside it
};
enum rekey_remedy rekey_attempts_refused(struct rekey_attempts *attempts, const struct algorithms *ours,
                                         const struct notification *n);
void rekey_attempts_done(struct rekey_attempts *attempts);

// ---- liveness.c: what is due on one IKE SA, and when the next is ----
void ike_sa_run(struct ike *ike, struct ike_sa *sa);
instant ike_sa_deadline(const struct ike_sa *sa);

#endif
