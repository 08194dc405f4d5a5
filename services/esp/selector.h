// The traffic selectors of a child SA: what it may carry (RFC 4301 §4.4.1.1, §5.2; RFC 7296 §3.13.1). Values that nobody
// changes.
#ifndef TWINSPAN_ESP_SELECTOR_H
#define TWINSPAN_ESP_SELECTOR_H

#include "services/esp/esp.h"
#include "services/esp/inner.h"

struct selectors;

// What a row says; NULL for one that carries everything, with `*why` NULL too. Else `*why` says what is wrong with it.
struct selectors *selectors_new(const struct esp_sa_row *row, const char **why);
bool selectors_equal(const struct selectors *a, const struct selectors *b);
// The families of which everything is carried, as octets of an address: 4, 16, both, or 0.
uint8_t selectors_any(const struct selectors *selectors);
// Does the SA carry the packet to the customer (outbound), or from there?
bool selectors_have_outbound(const struct selectors *selectors, const uint8_t *packet, const struct inner *inner);
bool selectors_have_inbound(const struct selectors *selectors, const uint8_t *packet, const struct inner *inner);

#endif
