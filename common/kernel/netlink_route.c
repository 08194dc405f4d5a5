// See netlink.h: nexthop objects, routes, neighbours, forwarding database entries and rules. IPv4 routes may have IPv6 next
// hops, either in a nexthop object or as RTA_VIA. Dumps of routes, nexthops and rules are filtered by our own protocol number
// here, since not every kernel does it.
#include "common/kernel/netlink_message.h"
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/neighbour.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

struct listing {
	void (*nexthop)(void *context, const struct netlink_nexthop *nexthop);
	void (*route)(void *context, const struct netlink_route *route);
	void (*neighbour)(void *context, const struct netlink_neighbour *neighbour);
	void (*rule)(void *context, const struct netlink_rule *rule);
	void *context;
	bool fdb;
};

// ---- nexthop objects ----

int netlink_nexthop_replace(struct netlink *netlink, const struct netlink_nexthop *nexthop)
{
	struct message message;
	struct nhmsg *fixed = message_begin(&message, RTM_NEWNEXTHOP, NLM_F_CREATE | NLM_F_REPLACE, sizeof *fixed);
	fixed->nh_protocol = NETLINK_PROTOCOL;
	message_put_u32(&message, NHA_ID, nexthop->id);
	if (nexthop->member_count > 0) {
		struct nexthop_grp group[NETLINK_GROUP_MAX] = {0};
		if (nexthop->member_count > NETLINK_GROUP_MAX) {
			return -E2BIG;
		}
		for (size_t i = 0; i < nexthop->member_count; i++) {
			group[i].id = nexthop->members[i];
		}
		message_put(&message, NHA_GROUP, group, nexthop->member_count * sizeof group[0]);
	} else if (nexthop->blackhole) {
		fixed->nh_family = AF_INET;
		message_put(&message, NHA_BLACKHOLE, NULL, 0);
	} else {
		fixed->nh_family = family_of(&nexthop->via);
		message_put_u32(&message, NHA_OIF, (uint32_t)nexthop->index);
		if (nexthop->via.length > 0) {
			message_put_address(&message, NHA_GATEWAY, &nexthop->via);
		}
	}
	return message_ask(netlink, &message, NULL, NULL);
}

int netlink_nexthop_remove(struct netlink *netlink, uint32_t id)
{
	struct message message;
	message_begin(&message, RTM_DELNEXTHOP, 0, sizeof(struct nhmsg));
	message_put_u32(&message, NHA_ID, id);
	int error = message_ask(netlink, &message, NULL, NULL);
	return error == -ENOENT ? 0 : error;
}

static void list_nexthop(void *context, const struct nlmsghdr *header)
{
	const struct listing *listing = context;
	if (header->nlmsg_type != RTM_NEWNEXTHOP || mnl_nlmsg_get_payload_len(header) < sizeof(struct nhmsg)) {
		return;
	}
	const struct nhmsg *fixed = mnl_nlmsg_get_payload(header);
	if (fixed->nh_protocol != NETLINK_PROTOCOL) {
		return;
	}
	const struct nlattr *attribute[NHA_GATEWAY + 1];
	message_attributes(header, sizeof *fixed, attribute, NHA_GATEWAY);
	struct netlink_nexthop nexthop = {
	    .id = attribute_u32(attribute[NHA_ID]),
	    .index = (int)attribute_u32(attribute[NHA_OIF]),
	    .via = attribute_address(attribute[NHA_GATEWAY]),
	    .blackhole = attribute[NHA_BLACKHOLE] != NULL,
	};
	if (attribute[NHA_GROUP]) {
		size_t count = mnl_attr_get_payload_len(attribute[NHA_GROUP]) / sizeof(struct nexthop_grp);
		const struct nexthop_grp *group = mnl_attr_get_payload(attribute[NHA_GROUP]);
		for (size_t i = 0; i < count && i < NETLINK_GROUP_MAX; i++) {
			nexthop.members[nexthop.member_count++] = group[i].id;
		}
	}
	listing->nexthop(listing->context, &nexthop);
}

