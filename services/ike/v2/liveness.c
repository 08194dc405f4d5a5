// What is due on an IKE SA, found by looking at it. All its timers:
//   retransmission   0.5 s, doubling up to 2 s; 0.3, 0.3, 0.6, 1.2 s when it is urgent (ike_window.c)
//   handshake        given up 10 s after a request without an answer; a peer's half-open one after 15 s
//   liveness         by evidence (RFC 7296 §2.4): traffic that has gone out for 1 s with nothing authentic coming in asks at
//   once, and
//                    3 s of urgent requests without an answer are the end. Without traffic it asks after dpd.interval without a
//                    sign of life, and dpd.timeout is the end
//   an answer        that does not come: after 5 s from a peer that lives, a new IKE SA is begun beside; after 60 s it is the
//   end lifetimes        rekeyed at lifetime - margin - fuzz, closed at the lifetime (§2.8) replaced         deleted by us when
//   who should have has not after 65 s linger           6 s: inbound child SAs after their delete, closed IKE SAs for
//   retransmissions NAT keepalive    20 s, only when a NAT is before us (RFC 3948 §4)
#include "services/ike/v2/exchanges.h"

#include "common/base/invariant.h"
#include <stdio.h>

enum {
	HANDSHAKE_SECONDS = 10,
	ANSWER_SECONDS = 60,
	ANSWER_MILLISECONDS = 250, // of a repeated request
	IGNORED_SECONDS = 5,
	PROVISIONAL_SECONDS = 60,
	KEEPALIVE_SECONDS = 20,
	QUIET_MILLISECONDS = 1000,  // traffic goes out: so long without an answer to it asks
	IDLE_MILLISECONDS = 1500,   // the same, after an answer: traffic may be one-way for long
	REPORT_MILLISECONDS = 10700, // how late the dataplane's report of traffic that comes in may be while it flows
};

// How much later than the last sign of life there may have been one of which the dataplane has yet to tell.
static duration report_due(const struct ike_sa *sa)
{
	bool flowing = false;
	for (size_t i = 0; i < sa->child_count; i++) {
		flowing |= sa->children[i]->flowing;
	}
	return sa->heard_esp && flowing ? MILLISECONDS(REPORT_MILLISECONDS) : 0;
}

static instant probe_at(const struct ike_sa *sa)
{
	const struct tunnel_config *config = &sa->tunnel->config;
	if (!config->dpd) {
		return INSTANT_NEVER;
	}
	duration interval = SECONDS(config->dpd_interval), half = SECONDS(config->dpd_timeout) / 2;
	return sa->last_in + (interval < half ? interval : half) + report_due(sa);
}

// When to ask because traffic goes out and nothing comes in, on this IKE SA or on another of the tunnel: the peer is one.
// INSTANT_NEVER: that is not so.
static instant urgent_at(const struct ike_sa *sa)
{
	instant heard = tunnel_heard(sa->tunnel);
	if (!sa->tunnel->config.dpd || sa->out_at <= heard) {
		return INSTANT_NEVER;
	}
	return heard + MILLISECONDS(sa->idle_answers ? IDLE_MILLISECONDS : QUIET_MILLISECONDS);
}

// When the peer counts as dead for its silence: at the timeout, but only if it was asked in that time and had time to answer.
// After a standstill of this process, or of the whole machine, it is asked first.
static instant silent_at(const struct ike_sa *sa)
{
	const struct tunnel_config *config = &sa->tunnel->config;
	const struct request *request = &sa->request;
	if (!config->dpd || request->kind == REQUEST_NONE || request->sends < 2) {
		return INSTANT_NEVER;
	}
	instant asked = request->first_sent + SECONDS(config->dpd_timeout) / 3;
	instant last = request->resend_at - request->interval + MILLISECONDS(ANSWER_MILLISECONDS);
	duration timeout = SECONDS(config->dpd_timeout), report = report_due(sa);
	// Who sends, and answers no request, lives as long as there may be a report of it on its way.
	instant at = sa->last_in + (timeout < report ? report : timeout);
	return instant_max(at, instant_max(asked, last));
}

