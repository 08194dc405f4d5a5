// Has a file or a directory changed since it was last looked at? For what is looked at each second.
#ifndef TWINSPAN_BUS_CHANGE_H
#define TWINSPAN_BUS_CHANGE_H

#include <stdbool.h>
#include <time.h>

struct bus_change { // zeroed: everything is a change
	struct timespec seen;
	bool again;
};

// true when it has, and once more the next time it is asked: what changed again within the same moment of the file system's
// clock, or was still being written, is seen then.
bool bus_changed(struct bus_change *change, const char *path);

#endif
