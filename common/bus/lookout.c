// See lookout.h. A watch is on what a path leads to, the directory that holds the path's last name tells when that becomes
// another. What is further up (a link on the way) is found by looking now and then.
#include "common/bus/lookout.h"

#include <errno.h>
#include <string.h>
#include <sys/inotify.h>

#include "common/base/alloc.h"
#include "common/io/log.h"

enum {
	SLOW_S = 9,      // after this, with the next beat, it is looked again while changes are told,
	UNTOLD_S = 0,    // and while they are not
	PACE_MS = 200,   // a directory that is being filled is not read for every file of it
	ROOM = 8 * 1024, // for events that are read at a time

	ENTRIES = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR,
	CONTENT = IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF,
};

enum { KEYS_PARENT, KEYS, FILE_PARENT, FILE_ITSELF, PLACES };

static struct lookout_place place(char *path, const char *name, uint32_t events)
{
	return (struct lookout_place){path, name ? duplicate_text(name) : NULL, events, -1};
}

// A path's last name, and the directory that has it.
static struct lookout_place parent_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	if (!slash) {
		return place(duplicate_text("."), path, ENTRIES);
	}
	int length = slash == path ? 1 : (int)(slash - path);
	return place(format_text("%.*s", length, path), slash + 1, ENTRIES);
}

static bool is_watched(const struct bus_lookout *lookout, int watch)
{
	for (int i = 0; i < PLACES; i++) {
		if (lookout->places[i].watch == watch) {
			return true;
		}
	}
	return false;
}

// Watches what the paths lead to now. Two of them may be one and the same.
static void watch_places(struct bus_lookout *lookout)
{
	int former[PLACES];
	for (int i = 0; lookout->fd >= 0 && i < PLACES; i++) {
		struct lookout_place *here = &lookout->places[i];
		former[i] = here->watch;
		here->watch = inotify_add_watch(lookout->fd, here->path, here->events);
	}
	for (int i = 0; lookout->fd >= 0 && i < PLACES; i++) {
		if (former[i] >= 0 && !is_watched(lookout, former[i])) {
			inotify_rm_watch(lookout->fd, former[i]);
		}
	}
}

static bool is_public_key(const char *name)
{
	const char *dot = strrchr(name, '.');
	return dot && strcmp(dot, ".public") == 0;
}

static bool matters(const struct lookout_place *here, const struct inotify_event *event)
{
	if (here->watch != event->wd || event->mask & IN_IGNORED) {
		return false;
	}
	if (event->len == 0) {
		return true; // the place itself
	}
	// "..data" is the link that all files of a Kubernetes volume lead through.
	return strncmp(event->name, "..", 2) == 0 ||
	       (here->name ? strcmp(event->name, here->name) == 0 : is_public_key(event->name));
}

static void take(struct bus_lookout *lookout, const struct inotify_event *event)
{
	bool lost = event->mask & IN_Q_OVERFLOW;
	for (int i = 0; i < PLACES && !lookout->told; i++) {
		lookout->told = lost || matters(&lookout->places[i], event);
	}
}

static void on_events(void *context)
{
	struct bus_lookout *lookout = context;
	_Alignas(struct inotify_event) char room[ROOM];
	ssize_t length = read(lookout->fd, room, sizeof room);
	for (ssize_t at = 0; at < length;) {
		const struct inotify_event *event = (const struct inotify_event *)(room + at);
		take(lookout, event);
		at += (ssize_t)(sizeof *event + event->len);
	}
	if (lookout->told) {
		instant paced = lookout->looked + MILLISECONDS(PACE_MS), at = now();
		deadline_arm(&lookout->look, paced > at ? paced : at);
	}
}

static bool tells(const struct bus_lookout *lookout)
{
	return lookout->fd >= 0 && !is_watched(lookout, -1);
}

static void await_look(struct bus_lookout *lookout, instant at)
{
	deadline_arm(&lookout->look, beat_after(at + SECONDS(tells(lookout) ? SLOW_S : UNTOLD_S), SECONDS(1)));
}

// `sure`: what changes after this is told, so that nothing has to be looked at twice.
static bool looks_changed(struct bus_lookout *lookout, bool sure)
{
	bool keys = bus_changed(&lookout->keys, lookout->places[KEYS].path);
	bool endpoints = bus_changed(&lookout->endpoints, lookout->places[FILE_ITSELF].path);
	lookout->keys.again = lookout->keys.again && !sure;
	lookout->endpoints.again = lookout->endpoints.again && !sure;
	return keys || endpoints;
}

static void look(void *context)
{
	struct bus_lookout *lookout = context;
	bool told = lookout->told, changed = looks_changed(lookout, told) || told;
	lookout->told = false;
	if (changed || !tells(lookout)) {
		watch_places(lookout);
	}
	lookout->looked = now();
	await_look(lookout, lookout->looked);
	if (changed) {
		lookout->changed(lookout->context);
	}
}

void bus_lookout_begin(struct bus_lookout *lookout, struct loop *loop, const char *keys_directory, const char *endpoints_file,
                       loop_fn *changed, void *context)
{
	*lookout = (struct bus_lookout){
	    .loop = loop, .fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), .changed = changed, .context = context};
	if (lookout->fd < 0) {
		log_event(LOG_WARNING, "bus-files-unwatched", "error", strerror(errno), NULL);
	} else {
		loop_read(loop, lookout->fd, on_events, lookout);
	}
	char *keys = duplicate_text(keys_directory);
	for (size_t length = strlen(keys); length > 1 && keys[length - 1] == '/'; length--) {
		keys[length - 1] = '\0';
	}
	lookout->places[KEYS_PARENT] = parent_of(keys);
	lookout->places[KEYS] = place(keys, NULL, ENTRIES);
	lookout->places[FILE_PARENT] = parent_of(endpoints_file);
	lookout->places[FILE_ITSELF] = place(duplicate_text(endpoints_file), NULL, CONTENT);
	watch_places(lookout);
	looks_changed(lookout, tells(lookout));
	deadline_init(&lookout->look, loop, look, lookout);
	await_look(lookout, now());
}

void bus_lookout_end(struct bus_lookout *lookout)
{
	deadline_disarm(&lookout->look);
	if (lookout->fd >= 0) {
		loop_read_end(lookout->loop, lookout->fd);
		close(lookout->fd);
	}
	for (int i = 0; i < PLACES; i++) {
		free(lookout->places[i].path);
		free(lookout->places[i].name);
	}
}