// When the peer counts as dead if nothing comes.
static instant dead_at(const struct ike_sa *sa)
{
	instant by_request =
	    sa->request.kind != REQUEST_NONE ? sa->request.first_sent + SECONDS(ANSWER_SECONDS) : INSTANT_NEVER;
	return instant_min(silent_at(sa), by_request);
}

// Urgent requests have had their time, and nothing has come in since the first.
static bool is_dead_by_evidence(const struct ike *ike, const struct ike_sa *sa)
{
	return request_exhausted(sa, ike->now) && tunnel_heard(sa->tunnel) < sa->request.urged_at;
}

// A request that the peer, which lives, does not answer; or one that it answered by ending the IKE SA, if it is as the RFC
// says.
static instant doubtful_at(const struct ike_sa *sa)
{
	instant ignored = sa->request.kind != REQUEST_NONE && sa->last_in > sa->request.first_sent
	                      ? sa->request.first_sent + SECONDS(IGNORED_SECONDS)
	                      : INSTANT_NEVER;
	return instant_min(sa->doubt_at, sa->ignored ? INSTANT_NEVER : ignored);
}

// It is dead on every IKE SA on which nothing has come since it was asked: a peer that began several is not asked on each, one
// after the other.
static void peer_is_dead(struct ike *ike, struct ike_sa *sa)
{
	struct tunnel *tunnel = sa->tunnel;
	const struct request *request = &sa->request;
	bool unanswered = request->kind != REQUEST_NONE;
	instant asked = !unanswered ? sa->last_in : request->urgent ? request->urged_at : request->first_sent;
	uint8_t action = tunnel->config.dpd_action;
	duration silence = ike->now - sa->last_in;
	bool current = tunnel_current(tunnel) == sa;
	ike_sa_remove(ike, sa);
	for (size_t i = tunnel->sa_count; i-- > 0;) {
		struct ike_sa *other = tunnel->sas[i];
		bool standing = other->state == IKE_SA_ESTABLISHED || other->state == IKE_SA_REPLACED;
		if (standing && other->last_in < asked && (current || other->state == IKE_SA_REPLACED)) {
			ike_sa_remove(ike, other);
		}
	}
	if (!current || tunnel_current(tunnel)) {
		return; // one that was replaced
	}
	tunnel_failed(ike, tunnel, "the peer is silent: no sign of life for %lld s%s", (long long)(silence / SECONDS(1)),
	              unanswered ? ", and no answer to our requests" : "");
	tunnel_retry(ike, tunnel, MILLISECONDS(100), MILLISECONDS(400));
	if (action == DPD_CLEAR || action == DPD_NONE) {
		tunnel->retry_at = INSTANT_NEVER;
	}
}

// ---- child SAs ----
// The end of its lifetime; but one whose replacement the peer may not have yet stays until that is clear.
static instant end_of(const struct ike_sa *sa, const struct child_sa *child)
{
	instant end = child->expire_at;
	for (size_t i = 0; i < sa->child_count; i++) {
		const struct child_sa *other = sa->children[i];
		bool replacement = other->state == CHILD_LIVE && other->generation > child->generation;
		end = replacement ? instant_max(end, other->confirmed_at) : end;
	}
	return end;
}

static void child_run(struct ike *ike, struct ike_sa *sa, struct child_sa *child)
{
	if (child->state == CHILD_LINGERING) {
		if (ike->now >= child->remove_at) {
			child_remove(ike, sa, child);
		}
		return;
	}
	bool overdue = ike->now >= end_of(sa, child) || (child->state == CHILD_REPLACED && ike->now >= child->remove_at);
	if (child->state != CHILD_DELETING && overdue && sa->state == IKE_SA_ESTABLISHED) {
		if (child_count_live(sa) == 1) {
			struct tunnel *tunnel = sa->tunnel;
			char why[REASON_MAX / 2];
			snprintf(why, sizeof why, "%.*s", (int)sizeof why - 1, tunnel->event_reason);
			snprintf(tunnel->reason, sizeof tunnel->reason, "the child SA reached its lifetime: %s",
			         why[0] != '\0' ? why : "it could not be rekeyed");
		}
		child->state = CHILD_DELETING;
		sa->dirty = true;
		sa->new_child_at = ike->now;
	}
}