int netlink_nexthops(struct netlink *netlink, void (*found)(void *context, const struct netlink_nexthop *nexthop),
                     void *context)
{
	struct listing listing = {.nexthop = found, .context = context};
	return message_dump(netlink, RTM_GETNEXTHOP, sizeof(struct nhmsg), AF_UNSPEC, list_nexthop, &listing);
}

// ---- routes ----

static struct rtmsg *begin_route(struct message *message, uint16_t type, uint16_t flags, const struct netlink_route *route)
{
	struct rtmsg *fixed = message_begin(message, type, flags, sizeof *fixed);
	fixed->rtm_family = family_of(&route->destination.address);
	fixed->rtm_dst_len = route->destination.length;
	fixed->rtm_protocol = NETLINK_PROTOCOL;
	fixed->rtm_table = route->table < 256 ? (uint8_t)route->table : RT_TABLE_UNSPEC;
	fixed->rtm_scope = type == RTM_DELROUTE ? RT_SCOPE_NOWHERE : RT_SCOPE_UNIVERSE;
	message_put_u32(message, RTA_TABLE, route->table);
	message_put_address(message, RTA_DST, &route->destination.address);
	if (route->metric > 0) {
		message_put_u32(message, RTA_PRIORITY, route->metric);
	}
	return fixed;
}

static void put_via(struct message *message, const struct netlink_route *route)
{
	if (route->via.length == route->destination.address.length) {
		message_put_address(message, RTA_GATEWAY, &route->via);
	} else if (route->via.length > 0) {
		uint8_t octets[sizeof(struct rtvia) + 16];
		struct rtvia via = {.rtvia_family = family_of(&route->via)};
		memcpy(octets, &via, sizeof via);
		memcpy(octets + sizeof via, route->via.octets, route->via.length);
		message_put(message, RTA_VIA, octets, sizeof via + route->via.length);
	}
}

int netlink_route_replace(struct netlink *netlink, const struct netlink_route *route)
{
	struct message message;
	struct rtmsg *fixed = begin_route(&message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route);
	fixed->rtm_type = route->type == NETLINK_ROUTE_UNREACHABLE ? RTN_UNREACHABLE
	                  : route->type == NETLINK_ROUTE_BLACKHOLE ? RTN_BLACKHOLE
	                                                           : RTN_UNICAST;
	if (route->source.length > 0) {
		message_put_address(&message, RTA_PREFSRC, &route->source);
	}
	if (route->type == NETLINK_ROUTE_UNICAST && route->nexthop_id != 0) {
		message_put_u32(&message, RTA_NH_ID, route->nexthop_id);
	} else if (route->type == NETLINK_ROUTE_UNICAST) {
		message_put_u32(&message, RTA_OIF, (uint32_t)route->index);
		put_via(&message, route);
		fixed->rtm_scope = route->via.length > 0 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
	}
	return message_change(netlink, &message, 0);
}

int netlink_route_remove(struct netlink *netlink, const struct netlink_route *route)
{
	struct message message;
	begin_route(&message, RTM_DELROUTE, 0, route);
	return message_change(netlink, &message, -ESRCH);
}

static struct address read_via(const struct nlattr *const *attribute)
{
	if (attribute[RTA_GATEWAY]) {
		return attribute_address(attribute[RTA_GATEWAY]);
	}
	struct address via = {0};
	if (attribute[RTA_VIA] && mnl_attr_get_payload_len(attribute[RTA_VIA]) > sizeof(struct rtvia)) {
		size_t length = mnl_attr_get_payload_len(attribute[RTA_VIA]) - sizeof(struct rtvia);
		const struct rtvia *found = mnl_attr_get_payload(attribute[RTA_VIA]);
		address_from_bytes((struct bytes){found->rtvia_addr, length}, &via);
	}
	return via;
}

