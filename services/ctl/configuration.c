// The configuration of a customer's device. The API never gives a pre-shared key out, so the document has a mark where it
// belongs; the key is put there here, from the user's own file. A line "#### name" begins each file of the document.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/secret.h"
#include "services/ctl/verbs.h"

#define KEY_MARK "@PRE_SHARED_KEY@"
#define FILE_MARK "#### "
enum { KEY_MAX = 256 };

static bool read_key(const char *path, char key[static KEY_MAX])
{
	FILE *file = fopen(path, "re");
	if (!file) {
		fprintf(stderr, "twinspan: cannot read %s: %s\n", path, strerror(errno));
		return false;
	}
	size_t length = fread(key, 1, KEY_MAX - 1, file);
	fclose(file);
	key[length] = '\0';
	key[strcspn(key, "\r\n")] = '\0';
	return true;
}

static char *with_key(const char *document, const char *key)
{
	char *out = duplicate_text("");
	for (const char *at = document; at;) {
		const char *mark = key ? strstr(at, KEY_MARK) : NULL;
		size_t length = mark ? (size_t)(mark - at) : strlen(at);
		char *longer = format_text("%s%.*s%s", out, (int)length, at, mark ? key : "");
		wipe(out, strlen(out));
		free(out);
		out = longer;
		at = mark ? mark + strlen(KEY_MARK) : NULL;
	}
	return out;
}

// A file that holds a key is for its owner's eyes; names are the document's own and never lead out of the directory.
static bool write_file(const char *directory, const char *name, size_t name_length, const char *text, size_t length)
{
	char *path = format_text("%s/%.*s", directory, (int)name_length, name);
	bool plain = name_length > 0 && !memchr(name, '/', name_length) && name[0] != '.';
	int fd = plain ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
	bool written = fd >= 0 && write(fd, text, length) == (ssize_t)length;
	if (fd >= 0) {
		close(fd);
	}
	if (written) {
		printf("%s\n", path);
	} else {
		fprintf(stderr, "twinspan: cannot write %s: %s\n", path, plain ? strerror(errno) : "not a plain file name");
	}
	free(path);
	return written;
}

static int write_files(const char *document, const char *directory)
{
	if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
		fprintf(stderr, "twinspan: cannot make %s: %s\n", directory, strerror(errno));
		return EXIT_USAGE;
	}
	const char *at = strstr(document, FILE_MARK);
	while (at) {
		const char *name = at + strlen(FILE_MARK);
		size_t name_length = strcspn(name, " \r\n");
		const char *text = name + strcspn(name, "\n");
		text += *text == '\n';
		const char *next = strstr(text, "\n" FILE_MARK);
		size_t length = next ? (size_t)(next + 1 - text) : strlen(text);
		if (!write_file(directory, name, name_length, text, length)) {
			return EXIT_USAGE;
		}
		at = next ? next + 1 : NULL;
	}
	return EXIT_OK;
}

int configuration_write(const char *document, const char *key_file, const char *directory)
{
	char key[KEY_MAX];
	if (key_file && !read_key(key_file, key)) {
		return EXIT_USAGE;
	}
	char *text = with_key(document, key_file ? key : NULL);
	if (key_file) {
		wipe(key, sizeof key);
	} else if (strstr(text, KEY_MARK)) {
		fprintf(stderr,
		        "twinspan: put the pre-shared key where %s stands, or name its file with --pre-shared-key-file\n",
		        KEY_MARK);
	}
	int result = EXIT_OK;
	if (directory) {
		result = write_files(text, directory);
	} else {
		fputs(text, stdout);
	}
	wipe(text, strlen(text));
	free(text);
	return result;
}
