// The kinds of resources, what can be done with them beside making, listing, showing, changing and deleting, and the forms of
// texts. The API, its OpenAPI document and the command line read these tables; nothing of them is written down again.
#include <string.h>

#include "proto/resource.pb-c.h"
#include "proto/resource_rules.h"

const struct kind_rule kind_rules[RESOURCE_KINDS] = {
    [RESOURCE_NODE] = {"node", "nodes", "Node", "node", NULL, true, true, &twinspan__node__descriptor,
                       "A gateway node of the region: esp, ike and bgp run there under its name",
                       "id,publicAddresses,fabricAddress,silentServices,description"},
    [RESOURCE_VPC_HOST] = {"vpc-host", "vpc-hosts", "VpcHost", "vpc_host", NULL, true, true, &twinspan__vpc_host__descriptor,
                           "A host that realises VPCs: vrouter runs there under its name", "id,fabricAddress,description"},
    [RESOURCE_VPC] = {"vpc", "vpcs", "Vpc", "vpc", "vpc", false, false, &twinspan__vpc__descriptor,
                      "A virtual private cloud; its default route table is made with it",
                      "id,name,cidrBlocks,vpcHostId,defaultRouteTableId"},
    [RESOURCE_SUBNET] = {"subnet", "subnets", "Subnet", "subnet", "sub", false, false, &twinspan__subnet__descriptor,
                         "A subnet of a VPC, with exactly one route table", "id,name,vpcId,cidr,gatewayAddress,routeTableId"},
    [RESOURCE_VPC_ROUTE_TABLE] = {"vpc-route-table", "vpc-route-tables", "VpcRouteTable", "vpc_route_table", "rtb", false,
                                  false, &twinspan__vpc_route_table__descriptor,
                                  "A route table of a VPC: static routes, and propagation from border gateways",
                                  "id,name,vpcId,propagations"},
    [RESOURCE_BORDER_GATEWAY] = {"border-gateway", "border-gateways", "BorderGateway", "border_gateway", "bgw", false, false,
                                 &twinspan__border_gateway__descriptor, "The cloud's router between VPCs and VPN connections",
                                 "id,name,asn,nodeIds,allowTransit"},
    [RESOURCE_VPC_ATTACHMENT] = {"vpc-attachment", "vpc-attachments", "VpcAttachment", "vpc_attachment", "att", false, false,
                                 &twinspan__vpc_attachment__descriptor, "A VPC attached to a border gateway",
                                 "id,name,borderGatewayId,vpcId,propagation"},
    [RESOURCE_CUSTOMER_GATEWAY] = {"customer-gateway", "customer-gateways", "CustomerGateway", "customer_gateway", "cgw", false,
                                   false, &twinspan__customer_gateway__descriptor,
                                   "The customer's side: its AS and one to four public addresses",
                                   "id,name,asn,publicAddresses"},
    [RESOURCE_VPN_CONNECTION] = {"vpn-connection", "vpn-connections", "VpnConnection", "vpn_connection", "vpn", false, false,
                                 &twinspan__vpn_connection__descriptor,
                                 "Two cloud addresses on two nodes, for one customer gateway",
                                 "id,name,routing,cloudAddresses,haStatus"},
    [RESOURCE_VPN_TUNNEL] = {"vpn-tunnel", "vpn-tunnels", "VpnTunnel", "vpn_tunnel", "tun", false, false,
                             &twinspan__vpn_tunnel__descriptor, "One IPsec tunnel between a cloud and a customer address",
                             "id,name,cloudAddress,customerAddress,adminState,runningStatus,bgpState,weak,reason"},
    [RESOURCE_BORDER_GATEWAY_ROUTE] = {"border-gateway-route", "border-gateway-routes", "BorderGatewayRoute",
                                       "border_gateway_route", "bgr", false, false, &twinspan__border_gateway_route__descriptor,
                                       "A static route of a border gateway",
                                       "id,name,borderGatewayId,destination,nextHopType,nextHopId"},
    [RESOURCE_TOKEN] = {"token", "tokens", "Token", NULL, "tok", false, true, &twinspan__token__descriptor,
                        "A bearer token of the API; only its hash is kept", "id,name,tenant,role"},
    [RESOURCE_QUOTA] = {"quota", "quotas", "Quota", "quota", NULL, true, true, &twinspan__quota__descriptor,
                        "The limits of one tenant, whose name is the quota's; a tenant without one has the defaults",
                        "id,borderGateways,vpcAttachments,vpnConnections,customerGateways,staticRoutes,learnedRoutes"},
};

