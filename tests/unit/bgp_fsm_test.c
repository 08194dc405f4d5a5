// The state machine's table against tests/unit/data/bgp_fsm.txt, which was written down from RFC 4271 §8.2.2: a line for each
// state and event.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "services/bgp/fsm.h"

static void table_is_as_written_down(void **state)
{
	(void)state;
	FILE *file = fopen("tests/unit/data/bgp_fsm.txt", "r");
	assert_non_null(file);
	char expected[200], printed[200];
	for (int s = 0; s < BGP_STATE_COUNT; s++) {
		for (int e = 0; e < FSM_EVENT_COUNT; e++) {
			const struct fsm_transition *t = &fsm_table[s][e];
			snprintf(printed, sizeof printed, "%-11s | %-45s | %-12s | %s\n", bgp_state_name((enum bgp_state)s),
			         fsm_event_name((enum fsm_event)e), fsm_action_name(t->action), bgp_state_name(t->next));
			do {
				assert_non_null(fgets(expected, sizeof expected, file));
			} while (expected[0] == '#');
			assert_string_equal(printed, expected);
		}
	}
	assert_null(fgets(expected, sizeof expected, file));
	fclose(file);
}

static void leaving_a_connection_is_always_said(void **state)
{
	(void)state;
	for (int s = 0; s < BGP_STATE_COUNT; s++) {
		for (int e = 0; e < FSM_EVENT_COUNT; e++) {
			const struct fsm_transition *t = &fsm_table[s][e];
			if (s != BGP_IDLE && t->next == BGP_IDLE) {
				assert_true(t->action >= DO_DROP);
			}
			if (t->next == BGP_ESTABLISHED && s != BGP_ESTABLISHED) {
				assert_int_equal(s, BGP_OPEN_CONFIRM);
				assert_int_equal(e, FSM_KEEPALIVE);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(table_is_as_written_down),
	    cmocka_unit_test(leaving_a_connection_is_always_said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