static instant child_deadline(const struct ike_sa *sa, const struct child_sa *child)
{
	if (child->state == CHILD_LINGERING) {
		return child->remove_at;
	}
	if (sa->state != IKE_SA_ESTABLISHED || child->state == CHILD_DELETING) {
		return INSTANT_NEVER;
	}
	if (child->state == CHILD_REPLACED) {
		return instant_min(child->remove_at, end_of(sa, child));
	}
	bool idle = sa->request.kind == REQUEST_NONE;
	instant due = child->rekey_wanted ? 0 : child->rekey_at;
	due = instant_max(due, child->confirmed_at);
	return idle ? instant_min(end_of(sa, child), due) : end_of(sa, child);
}

static struct child_sa *child_to_delete(const struct ike_sa *sa)
{
	for (size_t i = 0; i < sa->child_count; i++) {
		if (sa->children[i]->state == CHILD_DELETING) {
			return sa->children[i];
		}
	}
	return NULL;
}

static struct child_sa *child_to_rekey(const struct ike *ike, const struct ike_sa *sa)
{
	for (size_t i = 0; i < sa->child_count; i++) {
		struct child_sa *child = sa->children[i];
		bool due = child->rekey_wanted || ike->now >= child->rekey_at;
		if (child->state == CHILD_LIVE && due && ike->now >= child->confirmed_at) {
			return child;
		}
	}
	return NULL;
}

static bool wants_child(const struct ike_sa *sa)
{
	return child_count_live(sa) == 0 && sa->tunnel->config.initiate && tunnel_current(sa->tunnel) == sa;
}

// The next request of an established IKE SA, when none is under way.
static void next_request(struct ike *ike, struct ike_sa *sa)
{
	struct child_sa *child;
	invariant(sa->state == IKE_SA_ESTABLISHED && sa->request.kind == REQUEST_NONE);
	if (sa->provisional) {
		return;
	}
	sa->ignored = false;
	if (sa->orphan != 0) {
		informational_begin(ike, sa, REQUEST_DELETE_CHILD, sa->orphan);
		sa->orphan = 0;
	} else if ((child = child_to_delete(sa)) != NULL) {
		informational_begin(ike, sa, REQUEST_DELETE_CHILD, child->spi_in);
	} else if (sa->rekey_wanted || ike->now >= sa->rekey_at) {
		sa->rekey_wanted = false;
		sa->rekey_at = ike->now + SECONDS(10); // if nothing comes of it
		rekey_ike_begin(ike, sa);
	} else if ((child = child_to_rekey(ike, sa)) != NULL) {
		child->rekey_wanted = false;
		child->rekey_at = ike->now + SECONDS(10);
		create_child_begin(ike, sa, child);
	} else if (wants_child(sa) && ike->now >= sa->new_child_at) {
		sa->new_child_at = ike->now + SECONDS(10);
		create_child_begin(ike, sa, NULL);
	} else if (ike->now >= probe_at(sa) || ike->now >= urgent_at(sa)) {
		informational_begin(ike, sa, REQUEST_PROBE, 0);
	}
}

// ---- the IKE SA ----
// What the peer does not do in this IKE SA it may do in a new one, which is made before this one goes.
static void look_for_doubt(struct ike *ike, struct ike_sa *sa)
{
	if (ike->now < doubtful_at(sa)) {
		return;
	}
	sa->doubt_at = INSTANT_NEVER;
	sa->ignored = true;
	if (tunnel_current(sa->tunnel) == sa) {
		tunnel_begin_beside(ike, sa->tunnel);
	}
}

static void run_established(struct ike *ike, struct ike_sa *sa)
{
	if (ike->now >= dead_at(sa) || is_dead_by_evidence(ike, sa)) {
		peer_is_dead(ike, sa);
		return;
	}
	if (ike->now >= sa->expire_at || (sa->provisional && ike->now >= sa->created + SECONDS(PROVISIONAL_SECONDS))) {
		struct tunnel *tunnel = sa->tunnel;
		ike_sa_close(ike, sa);
		if (!tunnel_current(tunnel)) {
			tunnel_failed(ike, tunnel, "the IKE SA reached its lifetime and could not be rekeyed");
			tunnel_retry(ike, tunnel, MILLISECONDS(100), MILLISECONDS(400));
		}
		return;
	}
	look_for_doubt(ike, sa);
	if (ike->now >= sa->keepalive_at) {
		action_keepalive(ike, sa);
		sa->keepalive_at = ike->now + SECONDS(KEEPALIVE_SECONDS);
	}
	if (sa->request.kind == REQUEST_NONE) {
		next_request(ike, sa);
	}
	if (sa->request.kind != REQUEST_NONE && ike->now >= urgent_at(sa)) {
		request_urge(ike, sa);
	}
	request_resend(ike, sa);
}

