// See net_sequences.h.
#include "services/esp/net_sequences.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"

static struct esp_sequence_record *map_file(int fd)
{
	struct stat file;
	off_t wanted = SEQUENCE_RECORDS * (off_t)sizeof(struct esp_sequence_record);
	// Two processes over one file would take the same numbers. The lock goes with the descriptor, which stays open.
	if (flock(fd, LOCK_EX | LOCK_NB) != 0 || fstat(fd, &file) != 0) {
		return NULL;
	}
	if (file.st_size != wanted) {
		if (file.st_size != 0) {
			errno = EINVAL;
			return NULL;
		}
		// Every block now: on a full disk a write into a hole would be a signal in a worker.
		int error = posix_fallocate(fd, 0, wanted);
		if (error) {
			errno = error;
			return NULL;
		}
	}
	void *memory = mmap(NULL, (size_t)wanted, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

struct esp_sequence_record *sequences_map(const char *folder)
{
	char *path = format_text("%s/sequences", folder);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	free(path);
	if (fd < 0) {
		return NULL;
	}
	struct esp_sequence_record *records = map_file(fd);
	if (!records) {
		int error = errno;
		close(fd);
		errno = error;
	}
	return records;
}
