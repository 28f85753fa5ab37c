#define _XOPEN_SOURCE 700
#include "mapped_files.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/// An entry of the list of mapped files. Entries are reused and never freed, because the signal handler may read them
/// at any time, without a lock.
struct pdrop_mapped_file {
  /// The address of the first byte; 0 if the entry is not in use.
  _Atomic uintptr_t base;
  size_t byte_count;
  char *line;
  pdrop_mapped_file *next;
};

static _Atomic(pdrop_mapped_file *) files;
/// Protects changes of the list.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction previous;
static int exit_status;

/// An entry that is not in use, new if there is none; NULL if memory is exhausted. Requires the lock.
static pdrop_mapped_file *unused_entry(void) {
  for (pdrop_mapped_file *file = atomic_load(&files); file; file = file->next)
    if (atomic_load(&file->base) == 0) return file;
  pdrop_mapped_file *file = calloc(1, sizeof *file);
  if (!file) return NULL;
  file->next = atomic_load(&files);
  atomic_store(&files, file);
  return file;
}

pdrop_mapped_file *pdrop_register_mapped_file(const void *base, size_t byte_count, const char *line) {
  char *copy = strdup(line);
  if (!copy) return NULL;
  pthread_mutex_lock(&lock);
  pdrop_mapped_file *file = unused_entry();
  if (file) {
    free(file->line);
    file->line = copy;
    file->byte_count = byte_count;
    atomic_store(&file->base, (uintptr_t)base);
  } else {
    free(copy);
  }
  pthread_mutex_unlock(&lock);
  return file;
}

void pdrop_unregister_mapped_file(pdrop_mapped_file *file) {
  if (file) atomic_store(&file->base, 0);
}

/// Calls only functions that are safe in a signal handler.
static void handle(int number, siginfo_t *info, void *context) {
  const uintptr_t address = (uintptr_t)info->si_addr;
  for (pdrop_mapped_file *file = atomic_load(&files); file; file = file->next) {
    const uintptr_t base = atomic_load(&file->base);
    if (base == 0 || address < base || address - base >= file->byte_count) continue;
    size_t written = 0;
    const size_t length = strlen(file->line);
    while (written < length) {
      const ssize_t count = write(STDERR_FILENO, file->line + written, length - written);
      if (count <= 0) break;
      written += (size_t)count;
    }
    _exit(exit_status);
  }
  // Not ours: the instruction runs again and faults under the previous handler.
  (void)context;
  sigaction(number, &previous, NULL);
  // A signal that was sent does not come again by itself.
  if (info->si_code <= 0) raise(number);
}

void pdrop_exit_on_cut_files(int status) {
  exit_status = status;
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &previous);
}
