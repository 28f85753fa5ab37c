#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#endif

#if defined(__GLIBC__)
#include <malloc.h>
#endif

int pdrop_processor_affinity(void) {
#if defined(__linux__)
  // Doubled until the set is large enough for the machine.
  for (int capacity = CPU_SETSIZE; capacity <= CPU_SETSIZE << 6; capacity *= 2) {
    cpu_set_t *set = CPU_ALLOC(capacity);
    if (!set) return 0;
    const size_t size = CPU_ALLOC_SIZE(capacity);
    const int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
#endif
  return 0;
}

void pdrop_fill_standard_files(void) {
  // Opened so that reads and writes fail, as on a closed file; only messages are dropped.
  static const int flags[] = {O_WRONLY, O_RDONLY, O_WRONLY};
  for (int file = 0; file < 3; file++) {
    if (fcntl(file, F_GETFD) < 0 && errno == EBADF) open("/dev/null", flags[file]);
  }
}

static int abort_status;

static void exit_on_abort(int number) {
  (void)number;
  _exit(abort_status);
}

void pdrop_exit_on_abort(int status) {
  abort_status = status;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = exit_on_abort;
  sigemptyset(&action.sa_mask);
  sigaction(SIGABRT, &action, NULL);
}

void pdrop_share_arena(void) {
#if defined(__GLIBC__)
  mallopt(M_ARENA_MAX, 1);
#endif
}
