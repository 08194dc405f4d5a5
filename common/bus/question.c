// Questions with an answer (bus.h): both ends.
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/bus/shell.h"

struct asked {
	struct bus *bus;
	uint64_t id;
	struct deadline deadline;
	bus_answer_fn *answered;
	void *context;
};

struct handler {
	bus_question_fn *fn;
	void *context;
};

struct question {
	struct bus *bus;
	uint64_t id;
	size_t peer_length;
	uint8_t peer[];
};

static struct bytes id_key(const uint64_t *id)
{
	return (struct bytes){(const uint8_t *)id, sizeof *id};
}

static void answer_asked(struct bus *bus, uint64_t id, const char *error, struct bytes body)
{
	struct asked *asked = map_remove(bus->questions, id_key(&id));
	if (!asked) {
		bus_count_dropped("late answer");
		return;
	}
	deadline_disarm(&asked->deadline);
	asked->answered(asked->context, error, body);
	free(asked);
}

static void on_deadline(void *context)
{
	struct asked *asked = context;
	answer_asked(asked->bus, asked->id, "no answer in time", (struct bytes){(const uint8_t *)"", 0});
}

void bus_ask(struct bus *bus, const char *owner, const char *name, struct bytes body, duration deadline,
             bus_answer_fn *answered, void *context)
{
	struct connection *connection = bus_connection(bus, owner);
	struct asked *asked = allocate(sizeof *asked);
	*asked = (struct asked){.bus = bus, .id = ++bus->next_question, .answered = answered, .context = context};
	deadline_init(&asked->deadline, bus->loop, on_deadline, asked);
	map_insert(bus->questions, id_key(&asked->id), asked);
	// Away: it is told from the loop, as every other outcome, not within this call.
	bool up = bus_link_is_up(connection->link);
	deadline_arm(&asked->deadline, now() + (up ? deadline : 0));
	if (up) {
		bus_link_ask(connection->link, asked->id, name, body, (uint64_t)(deadline / 1000));
	}
}

void bus_question_answered(struct bus *bus, uint64_t id, const char *error, struct bytes body)
{
	answer_asked(bus, id, error, body);
}

void bus_on_question(struct bus *bus, const char *name, bus_question_fn *fn, void *context)
{
	struct handler *handler = allocate(sizeof *handler);
	*handler = (struct handler){fn, context};
	free(map_insert_text(bus->handlers, name, handler));
}

void bus_question_received(struct bus *bus, struct bytes peer, const char *asker, const char *name, struct bytes body,
                           uint64_t id)
{
	const struct handler *handler = map_find_text(bus->handlers, name);
	if (!handler) {
		bus_owner_answer(bus->owner, peer, id, "nobody answers this", (struct bytes){0});
		return;
	}
	struct question *question = allocate(sizeof *question + peer.length);
	question->bus = bus;
	question->id = id;
	question->peer_length = peer.length;
	memcpy(question->peer, peer.data, peer.length);
	handler->fn(handler->context, asker, body, question);
}

void question_answer(struct question *question, const char *error, struct bytes body)
{
	bus_owner_answer(question->bus->owner, (struct bytes){question->peer, question->peer_length}, question->id, error,
	                 body);
	free(question);
}

void bus_questions_free(struct bus *bus)
{
	for (struct map_cursor at = {0}; map_next(bus->questions, &at);) {
		deadline_disarm(&((struct asked *)at.value)->deadline);
	}
	map_free(&bus->questions, free);
	map_free(&bus->handlers, free);
}