static void list_route(void *context, const struct nlmsghdr *header)
{
	const struct listing *listing = context;
	if (header->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(header) < sizeof(struct rtmsg)) {
		return;
	}
	const struct rtmsg *fixed = mnl_nlmsg_get_payload(header);
	if (fixed->rtm_protocol != NETLINK_PROTOCOL || (fixed->rtm_flags & RTM_F_CLONED)) {
		return;
	}
	const struct nlattr *attribute[RTA_NH_ID + 1];
	message_attributes(header, sizeof *fixed, attribute, RTA_NH_ID);
	struct netlink_route route = {
	    .table = attribute[RTA_TABLE] ? attribute_u32(attribute[RTA_TABLE]) : fixed->rtm_table,
	    .destination = {.address = attribute_address(attribute[RTA_DST]), .length = fixed->rtm_dst_len},
	    .metric = attribute_u32(attribute[RTA_PRIORITY]),
	    .type = fixed->rtm_type == RTN_UNREACHABLE ? NETLINK_ROUTE_UNREACHABLE
	            : fixed->rtm_type == RTN_BLACKHOLE ? NETLINK_ROUTE_BLACKHOLE
	                                               : NETLINK_ROUTE_UNICAST,
	    .nexthop_id = attribute_u32(attribute[RTA_NH_ID]),
	    .source = attribute_address(attribute[RTA_PREFSRC]),
	};
	route.destination.address.length = fixed->rtm_family == AF_INET6 ? 16 : 4;
	// A route by nexthop object shows the object's device and gateway too: they are not the route's own.
	if (route.nexthop_id == 0 && route.type == NETLINK_ROUTE_UNICAST) {
		route.index = (int)attribute_u32(attribute[RTA_OIF]);
		route.via = read_via(attribute);
	}
	listing->route(listing->context, &route);
}

int netlink_routes(struct netlink *netlink, void (*found)(void *context, const struct netlink_route *route), void *context)
{
	struct listing listing = {.route = found, .context = context};
	return message_dump(netlink, RTM_GETROUTE, sizeof(struct rtmsg), AF_INET, list_route, &listing);
}

// ---- neighbours ----

static struct ndmsg *begin_neighbour(struct message *message, uint16_t type, uint16_t flags,
                                     const struct netlink_neighbour *neighbour)
{
	struct ndmsg *fixed = message_begin(message, type, flags, sizeof *fixed);
	fixed->ndm_family = neighbour->fdb ? AF_BRIDGE : family_of(&neighbour->address);
	fixed->ndm_ifindex = neighbour->index;
	fixed->ndm_state = NUD_PERMANENT;
	fixed->ndm_flags = neighbour->fdb ? NTF_SELF : 0;
	message_put_address(message, NDA_DST, &neighbour->address);
	message_put(message, NDA_LLADDR, neighbour->mac, sizeof neighbour->mac);
	return fixed;
}

int netlink_neighbour_replace(struct netlink *netlink, const struct netlink_neighbour *neighbour)
{
	struct message message;
	begin_neighbour(&message, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, neighbour);
	return message_ask(netlink, &message, NULL, NULL);
}

int netlink_neighbour_remove(struct netlink *netlink, const struct netlink_neighbour *neighbour)
{
	struct message message;
	begin_neighbour(&message, RTM_DELNEIGH, 0, neighbour);
	int error = message_ask(netlink, &message, NULL, NULL);
	return error == -ENOENT || error == -ENODEV ? 0 : error;
}

static void list_neighbour(void *context, const struct nlmsghdr *header)
{
	const struct listing *listing = context;
	if (header->nlmsg_type != RTM_NEWNEIGH || mnl_nlmsg_get_payload_len(header) < sizeof(struct ndmsg)) {
		return;
	}
	const struct ndmsg *fixed = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute[NDA_LLADDR + 1];
	message_attributes(header, sizeof *fixed, attribute, NDA_LLADDR);
	struct netlink_neighbour neighbour = {
	    .index = fixed->ndm_ifindex,
	    .fdb = listing->fdb,
	    .address = attribute_address(attribute[NDA_DST]),
	};
	if (!(fixed->ndm_state & NUD_PERMANENT) || neighbour.address.length == 0 || !attribute[NDA_LLADDR] ||
	    mnl_attr_get_payload_len(attribute[NDA_LLADDR]) != sizeof neighbour.mac) {
		return;
	}
	memcpy(neighbour.mac, mnl_attr_get_payload(attribute[NDA_LLADDR]), sizeof neighbour.mac);
	listing->neighbour(listing->context, &neighbour);
}

