// Configuration from the environment: every setting is a variable TWINSPAN_*, listed in its service's README with its default.
#ifndef TWINSPAN_IO_CONFIG_H
#define TWINSPAN_IO_CONFIG_H

#include <stddef.h>
#include <stdint.h>

// The value, or `fallback`; a NULL fallback makes it required: the process says which one is missing and exits with 2.
const char *config_text(const char *name, const char *fallback);
int64_t config_number(const char *name, int64_t fallback, int64_t minimum, int64_t maximum);
// Reads a secret from the file that the variable names (at most `capacity` octets, one trailing newline dropped). Exits with 2 when it can't.
size_t config_secret_file(const char *name, uint8_t *out, size_t capacity);
// Warns of every TWINSPAN_* variable that nobody asked for (a misspelt setting).
void config_done(void);

#endif
