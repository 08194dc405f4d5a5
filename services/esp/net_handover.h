// Hands the node's sockets to ike and bgp over a Unix socket (SOCK_SEQPACKET, SCM_RIGHTS): the server side of
// common/io/handover.h.
#ifndef TWINSPAN_ESP_NET_HANDOVER_H
#define TWINSPAN_ESP_NET_HANDOVER_H

#include "common/io/loop.h"
#include "services/esp/net_gateway.h"
#include "services/esp/net_sockets.h"
#include <sys/types.h>

struct handover_server;
// The standing border gateway of that id, or NULL.
typedef struct gateway *handover_gateway_fn(void *context, const char *bgw_id);

struct handover_settings {
	const char *path; // TWINSPAN_SOCKETS; an old socket file is removed
	uid_t ike_uid;    // who may have the UDP sockets (TWINSPAN_IKE_UID); root may always
	uid_t bgp_uid;    // who may have the BGP sockets (TWINSPAN_BGP_UID)
};
// Counts twinspan_esp_handover_total{result="given|refused|failed"}. NULL with errno.
struct handover_server *handover_server_new(struct loop *loop, const struct handover_settings *settings,
                                            const struct node_sockets *sockets, handover_gateway_fn *gateway, void *context);
void handover_server_free(struct handover_server **server);

#endif
