// The one table of payloads by message (RFC 7296 §1.2, §1.3, §1.4, appendix C). What is not in a row's list must not be in that
// message; what is unknown is skipped unless critical (§2.5). A certificate, a vendor id or a configuration request from a peer
// does no harm and is ignored.
#include "services/ike/wire/payload.h"

enum { ANY = PAYLOADS_MAX };
#define RULES_END                                                                                                              \
	{                                                                                                                      \
		PAYLOAD_NONE, 0, 0                                                                                             \
	}

static const struct payload_rule rules[MESSAGE_KINDS][14] = {
    [MESSAGE_IKE_SA_INIT_REQUEST] = {{PAYLOAD_SA, 1, 1},
                                     {PAYLOAD_KE, 1, 1},
                                     {PAYLOAD_NONCE, 1, 1},
                                     {PAYLOAD_NOTIFY, 0, ANY},
                                     {PAYLOAD_VENDOR, 0, ANY},
                                     RULES_END},
    [MESSAGE_IKE_SA_INIT_RESPONSE] = {{PAYLOAD_SA, 1, 1},
                                      {PAYLOAD_KE, 1, 1},
                                      {PAYLOAD_NONCE, 1, 1},
                                      {PAYLOAD_NOTIFY, 0, ANY},
                                      {PAYLOAD_CERTREQ, 0, ANY},
                                      {PAYLOAD_VENDOR, 0, ANY},
                                      RULES_END},
    [MESSAGE_IKE_AUTH_REQUEST] = {{PAYLOAD_IDI, 1, 1},
                                  {PAYLOAD_IDR, 0, 1},
                                  {PAYLOAD_AUTH, 1, 1},
                                  {PAYLOAD_SA, 1, 1},
                                  {PAYLOAD_TSI, 1, 1},
                                  {PAYLOAD_TSR, 1, 1},
                                  {PAYLOAD_CERT, 0, ANY},
                                  {PAYLOAD_CERTREQ, 0, ANY},
                                  {PAYLOAD_CP, 0, 1},
                                  {PAYLOAD_NOTIFY, 0, ANY},
                                  {PAYLOAD_VENDOR, 0, ANY},
                                  RULES_END},
    // A responder that refuses the child SA alone answers without SA and TS and with an error notification (§1.2).
    [MESSAGE_IKE_AUTH_RESPONSE] = {{PAYLOAD_IDR, 1, 1},
                                   {PAYLOAD_AUTH, 1, 1},
                                   {PAYLOAD_SA, 1, 1},
                                   {PAYLOAD_TSI, 1, 1},
                                   {PAYLOAD_TSR, 1, 1},
                                   {PAYLOAD_CERT, 0, ANY},
                                   {PAYLOAD_CP, 0, 1},
                                   {PAYLOAD_NOTIFY, 0, ANY},
                                   {PAYLOAD_VENDOR, 0, ANY},
                                   RULES_END},
    [MESSAGE_CREATE_CHILD_SA_REQUEST] = {{PAYLOAD_SA, 1, 1},
                                         {PAYLOAD_NONCE, 1, 1},
                                         {PAYLOAD_KE, 0, 1},
                                         {PAYLOAD_TSI, 1, 1},
                                         {PAYLOAD_TSR, 1, 1},
                                         {PAYLOAD_CP, 0, 1},
                                         {PAYLOAD_NOTIFY, 0, ANY},
                                         {PAYLOAD_VENDOR, 0, ANY},
                                         RULES_END},
    [MESSAGE_CREATE_CHILD_SA_RESPONSE] = {{PAYLOAD_SA, 1, 1},
                                          {PAYLOAD_NONCE, 1, 1},
                                          {PAYLOAD_KE, 0, 1},
                                          {PAYLOAD_TSI, 1, 1},
                                          {PAYLOAD_TSR, 1, 1},
                                          {PAYLOAD_CP, 0, 1},
                                          {PAYLOAD_NOTIFY, 0, ANY},
                                          {PAYLOAD_VENDOR, 0, ANY},
                                          RULES_END},
    [MESSAGE_REKEY_IKE_SA_REQUEST] = {{PAYLOAD_SA, 1, 1},
                                      {PAYLOAD_NONCE, 1, 1},
                                      {PAYLOAD_KE, 1, 1},
                                      {PAYLOAD_NOTIFY, 0, ANY},
                                      {PAYLOAD_VENDOR, 0, ANY},
                                      RULES_END},
    [MESSAGE_REKEY_IKE_SA_RESPONSE] = {{PAYLOAD_SA, 1, 1},
                                       {PAYLOAD_NONCE, 1, 1},
                                       {PAYLOAD_KE, 1, 1},
                                       {PAYLOAD_NOTIFY, 0, ANY},
                                       {PAYLOAD_VENDOR, 0, ANY},
                                       RULES_END},
    [MESSAGE_INFORMATIONAL_REQUEST] =
        {{PAYLOAD_NOTIFY, 0, ANY}, {PAYLOAD_DELETE, 0, 8}, {PAYLOAD_CP, 0, 1}, {PAYLOAD_VENDOR, 0, ANY}, RULES_END},
    [MESSAGE_INFORMATIONAL_RESPONSE] =
        {{PAYLOAD_NOTIFY, 0, ANY}, {PAYLOAD_DELETE, 0, 8}, {PAYLOAD_CP, 0, 1}, {PAYLOAD_VENDOR, 0, ANY}, RULES_END},
};

const struct payload_rule *payload_rules(enum message_kind kind, size_t *count)
{
	*count = 0;
	while (rules[kind][*count].type != PAYLOAD_NONE) {
		++*count;
	}
	return rules[kind];
}

static bool is_response(enum message_kind kind)
{
	return kind % 2 == 1;
}

static bool is_known(uint8_t type)
{
	return type >= PAYLOAD_SA && type <= PAYLOAD_EAP;
}

static const struct payload_rule *rule_find(const struct payload_rule *list, size_t count, uint8_t type)
{
	for (size_t i = 0; i < count; i++) {
		if (list[i].type == type) {
			return &list[i];
		}
	}
	return NULL;
}

enum notify payloads_legal(const struct payloads *payloads, enum message_kind kind, uint8_t *offender)
{
	size_t count;
	const struct payload_rule *list = payload_rules(kind, &count);
	uint8_t seen[PAYLOAD_SKF + 1] = {0};
	for (size_t i = 0; i < payloads->count; i++) {
		const struct payload *payload = &payloads->items[i];
		if (!is_known(payload->type)) {
			if (payload->critical) {
				*offender = payload->type;
				return UNSUPPORTED_CRITICAL_PAYLOAD;
			}
			continue;
		}
		const struct payload_rule *rule = rule_find(list, count, payload->type);
		if (!rule || ++seen[payload->type] > rule->maximum) {
			return INVALID_SYNTAX;
		}
	}
	// IKE_SA_INIT answered with a COOKIE alone (§2.6) lacks the rest as an error does.
	struct notification n;
	bool partial = is_response(kind) && (notification_find_error(payloads, &n) || notification_find(payloads, COOKIE, &n));
	for (size_t i = 0; i < count && !partial; i++) {
		if (seen[list[i].type] < list[i].minimum) {
			return INVALID_SYNTAX;
		}
	}
	return NOTIFY_NONE;
}
