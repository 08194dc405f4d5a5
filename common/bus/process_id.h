// The process's id without a system call for each question.
#ifndef TWINSPAN_BUS_PROCESS_ID_H
#define TWINSPAN_BUS_PROCESS_ID_H

// From now on getpid() is answered from memory, in this process and in what it forks. Called again it changes nothing.
void process_id_remember(void);

#endif
