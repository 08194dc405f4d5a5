// See config.h.
#include "common/io/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/map.h"
#include "common/base/secret.h"
#include "common/io/log.h"

extern char **environ;

// What a runner may give to every service alike; a service that does not use one is not misconfigured.
static const char *const common_names[] = {"TWINSPAN_NODE", "TWINSPAN_KEYS",   "TWINSPAN_BUS",
                                           "TWINSPAN_RUN",  "TWINSPAN_HEALTH", "TWINSPAN_LOG_LEVEL"};
static struct map *asked; // the names that were asked for; the environment is the process's

static const char *lookup(const char *name)
{
	if (!asked) {
		asked = map_new(NULL);
	}
	map_insert_text(asked, name, asked);
	const char *value = getenv(name);
	return value && value[0] ? value : NULL;
}

static void __attribute__((noreturn)) refuse(const char *name, const char *why)
{
	fprintf(stderr, "%s %s\n", name, why);
	exit(2);
}

const char *config_text(const char *name, const char *fallback)
{
	const char *value = lookup(name);
	if (!value && !fallback) {
		refuse(name, "must be set");
	}
	return value ? value : fallback;
}

int64_t config_number(const char *name, int64_t fallback, int64_t minimum, int64_t maximum)
{
	const char *value = lookup(name);
	if (!value) {
		return fallback;
	}
	char *end;
	errno = 0;
	long long number = strtoll(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || number < minimum || number > maximum) {
		char why[128];
		snprintf(why, sizeof why, "must be a number from %lld to %lld", (long long)minimum, (long long)maximum);
		refuse(name, why);
	}
	return number;
}

size_t config_secret_file(const char *name, uint8_t *out, size_t capacity)
{
	const char *path = config_text(name, NULL);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		refuse(name, "names a file that cannot be opened");
	}
	size_t length = 0;
	ssize_t part = 0;
	while (length < capacity && (part = read(fd, out + length, capacity - length)) > 0) {
		length += (size_t)part;
	}
	// What may follow a secret that fills the room is its newline, and nothing else.
	char rest[2];
	ssize_t beyond = part < 0 ? -1 : read(fd, rest, sizeof rest);
	close(fd);
	if (beyond < 0 || beyond > 1 || (beyond == 1 && rest[0] != '\n')) {
		wipe(out, capacity);
		refuse(name, beyond < 0 ? "names a file that cannot be read" : "names a file that is too long");
	}
	if (beyond == 0 && length > 0 && out[length - 1] == '\n') {
		out[--length] = 0; // for a reader that takes it as text
	}
	return length;
}

void config_done(void)
{
	for (size_t i = 0; i < sizeof common_names / sizeof common_names[0]; i++) {
		lookup(common_names[i]);
	}
	for (char **variable = environ; *variable; variable++) {
		const char *equals = strchr(*variable, '=');
		if (!equals || strncmp(*variable, "TWINSPAN_", 9) != 0) {
			continue;
		}
		struct bytes name = {(const uint8_t *)*variable, (size_t)(equals - *variable)};
		if (!map_find(asked, name)) {
			char text[128];
			snprintf(text, sizeof text, "%.*s", (int)(name.length < 120 ? name.length : 120), *variable);
			log_event(LOG_WARNING, "unknown-setting", "name", text, NULL);
		}
	}
}
