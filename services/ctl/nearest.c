// See nearest.h. The distance is the number of letters that were left out, put in, changed or exchanged with their neighbour.
#include "services/ctl/nearest.h"

#include <stdio.h>
#include <string.h>

static size_t least(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t distance(const char *a, const char *b)
{
	size_t rows[3][NEAREST_TEXT + 1] = {{0}};
	size_t length_a = strlen(a), length_b = strlen(b);
	if (length_a > NEAREST_TEXT || length_b > NEAREST_TEXT) {
		return NEAREST_TEXT;
	}
	for (size_t j = 0; j <= length_b; j++) {
		rows[0][j] = j;
	}
	for (size_t i = 1; i <= length_a; i++) {
		size_t *row = rows[i % 3];
		const size_t *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
		row[0] = i;
		for (size_t j = 1; j <= length_b; j++) {
			row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
				row[j] = least(row[j], two_above[j - 2] + 1);
			}
		}
	}
	return rows[length_a % 3][length_b];
}

void nearest_offer(struct nearest *nearest, const char *candidate)
{
	size_t found = distance(nearest->given, candidate);
	// A third of the letters wrong is another word.
	if (found > 1 + strlen(nearest->given) / 4 || strlen(candidate) >= sizeof nearest->best) {
		return;
	}
	if (nearest->best[0] == '\0' || found < nearest->distance) {
		strcpy(nearest->best, candidate);
		nearest->distance = found;
	}
}

const char *nearest_hint(const struct nearest *nearest)
{
	static char text[NEAREST_TEXT + 24];
	snprintf(text, sizeof text, nearest->best[0] ? "; did you mean %s?" : "%.0s", nearest->best);
	return text;
}
