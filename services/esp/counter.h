// Why a packet was dropped: one list makes the enumeration, the metric's labels and their help. A dropped packet counts exactly
// once.
#ifndef TWINSPAN_ESP_COUNTER_H
#define TWINSPAN_ESP_COUNTER_H

// X(enumerator, label, help). From the network first, then from vpn0, then what the shell meets.
#define ESP_DROP_LIST(X)                                                                                                       \
	X(SHORT, "short", "ESP packet of an impossible length")                                                                \
	X(KEEPALIVE, "keepalive", "NAT keepalive (RFC 3948 section 2.3): nothing to deliver")                                  \
	X(NON_ESP, "non_esp", "SPI 0 to 255 on an ESP socket")                                                                 \
	X(NO_SA, "no_sa", "SPI that no security association has")                                                              \
	X(WRONG_WORKER, "wrong_worker", "SPI that belongs to another worker")                                                  \
	X(NO_TUNNEL, "no_tunnel", "security association whose tunnel or border gateway is not known yet")                      \
	X(REPLAY, "replay", "sequence number seen before or below the replay window")                                          \
	X(AUTHENTICATION, "authentication", "integrity check value does not match")                                            \
	X(PADDING, "padding", "padding is not 1, 2, 3, ... or longer than the packet")                                         \
	X(DUMMY, "dummy", "dummy packet, next header 59 (RFC 4303 section 2.6)")                                               \
	X(NEXT_HEADER, "next_header", "next header other than IPv4 and IPv6")                                                  \
	X(INNER_MALFORMED, "inner_malformed", "inner IP header or length is wrong")                                            \
	X(ECN, "ecn", "congestion mark on a packet that cannot carry it (RFC 6040 section 4.2)")                               \
	X(INNER_SOURCE, "inner_source", "inner source address that this tunnel may not send from")                             \
	X(INNER_DESTINATION, "inner_destination", "inner destination that leads nowhere this tunnel may reach")                \
	X(INNER_SELECTORS, "inner_selectors", "inner packet outside its security association's traffic selectors")             \
	X(VPN_MALFORMED, "vpn_malformed", "frame from vpn0 with a wrong IP header or length")                                  \
	X(OFFLOAD, "offload", "frame from vpn0 whose offload header does not fit the packet")                                  \
	X(LINK_LOCAL, "link_local", "169.254.0.0/16 where only inside addresses may be")                                       \
	X(NO_ROUTE, "no_route", "no route to the destination")                                                                 \
	X(NOT_TUNNEL, "not_tunnel", "route leads to an attachment, yet the kernel gave the packet to vpn0")                    \
	X(NO_MEMBER, "no_member", "next-hop group without a tunnel on this node")                                              \
	X(NO_OUTBOUND_SA, "no_outbound_sa", "tunnel without a security association to send with")                              \
	X(OUTBOUND_SELECTORS, "outbound_selectors", "no security association of the tunnel carries such a packet")             \
	X(SEQUENCE_EXHAUSTED, "sequence_exhausted", "security association has used up its sequence numbers")                   \
	X(TOO_BIG, "too_big", "longer than the tunnel takes and must not be fragmented")                                       \
	X(TOO_BIG_UNANSWERED, "too_big_unanswered", "as too_big, and the tunnel's rate of ICMP errors is used up")             \
	X(NO_SPACE, "no_space", "burst does not fit the worker's buffers")                                                     \
	X(TRUNCATED, "truncated", "received packet longer than the buffer")                                                    \
	X(SEND_FULL, "send_full", "socket buffer towards the network is full")                                                 \
	X(SEND_FAILED, "send_failed", "the kernel refused to send")                                                            \
	X(WRITE_FAILED, "write_failed", "vpn0 did not take the packet")

enum esp_drop {
#define X(name, label, help) ESP_DROP_##name,
	ESP_DROP_LIST(X)
#undef X
	    ESP_DROPS
};

#endif
