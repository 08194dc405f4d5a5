// The file of the SAs' numbers (TWINSPAN_STATE/sequences), mapped: what a worker writes there is the kernel's at once, so a
// killed process leaves it right. It is meant to outlive the process, not the machine: with the node its security associations
// end too.
#ifndef TWINSPAN_ESP_NET_SEQUENCES_H
#define TWINSPAN_ESP_NET_SEQUENCES_H

#include "services/esp/esp.h"

enum { SEQUENCE_RECORDS = 1 << 17 };

// NULL with errno: EWOULDBLOCK when another process has it. The file is made when it is not there, and one of the first format
// is converted; one of another size is refused (EINVAL).
struct esp_sequence_record *sequences_map(const char *folder);

#endif
