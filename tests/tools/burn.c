// A busy machine, for tests that have to hold on one: N processes that use the processors and wake often, until they are ended.
//   burn <N>      N adds N to the load average
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1000, SPIN_NANOSECONDS = 2000000, SLEEP_NANOSECONDS = 20000 };

static int64_t nanoseconds(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

_Noreturn static void burn(void)
{
	// Ends with its parent, however that ends.
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (volatile uint64_t work = 0;;) {
		for (int64_t end = nanoseconds() + SPIN_NANOSECONDS; nanoseconds() < end;) {
			work++;
		}
		nanosleep(&(struct timespec){0, SLEEP_NANOSECONDS}, NULL);
	}
}

int main(int count, char **arguments)
{
	int processes = count == 2 ? atoi(arguments[1]) : 0;
	if (processes < 1 || processes > MOST) {
		fprintf(stderr, "usage: burn <number of processes, 1 to %d>\n", MOST);
		return 2;
	}
	for (int i = 0; i < processes; i++) {
		pid_t child = fork();
		if (child < 0) {
			perror("burn: fork");
			return 1;
		}
		if (child == 0) {
			burn();
		}
	}
	printf("%d processes burn; end them with SIGTERM to %d\n", processes, getpid());
	fflush(stdout);
	while (wait(NULL) > 0) {
	}
	return 0;
}
