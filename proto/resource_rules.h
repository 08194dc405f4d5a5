// The table of rules beside resource.proto: what a descriptor cannot say about a kind and about each field of it. Validation,
// defaults, OpenAPI and the command line's flags and help all come from the descriptors and this table.
#ifndef TWINSPAN_PROTO_RESOURCE_RULES_H
#define TWINSPAN_PROTO_RESOURCE_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ProtobufCMessageDescriptor;

enum resource_kind {
	RESOURCE_NODE,
	RESOURCE_VPC_HOST,
	RESOURCE_VPC,
	RESOURCE_SUBNET,
	RESOURCE_VPC_ROUTE_TABLE,
	RESOURCE_BORDER_GATEWAY,
	RESOURCE_VPC_ATTACHMENT,
	RESOURCE_CUSTOMER_GATEWAY,
	RESOURCE_VPN_CONNECTION,
	RESOURCE_VPN_TUNNEL,
	RESOURCE_BORDER_GATEWAY_ROUTE,
	RESOURCE_TOKEN,
	RESOURCE_QUOTA,
	RESOURCE_KINDS,
};

struct kind_rule {
	const char *singular;  // "vpn-tunnel": the command line's noun
	const char *plural;    // "vpn-tunnels": the path below /v1
	const char *message;   // "VpnTunnel"
	const char *table;     // "vpn_tunnel" on the bus; NULL: never there
	const char *id_prefix; // "tun"; NULL: the id is the name
	bool region_only;      // belongs to the region and not to a tenant: seen and written only by tokens without a tenant
	bool admin_only;       // written by role ADMIN alone
	const struct ProtobufCMessageDescriptor *descriptor;
	const char *help;
	const char *columns; // of a list on a terminal: fields, separated by commas
};

// What can be done with one resource beside showing, changing and deleting it: below its path, and a verb of the command line.
enum action_id {
	ACTION_TUNNELS,
	ACTION_REKEY,
	ACTION_RESTART_TUNNEL,
	ACTION_EVENTS,
	ACTION_CONFIGURATION,
	ACTION_GATEWAY_ROUTES,
	ACTION_TABLE_ROUTES,
	ACTION_RULES,
};
enum action_answer { ANSWER_ITEM, ANSWER_ITEMS, ANSWER_TEXT };
struct action_rule {
	enum resource_kind kind;
	const char *method;
	const char *name;       // below the resource's path
	const char *operation;  // of OpenAPI
	const char *verb;       // of the command line
	const char *body;       // POST: the schema of the body; NULL: none, or the one parameter
	const char *parameters; // of the query, or (POST) of the body; separated by commas; NULL: none
	const char *values;     // of the first parameter
	bool required;          // the first parameter is
	bool paged;             // `limit` and `cursor` too
	enum action_answer answer;
	const char *item; // the schema of the answer or of its items
	const char *help;
};

enum field_flag {
	FIELD_OUTPUT = 1,    // never accepted from a user; a rule for a whole message or list covers what is below it
	FIELD_RUNTIME = 2,   // with OUTPUT: not stored, filled in for each answer
	FIELD_REQUIRED = 4,  // must be given at creation
	FIELD_IMMUTABLE = 8, // given at creation and never changed
	FIELD_SECRET = 16, // write-only; shown in no answer, log or problem (but once in the creation's, when it was generated)
	FIELD_CREATION_ONLY = 32, // shown in the answer to the creation alone
	FIELD_REGION_ACTOR = 64,  // accepted only from a token without a tenant, or when it equals the token's own
};

enum field_format {
	FORMAT_ANY,
	FORMAT_LABEL,     // UTF-8 without control characters, `maximum` octets at most
	FORMAT_NODE_NAME, // 1 to 32 of a-z 0-9 -, beginning and ending with a letter or digit
	FORMAT_ID,        // id of a resource of kind `reference`
	FORMAT_ID_ANY,    // id of a resource whose kind the rules of its own kind say
	FORMAT_UNICAST,   // an IPv4 unicast address
	FORMAT_PREFIX,    // an IPv4 prefix a.b.c.d/n, no host bit set; minimum and maximum bound n
	FORMAT_INSIDE,    // a /30 of 169.254.0.0/16 that is not reserved
	FORMAT_IKE_ID,    // address, FQDN, user@FQDN or a key id without dot and @
	FORMAT_PSK,       // 8 to 64 of A-Z a-z 0-9 . _, not beginning with 0
	FORMAT_ASN,       // an AS number that may be used
	FORMAT_MSS,       // AUTO, OFF or 536 to 8960
	FORMATS,
};

