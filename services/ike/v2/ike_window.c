// Requests and responses (RFC 7296 §2.1 to §2.3): a window of one, exponential retransmission, and the last response kept for
// the peer's retransmissions.
#include "services/ike/v2/exchanges.h"

#include "common/base/alloc.h"
#include "common/base/invariant.h"
#include <stdlib.h>
#include <string.h>

enum { FIRST_RESEND = 500, LAST_RESEND = 2000 }; // milliseconds

// An urgent request is sent so many times, with these pauses after each; the last one is how long the answer to it may take.
enum { URGENT_SENDS = 5 };
static const uint16_t urgent_pauses[URGENT_SENDS] = {300, 300, 600, 1200, 600};

static void start(struct ike *ike, struct ike_sa *sa, enum request_kind kind, struct bytes message)
{
	struct request *request = &sa->request;
	free(request->octets);
	request->octets = allocate(message.length);
	memcpy(request->octets, message.data, message.length);
	request->length = message.length;
	request->kind = (uint8_t)kind;
	request->message_id = sa->next_request;
	request->first_sent = ike->now;
	request->interval = MILLISECONDS(FIRST_RESEND);
	request->resend_at = ike->now + request->interval;
	request->sends = 1;
	request->urgent = false;
	sa->dirty = true;
	action_send(ike, sa, message);
}

void request_send_plain(struct ike *ike, struct ike_sa *sa, enum request_kind kind, struct bytes message)
{
	start(ike, sa, kind, message);
}

void request_send(struct ike *ike, struct ike_sa *sa, enum request_kind kind, uint8_t exchange, const struct chain *chain)
{
	uint8_t message[IKE_MESSAGE_MAX];
	size_t length = message_seal(ike, sa, exchange, false, sa->next_request, chain, message);
	if (length > 0) {
		start(ike, sa, kind, (struct bytes){message, length});
	}
}

static void resend(struct ike *ike, struct ike_sa *sa)
{
	struct request *request = &sa->request;
	invariant(request->octets && request->length > 0);
	request->sends = (uint8_t)(request->sends < UINT8_MAX ? request->sends + 1 : UINT8_MAX);
	request->resend_at = ike->now + request->interval;
	action_send(ike, sa, (struct bytes){request->octets, request->length});
}

void request_urge(struct ike *ike, struct ike_sa *sa)
{
	struct request *request = &sa->request;
	invariant(request->kind != REQUEST_NONE);
	if (request->urgent) {
		return;
	}
	request->urgent = true;
	request->urged_at = ike->now;
	request->interval = MILLISECONDS(urgent_pauses[0]);
	request->sends = 0;
	if (request->first_sent == ike->now) { // not again in the same instant
		request->sends = 1;
		request->resend_at = ike->now + request->interval;
	} else {
		resend(ike, sa);
	}
}

bool request_exhausted(const struct ike_sa *sa, instant now)
{
	const struct request *request = &sa->request;
	return request->kind != REQUEST_NONE && request->urgent && request->sends >= URGENT_SENDS && now >= request->resend_at;
}

void request_resend(struct ike *ike, struct ike_sa *sa)
{
	struct request *request = &sa->request;
	if (request->kind == REQUEST_NONE || ike->now < request->resend_at) {
		return;
	}
	if (request->urgent && tunnel_heard(sa->tunnel) >= request->urged_at) {
		request->urgent = false; // traffic came in: there is no hurry any more
		request->interval = MILLISECONDS(LAST_RESEND);
	} else if (request->urgent) {
		request->interval =
		    MILLISECONDS(urgent_pauses[request->sends < URGENT_SENDS ? request->sends : URGENT_SENDS - 1]);
	} else {
		request->interval =
		    request->interval * 2 < MILLISECONDS(LAST_RESEND) ? request->interval * 2 : MILLISECONDS(LAST_RESEND);
	}
	resend(ike, sa);
}

void respond(struct ike *ike, struct ike_sa *sa, const struct ike_datagram *to, uint8_t exchange, const struct chain *chain)
{
	uint8_t message[IKE_MESSAGE_MAX];
	size_t length = message_seal(ike, sa, exchange, true, sa->next_expected, chain, message);
	sa->next_expected++;
	sa->dirty = true;
	free(sa->response);
	sa->response = NULL;
	sa->response_length = length;
	if (length > 0) {
		sa->response = allocate(length);
		memcpy(sa->response, message, length);
		action_answer(ike, sa, to, (struct bytes){message, length});
	}
}
