// The kernel programs that bring a datagram to the right one of several sockets of the node.
#ifndef TWINSPAN_ESP_NET_STEERING_H
#define TWINSPAN_ESP_NET_STEERING_H

// A table of sockets of one port, and the reuseport program that chooses from it. Descriptors; the kernel keeps both while the
// sockets' group uses them.
struct steering {
	int map;
	int program;
};

// Index 0 is IKE's socket, index 1 + n that of ESP worker n. With no workers everything goes to index 0. 0 or a negative errno.
int steering_open(struct steering *steering, unsigned workers);
// `socket` must be bound. A socket that was at that index is no longer chosen.
int steering_set(const struct steering *steering, unsigned index, int socket);
// Makes the program that of the whole reuseport group of `socket`, in place of an earlier one.
int steering_attach(const struct steering *steering, int socket);
void steering_close(struct steering *steering);
// Only packets whose SPI modulo `workers` is `worker` come out of a raw socket of protocol 50.
int steering_filter_raw(int socket, unsigned worker, unsigned workers);

#endif
