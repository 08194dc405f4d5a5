// Between the core and the rest of the shell: an event goes in, and what the core answers is carried out.
#include "services/ike/shell.h"

void service_step(struct service *service, const struct ike_event *event)
{
	ike_step(service->ike, event, now(), &service->actions);
	ike_bus_publish(service->bus, &service->actions);
	output_queue(service->output, &service->actions, ike_bus_barrier(service->bus));
	ike_actions_clear(&service->actions);
	deadline_arm(&service->deadline, ike_deadline(service->ike));
}
