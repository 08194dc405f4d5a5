// The limits of the dataplane that its files share. Those of one burst stand in worker.h: each follows from the ones before it.
#ifndef TWINSPAN_ESP_LIMITS_H
#define TWINSPAN_ESP_LIMITS_H

enum {
	ESP_WORKERS_MAX = 16,
	ESP_GATEWAYS_MAX = 4096, // border gateways of a node: one queue of a vpn0 each and worker
	ESP_SELECTORS_MAX = 16,  // of one end of a child SA
};

#endif
