// vpn0 and its queues: a TUN device, multi-queue, each packet with a virtio-net header in front.
#ifndef TWINSPAN_ESP_NET_QUEUE_H
#define TWINSPAN_ESP_NET_QUEUE_H

#include <stdbool.h>

#define QUEUE_DEVICE "vpn0"

// One more queue, as net_gateway.h has it (gateway_queue); the device is made when it is not there. -1 with errno.
int queue_open(int namespace);
// Makes the device, to stay when its last queue closes. 0 or a negative errno.
int queue_make_device(int namespace);
// Does the device take UDP super-frames (Linux 6.2 and later)?
bool queue_takes_udp_super_frames(int queue);

#endif
