// The CURVE key pairs of the bus as files: <directory>/<identity>.public and <directory>/<identity>.secret, each one line of
// Z85 text (RFC 32 of the ZeroMQ project), the secret's mode 0600. Needs libzmq only, so that the command line can use it.
#ifndef TWINSPAN_BUS_KEYS_H
#define TWINSPAN_BUS_KEYS_H

#include <stdbool.h>

enum { BUS_KEY_TEXT = 41 }; // Z85 with its final zero

// Makes a key pair for `identity`. false with errno: EEXIST when it has one already (which is kept), EINVAL for a malformed
// identity, or what the file system says. The directory must exist.
bool bus_keys_write(const char *directory, const char *identity);
// Reads a key file's line. false with errno: EINVAL when it is malformed, or what the file system says.
bool bus_key_read(const char *directory, const char *identity, const char *suffix, char out[static BUS_KEY_TEXT]);
// Did this process's own want of something keep it from reading a key that may well be there?
bool bus_key_hindered(int error);

#endif
