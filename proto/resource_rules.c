// The rules of every field (product definition: "Resources"). A field that resource.proto has and this table does not, or the
// other way round, fails tests/unit/proto_rules_test.c.
#include "proto/resource_rules.h"

#include <string.h>

#define ENCRYPTION_DEFAULT "AES256_GCM16,AES128_GCM16,AES256,AES128"
#define INTEGRITY_DEFAULT "SHA2_256,SHA2_384,SHA2_512"
#define GROUPS "2,5,14,15,16,17,18,19,20,21,31"
#define GROUPS_DEFAULT "31,19,20,14"
#define GROUPS_WEAK "2,5"

// What every kind has. The region's own kinds have no tenant.
#define COMMON_HEAD(K)                                                                                                         \
	{                                                                                                                      \
		.kind = K, .path = "id", .flags = FIELD_OUTPUT, .help = "Identifier"                                           \
	}
#define NAME(K)                                                                                                                \
	{                                                                                                                      \
		.kind = K, .path = "name", .format = FORMAT_LABEL, .maximum = 64,                                              \
		.help = "A name for people; need not be unique"                                                                \
	}
#define NAME_IS_ID(K, H)                                                                                                       \
	{                                                                                                                      \
		.kind = K, .path = "name", .flags = FIELD_REQUIRED | FIELD_IMMUTABLE, .format = FORMAT_NODE_NAME,              \
		.maximum = 32, .help = H                                                                                       \
	}
#define DESCRIPTION(K)                                                                                                         \
	{                                                                                                                      \
		.kind = K, .path = "description", .format = FORMAT_LABEL, .maximum = 256, .help = "A note for people"          \
	}
#define TENANT(K)                                                                                                              \
	{                                                                                                                      \
		.kind = K, .path = "tenant", .flags = FIELD_IMMUTABLE | FIELD_REGION_ACTOR, .format = FORMAT_NODE_NAME,        \
		.maximum = 32, .help = "Whose it is: the token's tenant; a token of the whole region may name one"             \
	}
#define COMMON_TAIL(K)                                                                                                         \
	{.kind = K, .path = "region", .flags = FIELD_OUTPUT, .help = "The region it lives in"},                                \
	    {.kind = K, .path = "createdAt", .flags = FIELD_OUTPUT, .help = "When it was made (RFC 3339)"},                    \
	    {.kind = K, .path = "updatedAt", .flags = FIELD_OUTPUT, .help = "When it was last changed (RFC 3339)"},            \
	{                                                                                                                      \
		.kind = K, .path = "revision", .flags = FIELD_OUTPUT,                                                          \
		.help = "Rises with every change; an update names the one it saw, here or in If-Match"                         \
	}
#define COMMON(K) COMMON_HEAD(K), NAME(K), DESCRIPTION(K), TENANT(K), COMMON_TAIL(K)
#define COMMON_REGION(K, H) COMMON_HEAD(K), NAME_IS_ID(K, H), DESCRIPTION(K), COMMON_TAIL(K)

