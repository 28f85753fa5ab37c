#pragma once
#include <cblas.h>
#include <stdlib.h>

/* Of builds with kernels for several processors: forget the chosen ones, and choose again. */
extern void gotoblas_dynamic_quit(void) __attribute__((weak));
extern void gotoblas_dynamic_init(void) __attribute__((weak));

/* Takes the kernels made for another processor, unless the user has chosen or the library has no others; 1 if it did.
 * The library reads the choice from its environment, and only when it chooses. */
static inline int pdrop_openblas_choose(const char *core) {
  static const char *const name = "OPENBLAS_CORETYPE";
  if (!gotoblas_dynamic_quit || !gotoblas_dynamic_init || getenv(name) || setenv(name, core, 0) != 0) return 0;
  gotoblas_dynamic_quit();
  gotoblas_dynamic_init();
  unsetenv(name);
  return 1;
}