static void run_handshake(struct ike *ike, struct ike_sa *sa)
{
	if (ike->now < sa->request.first_sent + SECONDS(HANDSHAKE_SECONDS)) {
		request_resend(ike, sa);
		return;
	}
	if (sa->handshake->refusal) {
		tunnel_failed(ike, sa->tunnel, "%s", sa->handshake->refusal);
	} else {
		tunnel_failed(ike, sa->tunnel, "no response from the peer to %s",
		              sa->state == IKE_SA_INIT_SENT ? "IKE_SA_INIT" : "IKE_AUTH");
	}
	ike_sa_remove(ike, sa);
}

void ike_sa_run(struct ike *ike, struct ike_sa *sa)
{
	for (size_t i = sa->child_count; i-- > 0;) {
		child_run(ike, sa, sa->children[i]);
	}
	switch ((enum ike_sa_state)sa->state) {
	case IKE_SA_INIT_SENT:
	case IKE_SA_AUTH_SENT:
		run_handshake(ike, sa);
		return;
	case IKE_SA_HALF_OPEN:
	case IKE_SA_CLOSED:
		if (ike->now >= sa->close_at) {
			ike_sa_remove(ike, sa);
		}
		return;
	case IKE_SA_ESTABLISHED:
		run_established(ike, sa);
		return;
	case IKE_SA_REPLACED:
		request_resend(ike, sa);
		if (ike->now >= sa->close_at) {
			ike_sa_close(ike, sa);
			ike_sa_run(ike, sa);
		}
		return;
	case IKE_SA_CLOSING:
		if (sa->request.kind == REQUEST_NONE) {
			informational_begin(ike, sa, REQUEST_DELETE_IKE, 0);
			sa->close_at = ike->now + SECONDS(CLOSING_SECONDS); // what was under way before may have taken long
		}
		request_resend(ike, sa);
		if (ike->now >= sa->close_at) {
			ike_sa_remove(ike, sa); // the peer does not answer; its own liveness will tell it
		}
		return;
	}
}

instant ike_sa_deadline(const struct ike_sa *sa)
{
	instant at = sa->request.kind != REQUEST_NONE ? sa->request.resend_at : INSTANT_NEVER;
	for (size_t i = 0; i < sa->child_count; i++) {
		at = instant_min(at, child_deadline(sa, sa->children[i]));
	}
	switch ((enum ike_sa_state)sa->state) {
	case IKE_SA_INIT_SENT:
	case IKE_SA_AUTH_SENT:
		return instant_min(at, sa->request.first_sent + SECONDS(HANDSHAKE_SECONDS));
	case IKE_SA_HALF_OPEN:
	case IKE_SA_CLOSED:
	case IKE_SA_REPLACED:
	case IKE_SA_CLOSING:
		return instant_min(at, sa->close_at);
	case IKE_SA_ESTABLISHED:
		break;
	}
	at = instant_min(at, instant_min(dead_at(sa), instant_min(sa->expire_at, sa->keepalive_at)));
	if (sa->provisional) {
		return instant_min(at, sa->created + SECONDS(PROVISIONAL_SECONDS));
	}
	at = instant_min(at, doubtful_at(sa));
	if (sa->request.kind != REQUEST_NONE) {
		return sa->request.urgent ? at : instant_min(at, urgent_at(sa));
	}
	if (wants_child(sa)) {
		at = instant_min(at, sa->new_child_at);
	}
	at = sa->orphan ? 0 : instant_min(at, urgent_at(sa));
	return instant_min(at, instant_min(probe_at(sa), sa->rekey_wanted ? 0 : sa->rekey_at));
}