const struct action_rule action_rules[ACTION_RULES] = {
    [ACTION_TUNNELS] =
        {RESOURCE_VPN_CONNECTION, "POST", "tunnels", "addTunnels", "add-tunnels", .body = "NewVpnTunnelTemplate",
         .answer = ANSWER_ITEMS, .item = "VpnTunnel",
         .help = "Makes tunnels: the first time the layout for high availability; later, or with both ends named, one"},
    [ACTION_REKEY] = {RESOURCE_VPN_TUNNEL, "POST", "rekey", "rekeyVpnTunnel", "rekey", .parameters = "sa",
                      .values = "CHILD,IKE", .item = "VpnTunnel", .help = "Rekeys the child or the IKE SA now"},
    [ACTION_RESTART_TUNNEL] = {RESOURCE_VPN_TUNNEL, "POST", "restart", "restartVpnTunnel", "restart", .item = "VpnTunnel",
                               .help = "Closes the tunnel and negotiates anew"},
    [ACTION_EVENTS] = {RESOURCE_VPN_TUNNEL, "GET", "events", "listVpnTunnelEvents", "events", .answer = ANSWER_ITEMS,
                       .item = "TunnelEvent",
                       .help = "The last events of its IKE and of its BGP session, by time, oldest first"},
    [ACTION_CONFIGURATION] = {RESOURCE_VPN_TUNNEL, "GET", "configuration", "showVpnTunnelConfiguration", "configuration",
                              .parameters = "vendor", .values = "strongswan-bird", .required = true, .answer = ANSWER_TEXT,
                              .help = "Configuration of the customer's device, without the key"},
    [ACTION_GATEWAY_ROUTES] = {RESOURCE_BORDER_GATEWAY, "GET", "routes", "listBorderGatewayRouteTable", "routes",
                               .parameters = "table,destination", .values = ROUTE_TABLE_VALUES, .paged = true,
                               .answer = ANSWER_ITEMS, .item = "RouteView",
                               .help = "The routes of one of its tables (EFFECTIVE, unless another is named), by destination"},
    [ACTION_TABLE_ROUTES] = {RESOURCE_VPC_ROUTE_TABLE, "GET", "routes", "listVpcRouteTableRoutes", "routes",
                             .parameters = "destination", .paged = true, .answer = ANSWER_ITEMS, .item = "RouteView",
                             .help = "Its routes, by destination"},
};

// The patterns are ECMA-262 and POSIX extended regular expressions alike.
const struct form_rule form_rules[FORMATS] = {
    [FORMAT_NODE_NAME] = {.pattern = "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$", .exact = true},
    [FORMAT_UNICAST] = {.name = "ipv4", .pattern = "^[0-9]{1,3}(\\.[0-9]{1,3}){3}$"},
    [FORMAT_PREFIX] = {.pattern = "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$"},
    [FORMAT_INSIDE] = {.pattern = "^169\\.254(\\.[0-9]{1,3}){2}/30$"},
    [FORMAT_PSK] = {.pattern = "^[A-Za-z1-9._][A-Za-z0-9._]{7,63}$", .exact = true},
    [FORMAT_MSS] = {.pattern = "^(AUTO|OFF|[1-9][0-9]{2,3})$"},
};

enum resource_kind kind_by_singular(const char *singular)
{
	for (size_t i = 0; i < RESOURCE_KINDS; i++) {
		if (strcmp(kind_rules[i].singular, singular) == 0) {
			return (enum resource_kind)i;
		}
	}
	return RESOURCE_KINDS;
}

enum resource_kind kind_by_plural(const char *plural)
{
	for (size_t i = 0; i < RESOURCE_KINDS; i++) {
		if (strcmp(kind_rules[i].plural, plural) == 0) {
			return (enum resource_kind)i;
		}
	}
	return RESOURCE_KINDS;
}
