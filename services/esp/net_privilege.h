// What a thread that parses hostile packets may still do.
#ifndef TWINSPAN_ESP_NET_PRIVILEGE_H
#define TWINSPAN_ESP_NET_PRIVILEGE_H

#include <stdbool.h>

// Takes the calling thread's capabilities away and leaves it the system calls of a worker: reading, writing, sending and
// receiving on descriptors that are open, waiting, and memory. Any other call fails with EPERM. The control thread keeps its
// own: the two share memory, so this is a second wall and not a process boundary. false with errno: the thread goes on with
// what it has.
bool privileges_drop(void);

#endif