const struct field_rule field_rules[] = {
    COMMON_REGION(RESOURCE_NODE, "The name its services run under; also its id"),
    {.kind = RESOURCE_NODE,
     .path = "publicAddresses",
     .flags = FIELD_REQUIRED,
     .format = FORMAT_UNICAST,
     .count_minimum = 1,
     .count_maximum = 4096,
     .help = "The pool that cloud addresses are allocated from; an address in use stays"},
    {.kind = RESOURCE_NODE,
     .path = "fabricAddress",
     .flags = FIELD_REQUIRED,
     .format = FORMAT_UNICAST,
     .help = "Its VXLAN tunnel end point"},

    {.kind = RESOURCE_NODE,
     .path = "silentServices",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .values = "ike,esp,bgp",
     .help = "Which of the node's services are not heard: what they reported last may have changed since"},

    COMMON_REGION(RESOURCE_VPC_HOST, "The name its vrouter runs under; also its id"),
    {.kind = RESOURCE_VPC_HOST,
     .path = "fabricAddress",
     .flags = FIELD_REQUIRED,
     .format = FORMAT_UNICAST,
     .help = "Its VXLAN tunnel end point"},

    COMMON(RESOURCE_VPC),
    {.kind = RESOURCE_VPC,
     .path = "cidrBlocks",
     .flags = FIELD_REQUIRED,
     .format = FORMAT_PREFIX,
     .minimum = 8,
     .maximum = 29,
     .count_minimum = 1,
     .count_maximum = 5,
     .help = "Its IPv4 prefixes, /8 to /29, not overlapping; one that holds a subnet stays"},
    {.kind = RESOURCE_VPC, .path = "vpcHostId", .flags = FIELD_OUTPUT, .help = "The host it lives on"},
    {.kind = RESOURCE_VPC, .path = "defaultRouteTableId", .flags = FIELD_OUTPUT, .help = "The route table made with it"},

    COMMON(RESOURCE_SUBNET),
    {.kind = RESOURCE_SUBNET,
     .path = "vpcId",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_ID,
     .reference = RESOURCE_VPC,
     .help = "The VPC it is part of"},
    {.kind = RESOURCE_SUBNET,
     .path = "cidr",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_PREFIX,
     .minimum = 8,
     .maximum = 29,
     .help = "An IPv4 prefix inside the VPC that overlaps no other subnet"},
    {.kind = RESOURCE_SUBNET,
     .path = "routeTableId",
     .format = FORMAT_ID,
     .reference = RESOURCE_VPC_ROUTE_TABLE,
     .help = "A route table of the VPC; by default the VPC's default one"},
    {.kind = RESOURCE_SUBNET, .path = "gatewayAddress", .flags = FIELD_OUTPUT, .help = "The router's address: the first host"},

    COMMON(RESOURCE_VPC_ROUTE_TABLE),
    {.kind = RESOURCE_VPC_ROUTE_TABLE,
     .path = "vpcId",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_ID,
     .reference = RESOURCE_VPC,
     .help = "The VPC it is part of"},
    {.kind = RESOURCE_VPC_ROUTE_TABLE, .path = "staticRoutes", .count_maximum = 50, .help = "Routes set by hand"},
    {.kind = RESOURCE_VPC_ROUTE_TABLE,
     .path = "staticRoutes.destination",
     .flags = FIELD_REQUIRED,
     .format = FORMAT_PREFIX,
     .maximum = 32,
     .help = "An IPv4 prefix that is not part of the VPC"},
    {.kind = RESOURCE_VPC_ROUTE_TABLE,
     .path = "staticRoutes.nextHopType",
     .fallback = "BORDER_GATEWAY",
     .values = "BORDER_GATEWAY",
     .help = "What the next hop is"},
    {.kind = RESOURCE_VPC_ROUTE_TABLE,
     .path = "staticRoutes.nextHopId",
     .flags = FIELD_REQUIRED,
     .format = FORMAT_ID,
     .reference = RESOURCE_BORDER_GATEWAY,
     .help = "A border gateway that the VPC is attached to"},
    {.kind = RESOURCE_VPC_ROUTE_TABLE,
     .path = "propagations",
     .count_maximum = 16,
     .help = "Border gateways whose effective routes enter this table"},
    {.kind = RESOURCE_VPC_ROUTE_TABLE,
     .path = "propagations.borderGatewayId",
     .flags = FIELD_REQUIRED,
     .format = FORMAT_ID,
     .reference = RESOURCE_BORDER_GATEWAY,
     .help = "A border gateway that the VPC is attached to"},
    {.kind = RESOURCE_VPC_ROUTE_TABLE,
     .path = "propagations.ranges",
     .format = FORMAT_PREFIX,
     .maximum = 32,
     .count_minimum = 1,
     .count_maximum = 16,
     .fallback = "0.0.0.0/0",
     .help = "Only routes inside these prefixes are taken"},
    {.kind = RESOURCE_VPC_ROUTE_TABLE,
     .path = "routes",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help =
         "The first 100 of the table's local, static and propagated routes, effective or not and why; all are below /routes"},
    {.kind = RESOURCE_VPC_ROUTE_TABLE,
     .path = "routes.state",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .values = ROUTE_STATE_VALUES,
     .help = "Whether it forwards"},
    {.kind = RESOURCE_VPC_ROUTE_TABLE,
     .path = "routeCount",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help = "How many routes the table has"},
    {.kind = RESOURCE_VPC_ROUTE_TABLE,
     .path = "notEffectiveRouteCount",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help = "How many of them do not forward"},
    {.kind = RESOURCE_VPC_ROUTE_TABLE,
     .path = "routesTruncated",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help = "Whether there are more routes than shown here"},

    COMMON(RESOURCE_BORDER_GATEWAY),
    {.kind = RESOURCE_BORDER_GATEWAY,
     .path = "asn",
     .format = FORMAT_ASN,
     .minimum = 1,
     .maximum = 4294967294,
     .fallback = "65000",
     .help = "Its AS number; changes only while it has no VPN connection"},
    {.kind = RESOURCE_BORDER_GATEWAY,
     .path = "allowTransit",
     .fallback = "false",
     .help = "Whether traffic may pass from one VPN connection to another"},
    {.kind = RESOURCE_BORDER_GATEWAY, .path = "nodeIds", .flags = FIELD_OUTPUT, .help = "The gateway nodes it runs on"},
    {.kind = RESOURCE_BORDER_GATEWAY,
     .path = "routeTables",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help =
         "How many static, propagated, learned, effective and not effective routes it has, and the first 100 of each table; "
         "all are below /routes"},
    {.kind = RESOURCE_BORDER_GATEWAY,
     .path = "routeTables.staticRoutes.state",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .values = ROUTE_STATE_VALUES,
     .help = "Whether it forwards"},
    {.kind = RESOURCE_BORDER_GATEWAY,
     .path = "routeTables.propagatedRoutes.state",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .values = ROUTE_STATE_VALUES,
     .help = "Whether it forwards"},
    {.kind = RESOURCE_BORDER_GATEWAY,
     .path = "routeTables.effectiveRoutes.state",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .values = ROUTE_STATE_VALUES,
     .help = "Whether it forwards"},

    COMMON(RESOURCE_VPC_ATTACHMENT),
    {.kind = RESOURCE_VPC_ATTACHMENT,
     .path = "borderGatewayId",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_ID,
     .reference = RESOURCE_BORDER_GATEWAY,
     .help = "The border gateway"},
    {.kind = RESOURCE_VPC_ATTACHMENT,
     .path = "vpcId",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_ID,
     .reference = RESOURCE_VPC,
     .help = "The VPC; it can be attached to a border gateway once"},
    {.kind = RESOURCE_VPC_ATTACHMENT,
     .path = "propagation",
     .fallback = "ALL",
     .help = "Which of the VPC's subnets enter the border gateway's propagated table: ALL, the listed SUBNETS, or NONE"},
    {.kind = RESOURCE_VPC_ATTACHMENT,
     .path = "subnetIds",
     .format = FORMAT_ID,
     .reference = RESOURCE_SUBNET,
     .count_maximum = 200,
     .help = "With propagation SUBNETS: subnets of the VPC"},
    {.kind = RESOURCE_VPC_ATTACHMENT, .path = "vni", .flags = FIELD_OUTPUT, .help = "VXLAN network identifier of its segment"},
    {.kind = RESOURCE_VPC_ATTACHMENT,
     .path = "order",
     .flags = FIELD_OUTPUT,
     .help = "Rises with every attachment made: of overlapping routes that of the lower one is effective"},

    COMMON(RESOURCE_CUSTOMER_GATEWAY),
    {.kind = RESOURCE_CUSTOMER_GATEWAY,
     .path = "asn",
     .flags = FIELD_REQUIRED,
     .format = FORMAT_ASN,
     .minimum = 1,
     .maximum = 4294967294,
     .help = "The customer's AS number, another one than the border gateway's; changes only while no VPN connection uses it"},
    {.kind = RESOURCE_CUSTOMER_GATEWAY,
     .path = "publicAddresses",
     .flags = FIELD_REQUIRED,
     .format = FORMAT_UNICAST,
     .count_minimum = 1,
     .count_maximum = 4,
     .help = "The devices' public addresses; change only while no tunnel uses the customer gateway"},

    COMMON(RESOURCE_VPN_CONNECTION),
    {.kind = RESOURCE_VPN_CONNECTION,
     .path = "borderGatewayId",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_ID,
     .reference = RESOURCE_BORDER_GATEWAY,
     .help = "The border gateway"},
    {.kind = RESOURCE_VPN_CONNECTION,
     .path = "customerGatewayId",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_ID,
     .reference = RESOURCE_CUSTOMER_GATEWAY,
     .help = "The customer gateway"},
    {.kind = RESOURCE_VPN_CONNECTION,
     .path = "routing",
     .fallback = "BGP",
     .help = "BGP: a session in every tunnel. STATIC: border gateway routes alone; changing to it ends the sessions at once"},
    {.kind = RESOURCE_VPN_CONNECTION,
     .path = "cloudAddresses",
     .flags = FIELD_OUTPUT,
     .help = "Two public addresses on two nodes, this connection's own"},
    {.kind = RESOURCE_VPN_CONNECTION,
     .path = "haStatus",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .values = HA_STATUS_VALUES,
     .help =
         "HIGHLY_AVAILABLE: each cloud address has a tunnel UP, to different customer addresses, with BGP routing its session "
         "Established; else NOT_HIGHLY_AVAILABLE"},

    COMMON(RESOURCE_VPN_TUNNEL),
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "vpnConnectionId",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_ID,
     .reference = RESOURCE_VPN_CONNECTION,
     .help = "The VPN connection"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "cloudAddress",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_UNICAST,
     .help = "One of the connection's cloud addresses"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "customerAddress",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_UNICAST,
     .help = "One of the customer gateway's public addresses"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "adminState",
     .fallback = "UP",
     .help = "UP: the cloud negotiates and keeps trying. DOWN: the tunnel is closed, and may be deleted"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "localId",
     .format = FORMAT_IKE_ID,
     .minimum = 1,
     .maximum = 255,
     .help = "The cloud's IKE identity: an address, a domain name, user@domain, or a key id (a word without dot and @); by "
             "default the cloud address"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "remoteId",
     .format = FORMAT_IKE_ID,
     .minimum = 1,
     .maximum = 255,
     .help = "The customer's IKE identity, in the same forms; by default the customer address"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "insideCidr",
     .format = FORMAT_INSIDE,
     .help = "The /30 of the inner addresses, unique in the border gateway; by default a free one. Changes only while DOWN"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "insideSwapped",
     .fallback = "false",
     .help = "The customer has the first host address of the /30 and the cloud the second. Changes only while DOWN"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ike.version",
     .fallback = "V2",
     .weak = "V1",
     .unavailable = "V1",
     .help = "The version of IKE"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ike.preSharedKey",
     .flags = FIELD_SECRET,
     .format = FORMAT_PSK,
     .minimum = 8,
     .maximum = 64,
     .help = "8 to 64 of A-Z a-z 0-9 . _, not beginning with 0; by default one is generated and shown once"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ike.encryption",
     .count_minimum = 1,
     .count_maximum = 5,
     .fallback = ENCRYPTION_DEFAULT,
     .help = "Ciphers of the IKE SA, most wanted first"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ike.integrity",
     .count_minimum = 1,
     .count_maximum = 4,
     .fallback = INTEGRITY_DEFAULT,
     .weak = "SHA1",
     .help = "Integrity algorithms and PRFs of the IKE SA, most wanted first"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ike.dhGroups",
     .count_minimum = 1,
     .count_maximum = 11,
     .fallback = GROUPS_DEFAULT,
     .values = GROUPS,
     .weak = GROUPS_WEAK,
     .help = "Key exchange groups of the IKE SA, most wanted first"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ike.lifetimeSeconds",
     .minimum = 900,
     .maximum = 86400,
     .fallback = "28800",
     .help = "How long an IKE SA lives"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ipsec.encryption",
     .count_minimum = 1,
     .count_maximum = 5,
     .fallback = ENCRYPTION_DEFAULT,
     .help = "Ciphers of the child SA, most wanted first"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ipsec.integrity",
     .count_minimum = 1,
     .count_maximum = 4,
     .fallback = INTEGRITY_DEFAULT,
     .weak = "SHA1",
     .help = "Integrity algorithms of the child SA, most wanted first"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ipsec.pfsGroups",
     .count_minimum = 1,
     .count_maximum = 12,
     .fallback = GROUPS_DEFAULT,
     .values = "0," GROUPS,
     .weak = GROUPS_WEAK,
     .help = "Key exchange groups of a rekeyed child SA, most wanted first; 0 is none"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ipsec.lifetimeSeconds",
     .minimum = 300,
     .maximum = 86400,
     .fallback = "3600",
     .help = "How long a child SA lives"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ipsec.lifetimeBytes",
     .maximum = UINT64_C(1) << 53,
     .fallback = "0",
     .help = "How many octets a child SA may carry: 0 (no limit), or 1048576 and more"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ipsec.lifetimePackets",
     .maximum = UINT64_C(1) << 53,
     .fallback = "0",
     .help = "How many packets a child SA may carry: 0 (no limit), or 10000 and more"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ipsec.replayWindow",
     .maximum = 4096,
     .fallback = "1024",
     .help = "Size of the replay window in packets: 64 to 4096, or 0 (off)"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ipsec.encapsulation",
     .fallback = "AUTO",
     .help = "AUTO: ESP in UDP when there is a NAT between. UDP: always"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "rekeyMarginSeconds",
     .minimum = 60,
     .maximum = 43200,
     .help = "How long before its end an SA is rekeyed, half the shorter lifetime at most; 270 by default, less for a short "
             "lifetime"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "rekeyFuzzPercent",
     .maximum = 100,
     .fallback = "100",
     .help = "By how much of itself the margin may be larger, at random"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "dpd.enabled",
     .fallback = "true",
     .help = "Whether a silent peer is probed, and declared dead"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "dpd.intervalSeconds",
     .minimum = 1,
     .maximum = 3600,
     .fallback = "3",
     .help = "After how much silence the peer is probed"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "dpd.timeoutSeconds",
     .minimum = 2,
     .maximum = 7200,
     .help = "After how much silence the peer is dead, more than the interval; by default three intervals"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "dpd.action",
     .fallback = "RESTART",
     .help = "With a dead peer: RESTART negotiates again, CLEAR waits for the peer, NONE only reports"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "startup",
     .fallback = "INITIATE",
     .help = "INITIATE: the cloud begins. RESPOND: it waits for the customer"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "bgp.holdTime",
     .minimum = 3,
     .maximum = 65535,
     .fallback = "9",
     .help = "BGP hold time in seconds, offered to the customer"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "bgp.keepalive",
     .minimum = 1,
     .maximum = 21845,
     .help = "BGP keepalive interval in seconds, a third of the hold time at most; by default that third, 10 at most"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "maximumSegmentSize",
     .format = FORMAT_MSS,
     .maximum = 8,
     .fallback = "AUTO",
     .help = "TCP MSS clamp: AUTO (from the negotiated cipher), OFF, or 536 to 8960"},
    {.kind = RESOURCE_VPN_TUNNEL, .path = "borderGatewayId", .flags = FIELD_OUTPUT, .help = "The connection's border gateway"},
    {.kind = RESOURCE_VPN_TUNNEL, .path = "nodeId", .flags = FIELD_OUTPUT, .help = "The node that has the cloud address"},
    {.kind = RESOURCE_VPN_TUNNEL, .path = "cloudInsideAddress", .flags = FIELD_OUTPUT, .help = "The cloud's inner address"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "customerInsideAddress",
     .flags = FIELD_OUTPUT,
     .help = "The customer's inner address"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "runningStatus",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .values = RUNNING_STATUS_VALUES,
     .help = "UP, CONNECTING, DOWN; UNKNOWN while a service of its node that would have to say so is silent"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "reason",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help = "Why it is not UP, or what is not known and why"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "bgpState",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .values = BGP_STATE_VALUES,
     .help = "State of its BGP session; Unknown while that cannot be confirmed; none with STATIC routing"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "bgpReason",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help = "Why the session is not Established, or what is odd about it, and what to do"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "bgpSession",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help = "The negotiated hold time, the customer's AS, prefixes received, advertised and discarded (beyond the quota of "
             "learned routes), and the last error"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "statistics",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help = "Packets and octets in each direction (in: from the customer), and drops"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "rekeyChildRequests",
     .flags = FIELD_OUTPUT,
     .help = "How often a rekeying of the child SA was asked for"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "rekeyIkeRequests",
     .flags = FIELD_OUTPUT,
     .help = "How often a rekeying of the IKE SA was asked for"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "restartRequests",
     .flags = FIELD_OUTPUT,
     .help = "How often a restart was asked for"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "weak",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help = "Which of the tunnel's choices are weak"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "runningSince",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help = "When the running status last changed (RFC 3339)"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "ikeSuite",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help = "The algorithms negotiated for the IKE SA"},
    {.kind = RESOURCE_VPN_TUNNEL,
     .path = "childSuite",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help = "The algorithms negotiated for the child SA"},

    COMMON(RESOURCE_BORDER_GATEWAY_ROUTE),
    {.kind = RESOURCE_BORDER_GATEWAY_ROUTE,
     .path = "borderGatewayId",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_ID,
     .reference = RESOURCE_BORDER_GATEWAY,
     .help = "The border gateway"},
    {.kind = RESOURCE_BORDER_GATEWAY_ROUTE,
     .path = "destination",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_PREFIX,
     .maximum = 32,
     .help = "An IPv4 prefix outside 169.254.0.0/16"},
    {.kind = RESOURCE_BORDER_GATEWAY_ROUTE,
     .path = "nextHopType",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .values = "VPC_ATTACHMENT,VPN_CONNECTION",
     .help = "What the next hop is"},
    {.kind = RESOURCE_BORDER_GATEWAY_ROUTE,
     .path = "nextHopId",
     .flags = FIELD_REQUIRED | FIELD_IMMUTABLE,
     .format = FORMAT_ID_ANY,
     .help = "An attachment or a VPN connection of the border gateway"},

    COMMON(RESOURCE_TOKEN),
    {.kind = RESOURCE_TOKEN,
     .path = "role",
     .flags = FIELD_REQUIRED,
     .help = "ADMIN: everything, tokens too. OPERATOR: the tenant's resources. VIEWER: reads"},
    {.kind = RESOURCE_TOKEN,
     .path = "token",
     .flags = FIELD_OUTPUT | FIELD_CREATION_ONLY | FIELD_SECRET,
     .help = "The token itself, shown once"},

    COMMON_REGION(RESOURCE_QUOTA, "The tenant's name; also the quota's id"),
    {.kind = RESOURCE_QUOTA,
     .path = "borderGateways",
     .maximum = 100000,
     .fallback = "5",
     .help = "Border gateways of the tenant"},
    {.kind = RESOURCE_QUOTA,
     .path = "vpcAttachments",
     .maximum = 100000,
     .fallback = "50",
     .help = "VPC attachments of each border gateway"},
    {.kind = RESOURCE_QUOTA,
     .path = "vpnConnections",
     .maximum = 100000,
     .fallback = "10",
     .help = "VPN connections of each border gateway"},
    {.kind = RESOURCE_QUOTA,
     .path = "customerGateways",
     .maximum = 100000,
     .fallback = "10",
     .help = "Customer gateways of the tenant"},
    {.kind = RESOURCE_QUOTA,
     .path = "staticRoutes",
     .maximum = 100000,
     .fallback = "50",
     .help = "Static routes of each border gateway"},
    {.kind = RESOURCE_QUOTA,
     .path = "learnedRoutes",
     .maximum = 2000000,
     .fallback = "300",
     .help = "Routes learned by BGP of each border gateway"},
    {.kind = RESOURCE_QUOTA, .path = "vpcs", .maximum = 100000, .fallback = "50", .help = "VPCs of the tenant"},
    {.kind = RESOURCE_QUOTA, .path = "subnets", .maximum = 100000, .fallback = "200", .help = "Subnets of each VPC"},
    {.kind = RESOURCE_QUOTA,
     .path = "vpcRouteTables",
     .maximum = 100000,
     .fallback = "50",
     .help = "Route tables of each VPC, the default one too"},
    {.kind = RESOURCE_QUOTA,
     .path = "vpnTunnels",
     .maximum = 100000,
     .fallback = "8",
     .help = "Tunnels of each VPN connection"},
    {.kind = RESOURCE_QUOTA, .path = "tokens", .maximum = 100000, .fallback = "50", .help = "Tokens of the tenant"},
    {.kind = RESOURCE_QUOTA,
     .path = "usage",
     .flags = FIELD_OUTPUT | FIELD_RUNTIME,
     .help = "How many of these the tenant has"},
};
const size_t field_rule_count = sizeof field_rules / sizeof field_rules[0];

