// Between the core and the rest of the shell: events go in, and what the core answers is carried out, as one batch for all that
// came at once.
#include "services/ike/shell.h"

void service_step(struct service *service, const struct ike_event *event)
{
	ike_step(service->ike, event, now(), &service->actions);
	ike_bus_take(service->bus, &service->actions);
	output_take(service->output, &service->actions);
	ike_actions_clear(&service->actions);
}

void service_settle(struct service *service)
{
	output_release(service->output, ike_bus_commit(service->bus, output_awaits(service->output)));
	deadline_arm(&service->deadline, ike_deadline(service->ike));
}
