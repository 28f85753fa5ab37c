#define _POSIX_C_SOURCE 200809L
#include "openblas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

// MARK: - The library

// The constants of the CBLAS standard.
enum { row_major = 101, no_transpose = 111, transpose = 112 };

/// The functions of the library, and its state. The last four are not part of its documented interface, but of all
/// versions of it; builds for one processor lack the last two.
static struct {
  void (*cblas_sgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float *a,
                      int lda, const float *b, int ldb, float beta, float *c, int ldc);
  void (*cblas_sgemv)(int order, int transpose, int m, int n, float alpha, const float *a, int lda, const float *x,
                      int incx, float beta, float *y, int incy);
  void (*openblas_set_num_threads)(int count);
  char *(*openblas_get_corename)(void);
  char *(*openblas_get_config)(void);
  void *(*blas_memory_alloc)(int kind);
  void (*blas_memory_free)(void *memory);
  void (*gotoblas_dynamic_quit)(void);
  void (*gotoblas_dynamic_init)(void);
  bool is_loaded;
} library;

#if defined(__APPLE__)
// Homebrew does not link OpenBLAS into its folder of libraries.
static const char *const names[] = {"libopenblas.0.dylib", "/opt/homebrew/opt/openblas/lib/libopenblas.0.dylib",
                                    "/usr/local/opt/openblas/lib/libopenblas.0.dylib"};
#else
static const char *const names[] = {"libopenblas.so.0", "libopenblasp.so.0", "libopenblas.so"};
#endif

/// Sets an environment variable and returns a copy of its earlier value; NULL if there was none.
static char *replace_variable(const char *name, const char *value) {
  const char *found = getenv(name);
  char *earlier = found ? strdup(found) : NULL;
  setenv(name, value, 1);
  return earlier;
}

static void restore_variable(const char *name, char *earlier) {
  if (earlier) {
    setenv(name, earlier, 1);
    free(earlier);
  } else {
    unsetenv(name);
  }
}

static void load(void) {
  // Read by the library while it is loaded.
  static const char *const variable = "OPENBLAS_NUM_THREADS";
  char *earlier = replace_variable(variable, "1");
  void *handle = NULL;
  for (size_t i = 0; i < sizeof names / sizeof *names && !handle; i++) handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
  restore_variable(variable, earlier);
  if (!handle) return;
#define FIND(name) library.name = (__typeof__(library.name))dlsym(handle, #name)
  if (!(FIND(cblas_sgemm)) || !(FIND(cblas_sgemv)) || !(FIND(openblas_set_num_threads)) ||
      !(FIND(openblas_get_corename)) || !(FIND(openblas_get_config)))
    return;
  FIND(blas_memory_alloc);
  FIND(blas_memory_free);
  FIND(gotoblas_dynamic_quit);
  FIND(gotoblas_dynamic_init);
#undef FIND
  // For builds with OpenMP, which do not read the variable.
  library.openblas_set_num_threads(1);
  library.is_loaded = true;
}

static pthread_once_t loaded = PTHREAD_ONCE_INIT;

bool pdrop_openblas_load(void) {
  pthread_once(&loaded, load);
  return library.is_loaded;
}

bool pdrop_openblas_reserve(int calls) {
  if (!library.blas_memory_alloc || !library.blas_memory_free) return false;
  void **memory = calloc((size_t)calls, sizeof *memory);
  if (!memory) return false;
  // The library keeps what is freed here for later calls.
  for (int i = 0; i < calls; i++) memory[i] = library.blas_memory_alloc(0);
  for (int i = 0; i < calls; i++) library.blas_memory_free(memory[i]);
  free(memory);
  return true;
}

bool pdrop_openblas_choose(const char *core) {
  static const char *const variable = "OPENBLAS_CORETYPE";
  if (!library.gotoblas_dynamic_quit || !library.gotoblas_dynamic_init || getenv(variable)) return false;
  // Discards the selected kernels, and selects again; the variable is read only then.
  setenv(variable, core, 0);
  library.gotoblas_dynamic_quit();
  library.gotoblas_dynamic_init();
  unsetenv(variable);
  return true;
}

const char *pdrop_openblas_core(void) { return library.openblas_get_corename(); }

const char *pdrop_openblas_configuration(void) { return library.openblas_get_config(); }

// MARK: - Products

void pdrop_openblas_sgemm(const float *x, int rows, const float *w, int inputs, int outputs, float *y, int stride,
                          bool add) {
  library.cblas_sgemm(row_major, no_transpose, transpose, rows, outputs, inputs, 1, x, inputs, w, inputs, add ? 1 : 0,
                      y, stride);
}

void pdrop_openblas_sgemv(float scale, const float *a, int rows, int columns, int stride, const float *x, float *y) {
  library.cblas_sgemv(row_major, no_transpose, rows, columns, scale, a, stride, x, 1, 0, y, 1);
}
