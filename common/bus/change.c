// See change.h.
#include "common/bus/change.h"

#include <sys/stat.h>

static bool is_same(const struct bus_change *change, const struct stat *status)
{
	return status->st_mtim.tv_sec == change->seen.tv_sec && status->st_mtim.tv_nsec == change->seen.tv_nsec &&
	       status->st_ino == change->inode && status->st_dev == change->device;
}

bool bus_changed(struct bus_change *change, const char *path)
{
	struct stat status;
	if (stat(path, &status) < 0) {
		return false;
	}
	if (!is_same(change, &status)) {
		*change = (struct bus_change){status.st_mtim, status.st_dev, status.st_ino, true};
		return true;
	}
	bool again = change->again;
	change->again = false;
	return again;
}
