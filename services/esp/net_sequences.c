// See net_sequences.h.
#include "services/esp/net_sequences.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"

enum { FILE_SIZE = SEQUENCE_RECORDS * sizeof(struct esp_sequence_record) };

// A record of the file's first format, without what was received.
struct first_record {
	uint8_t fingerprint[16];
	uint64_t reserved, stamp;
};
enum { FIRST_FILE_SIZE = SEQUENCE_RECORDS * sizeof(struct first_record) };

static void *map_file(int fd, size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

// Every block now: on a full disk a write into a hole would be a signal in a worker.
static struct esp_sequence_record *make_file(int fd)
{
	int error = posix_fallocate(fd, 0, FILE_SIZE);
	if (error) {
		errno = error;
		return NULL;
	}
	return map_file(fd, FILE_SIZE);
}

// Which records belong to SAs that live the first format does not say: all of them, until ike has told what it has.
static void convert(struct esp_sequence_record *records, const struct first_record *first)
{
	for (size_t i = 0; i < SEQUENCE_RECORDS && first[i].stamp > 0; i++) {
		records[i] = (struct esp_sequence_record){.reserved = first[i].reserved, .stamp = first[i].stamp, .claimed = 1};
		memcpy(records[i].fingerprint, first[i].fingerprint, sizeof records[i].fingerprint);
	}
}

// The lock of the first file is held until the new one has its name, so that nobody else takes numbers in between.
static struct esp_sequence_record *replace_first_format(int fd, const char *path)
{
	char *next_path = format_text("%s.new", path);
	unlink(next_path);
	int next = open(next_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct first_record *first = map_file(fd, FIRST_FILE_SIZE);
	struct esp_sequence_record *records =
	    first && next >= 0 && flock(next, LOCK_EX | LOCK_NB) == 0 ? make_file(next) : NULL;
	if (records) {
		convert(records, first);
		if (rename(next_path, path) != 0) {
			munmap(records, FILE_SIZE);
			records = NULL;
		}
	}
	int error = errno;
	if (first) {
		munmap(first, FIRST_FILE_SIZE);
	}
	if (!records && next >= 0) {
		close(next);
		unlink(next_path);
	}
	free(next_path);
	errno = error;
	return records;
}

static struct esp_sequence_record *open_records(int fd, const char *path)
{
	struct stat file;
	// Two processes over one file would take the same numbers. The lock goes with the descriptor, which stays open.
	if (flock(fd, LOCK_EX | LOCK_NB) != 0 || fstat(fd, &file) != 0) {
		return NULL;
	}
	if (file.st_size == FILE_SIZE) {
		return map_file(fd, FILE_SIZE);
	}
	if (file.st_size == 0) {
		return make_file(fd);
	}
	if (file.st_size == FIRST_FILE_SIZE) {
		return replace_first_format(fd, path);
	}
	errno = EINVAL;
	return NULL;
}

struct esp_sequence_record *sequences_map(const char *folder)
{
	char *path = format_text("%s/sequences", folder);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct esp_sequence_record *records = fd < 0 ? NULL : open_records(fd, path);
	if (!records && fd >= 0) {
		int error = errno;
		close(fd);
		errno = error;
	}
	free(path);
	return records;
}
