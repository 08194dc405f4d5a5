// See change.h.
#include "common/bus/change.h"

#include <sys/stat.h>

bool bus_changed(struct bus_change *change, const char *path)
{
	struct stat status;
	if (stat(path, &status) < 0) {
		return false;
	}
	if (status.st_mtim.tv_sec != change->seen.tv_sec || status.st_mtim.tv_nsec != change->seen.tv_nsec) {
		change->seen = status.st_mtim;
		change->again = true;
		return true;
	}
	bool again = change->again;
	change->again = false;
	return again;
}
