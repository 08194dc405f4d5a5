// The labels of the drop counters, from the list in counter.h.
#include "services/esp/esp.h"

const char *const esp_drop_labels[ESP_DROPS] = {
#define X(name, label, help) label,
    ESP_DROP_LIST(X)
#undef X
};

const char *const esp_drop_help[ESP_DROPS] = {
#define X(name, label, help) help,
    ESP_DROP_LIST(X)
#undef X
};
