// Is a file or a directory another one than when it was last looked at, or was it written to since?
#ifndef TWINSPAN_BUS_CHANGE_H
#define TWINSPAN_BUS_CHANGE_H

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

struct bus_change { // zeroed: everything is a change
	struct timespec seen;
	dev_t device;
	ino_t inode;
	bool again;
};

// true when it has changed, and once more the next time it is asked: what changed again within the same moment of the file
// system's clock, or was still being written, is seen then.
bool bus_changed(struct bus_change *change, const char *path);

#endif
