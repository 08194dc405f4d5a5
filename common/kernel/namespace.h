// Network namespaces as bind mounts in /run/netns, the same that `ip netns` shows. They outlive the process that made them.
// All of this works on the calling thread only: another thread's namespace never changes.
#ifndef TWINSPAN_IO_NAMESPACE_H
#define TWINSPAN_IO_NAMESPACE_H

#include <stdbool.h>
#include <stddef.h>

enum { NAMESPACE_NAME = 200 }; // size of a buffer for a name

// Opens the namespace, or makes it (loopback is up then). Returns a close-on-exec descriptor, or -1 with errno. `made`, when
// not NULL, says which.
int namespace_make(const char *name, bool *made);
int namespace_open(const char *name); // -1 with ENOENT when there is none
int namespace_current(void);          // this thread's own
// Unmounts it and removes the name: it ends when the last descriptor, socket and process in it is gone. An absent one counts as
// removed.
bool namespace_remove(const char *name);
// Calls `found` with each standing namespace whose name begins with `prefix`.
void namespace_list(const char *prefix, void (*found)(void *context, const char *name), void *context);

// Moves this thread into `target`; returns a descriptor of where it was for namespace_leave, or -1 with errno (then nothing has
// moved).
int namespace_enter(int target);
void namespace_leave(int previous); // aborts when the way back is barred: a thread in a wrong namespace must not go on
// A socket that lives in `target`.
int namespace_socket(int target, int family, int type, int protocol);
// Writes one of /proc/sys/net of `target` ("ipv4/fib_multipath_hash_policy", "1"), through a proc instance of its own, so that
// a read-only /proc/sys is no obstacle. false with errno.
bool namespace_sysctl(int target, const char *path, const char *value);
// The first line of the same; false with errno.
bool namespace_sysctl_read(int target, const char *path, char *value, size_t capacity);

#endif