struct field_rule {
	enum resource_kind kind;
	const char *path; // JSON path, "ike.lifetimeSeconds", "staticRoutes.destination" (no index)
	unsigned flags;
	enum field_format format;
	enum resource_kind reference;          // with FORMAT_ID
	uint64_t minimum, maximum;             // numbers (0 and 0: any), text length, prefix length
	uint16_t count_minimum, count_maximum; // of a list
	const char *fallback;    // the default as text; a list's items separated by commas; NULL: none, or the service decides
	const char *values;      // the only numbers (or enum names) allowed, separated by commas; NULL: any
	const char *weak;        // those that are accepted but marked weak, separated by commas
	const char *unavailable; // those that the model knows but nothing speaks yet: refused by name
	const char *help;        // one line; for a default that the service decides it says how
};

// What the outputs that are not enums of resource.proto can be; in their rules' `values`.
#define RUNNING_STATUS_VALUES "UP,CONNECTING,DOWN,UNKNOWN"
#define BGP_STATE_VALUES "Idle,Connect,Active,OpenSent,OpenConfirm,Established,Unknown"
#define HA_STATUS_VALUES "HIGHLY_AVAILABLE,NOT_HIGHLY_AVAILABLE"
#define ROUTE_STATE_VALUES "EFFECTIVE,NOT_EFFECTIVE"
#define ROUTE_TABLE_VALUES "STATIC,PROPAGATED,EFFECTIVE"

// What a machine can know of a form. What services/resource/format.c accepts always matches the pattern; with `exact` nothing
// else does.
struct form_rule {
	const char *pattern; // NULL: none
	const char *name;    // JSON Schema's `format`; NULL: none
	bool exact;
};
extern const struct form_rule form_rules[FORMATS];
extern const struct action_rule action_rules[ACTION_RULES];
extern const struct kind_rule kind_rules[RESOURCE_KINDS];
extern const struct field_rule field_rules[]; // in the order of kinds, then of display
extern const size_t field_rule_count;

// RESOURCE_KINDS when there is none.
enum resource_kind kind_by_singular(const char *singular);
enum resource_kind kind_by_plural(const char *plural);
// The rules of a kind: the first and how many.
const struct field_rule *field_rules_of(enum resource_kind kind, size_t *count);
// The rule of a path (indexes like "[1]" are skipped), or the rule of the message or list that covers it. NULL: no such field.
const struct field_rule *field_rule_find(enum resource_kind kind, const char *path);
// Whether a list can be filtered by the field: a value, or a list of values, that is not inside another field and no secret.
bool field_can_filter(const struct field_rule *rule);
enum { PAGE_DEFAULT = 100, PAGE_MAXIMUM = 1000 }; // items of a list's page
// Is `value` one of `list` ("a,b,c")?
bool in_list(const char *list, const char *value);

// ---- what the descriptor says of a path ----
enum field_type { TYPE_NONE, TYPE_TEXT, TYPE_NUMBER, TYPE_FLAG, TYPE_ENUM, TYPE_MESSAGE };
struct field_shape {
	enum field_type type; // TYPE_NONE: no such field
	bool list;
	uint64_t largest;       // of TYPE_NUMBER: what the wire type holds
	size_t value_count;     // of TYPE_ENUM
	const char *values[16]; // the names as in JSON, without their prefix
};
struct field_shape field_shape_of(enum resource_kind kind, const char *path);
// The JSON path as a flag's name: "ike.dhGroups" → "ike-dh-groups". `out` holds `capacity` characters; false when it does not
// fit.
bool flag_name(const char *path, char *out, size_t capacity);

#endif
