// What a worker's burst gave goes out: datagrams to the network, frames to vpn0.
#ifndef TWINSPAN_ESP_NET_SEND_H
#define TWINSPAN_ESP_NET_SEND_H

#include "services/esp/esp.h"

void send_datagrams(struct esp_worker *worker, int udp, int raw);
// `queue_of` gives the descriptor of the frame's vpn0 for this worker.
void write_frames(struct esp_worker *worker, int (*queue_of)(void *context, unsigned worker), unsigned index);

#endif