int netlink_neighbours(struct netlink *netlink, void (*found)(void *context, const struct netlink_neighbour *neighbour),
                       void *context)
{
	struct listing listing = {.neighbour = found, .context = context};
	int error = message_dump(netlink, RTM_GETNEIGH, sizeof(struct ndmsg), AF_UNSPEC, list_neighbour, &listing);
	if (error != 0) {
		return error;
	}
	listing.fdb = true;
	return message_dump(netlink, RTM_GETNEIGH, sizeof(struct ndmsg), AF_BRIDGE, list_neighbour, &listing);
}

// ---- rules ----

static void begin_rule(struct message *message, uint16_t type, uint16_t flags, const struct netlink_rule *rule)
{
	struct fib_rule_hdr *fixed = message_begin(message, type, flags, sizeof *fixed);
	fixed->family = AF_INET;
	fixed->action = FR_ACT_TO_TBL;
	fixed->table = rule->table < 256 ? (uint8_t)rule->table : RT_TABLE_UNSPEC;
	message_put_u32(message, FRA_PRIORITY, rule->priority);
	message_put_text(message, FRA_IIFNAME, rule->iif);
	message_put_u32(message, FRA_TABLE, rule->table);
	message_put_u8(message, FRA_PROTOCOL, NETLINK_PROTOCOL);
}

int netlink_rule_add(struct netlink *netlink, const struct netlink_rule *rule)
{
	struct message message;
	begin_rule(&message, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule);
	int error = message_ask(netlink, &message, NULL, NULL);
	return error == -EEXIST ? 0 : error;
}

int netlink_rule_remove(struct netlink *netlink, const struct netlink_rule *rule)
{
	struct message message;
	begin_rule(&message, RTM_DELRULE, 0, rule);
	int error = message_ask(netlink, &message, NULL, NULL);
	return error == -ENOENT ? 0 : error;
}

static void list_rule(void *context, const struct nlmsghdr *header)
{
	const struct listing *listing = context;
	if (header->nlmsg_type != RTM_NEWRULE || mnl_nlmsg_get_payload_len(header) < sizeof(struct fib_rule_hdr)) {
		return;
	}
	const struct fib_rule_hdr *fixed = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute[FRA_PROTOCOL + 1];
	message_attributes(header, sizeof *fixed, attribute, FRA_PROTOCOL);
	if (!attribute[FRA_PROTOCOL] || mnl_attr_get_u8(attribute[FRA_PROTOCOL]) != NETLINK_PROTOCOL ||
	    !attribute[FRA_IIFNAME]) {
		return;
	}
	struct netlink_rule rule = {
	    .priority = attribute_u32(attribute[FRA_PRIORITY]),
	    .table = attribute[FRA_TABLE] ? attribute_u32(attribute[FRA_TABLE]) : fixed->table,
	};
	size_t length = mnl_attr_get_payload_len(attribute[FRA_IIFNAME]);
	memcpy(rule.iif, mnl_attr_get_payload(attribute[FRA_IIFNAME]), length < sizeof rule.iif ? length : sizeof rule.iif - 1);
	listing->rule(listing->context, &rule);
}

int netlink_rules(struct netlink *netlink, void (*found)(void *context, const struct netlink_rule *rule), void *context)
{
	struct listing listing = {.rule = found, .context = context};
	return message_dump(netlink, RTM_GETRULE, sizeof(struct fib_rule_hdr), AF_INET, list_rule, &listing);
}
