// See net_queue.h.
#include "services/esp/net_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/kernel/namespace.h"

// Since Linux 6.2; not in Debian 12's headers.
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

// A descriptor of vpn0's next queue; the device is made when it is not there. The kernel takes the namespace that /dev/net/tun
// was opened in.
static int attach(int namespace)
{
	int previous = namespace_enter(namespace);
	if (previous < 0) {
		return -1;
	}
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	namespace_leave(previous);
	if (fd < 0) {
		return -1;
	}
	struct ifreq request = {.ifr_flags = (short)(IFF_TUN | IFF_NO_PI | IFF_MULTI_QUEUE | IFF_VNET_HDR)};
	strcpy(request.ifr_name, QUEUE_DEVICE);
	if (ioctl(fd, TUNSETIFF, &request) != 0) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

// Offloads belong to the device, but the kernel forgets them when the last queue closes, so they are set with each.
static bool set_offloads(int fd)
{
	unsigned segmentation = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
	return ioctl(fd, TUNSETOFFLOAD, segmentation | TUN_F_USO4 | TUN_F_USO6) == 0 ||
	       (errno == EINVAL && ioctl(fd, TUNSETOFFLOAD, segmentation) == 0);
}

int queue_open(int namespace)
{
	int fd = attach(namespace);
	if (fd >= 0 && !set_offloads(fd)) {
		int error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

int queue_make_device(int namespace)
{
	int fd = attach(namespace);
	if (fd < 0) {
		return -errno;
	}
	int error = ioctl(fd, TUNSETPERSIST, 1) == 0 ? 0 : -errno;
	close(fd);
	return error;
}

// Asking for what queue_open asked for already changes nothing; a kernel that does not know it says so.
bool queue_takes_udp_super_frames(int queue)
{
	return ioctl(queue, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6) == 0;
}
