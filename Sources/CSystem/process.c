#define _GNU_SOURCE
#include "process.h"

#if defined(__linux__)
#include <sched.h>
#include <stdlib.h>
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

void pdrop_share_arena(void) {
#if defined(__GLIBC__)
  mallopt(M_ARENA_MAX, 1);
#endif
}
