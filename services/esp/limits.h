// Numbers that the core and the shell of esp agree on.
#ifndef TWINSPAN_ESP_LIMITS_H
#define TWINSPAN_ESP_LIMITS_H

enum { ESP_WORKERS_MAX = 16 };

#endif