const struct field_rule *field_rules_of(enum resource_kind kind, size_t *count)
{
	size_t first = 0;
	while (first < field_rule_count && field_rules[first].kind != kind) {
		first++;
	}
	size_t end = first;
	while (end < field_rule_count && field_rules[end].kind == kind) {
		end++;
	}
	*count = end - first;
	return *count ? &field_rules[first] : NULL;
}

// Whether `rule` names `path` (indexes skipped) exactly (2), or a message above it (1).
static int match_path(const char *rule, const char *path)
{
	while (*path) {
		if (*path == '[') {
			path += strcspn(path, "]");
			path += *path == ']';
			continue;
		}
		if (*rule != *path) {
			return *rule == '\0' && *path == '.' ? 1 : 0;
		}
		rule++;
		path++;
	}
	return *rule == '\0' ? 2 : 0;
}

const struct field_rule *field_rule_find(enum resource_kind kind, const char *path)
{
	size_t count;
	const struct field_rule *rules = field_rules_of(kind, &count), *above = NULL;
	for (size_t i = 0; i < count; i++) {
		int match = match_path(rules[i].path, path);
		if (match == 2) {
			return &rules[i];
		}
		if (match == 1 && rules[i].flags & FIELD_OUTPUT) {
			above = &rules[i];
		}
	}
	return above;
}

bool field_can_filter(const struct field_rule *rule)
{
	struct field_shape shape = field_shape_of(rule->kind, rule->path);
	bool value = shape.type != TYPE_NONE && shape.type != TYPE_MESSAGE;
	return value && !strchr(rule->path, '.') && !(rule->flags & FIELD_SECRET);
}

bool in_list(const char *list, const char *value)
{
	size_t length = strlen(value);
	while (list && *list) {
		size_t item = strcspn(list, ",");
		if (item == length && memcmp(list, value, length) == 0) {
			return true;
		}
		list += item + (list[item] == ',');
	}
	return false;
}

bool flag_name(const char *path, char *out, size_t capacity)
{
	size_t n = 0;
	for (; *path; path++) {
		bool upper = *path >= 'A' && *path <= 'Z';
		if (n + 2 >= capacity) {
			return false;
		}
		if (upper) {
			out[n++] = '-';
		}
		out[n++] = *path == '.' ? '-' : upper ? (char)(*path - 'A' + 'a') : *path;
	}
	out[n] = '\0';
	return capacity > 0;
}
