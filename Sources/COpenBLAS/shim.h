#pragma once

#include <cblas.h>
#include <stdbool.h>
#include <stdlib.h>

// Builds with kernels for several processors (DYNAMIC_ARCH): discard the selected kernels, and select again.
extern void gotoblas_dynamic_quit(void) __attribute__((weak));
extern void gotoblas_dynamic_init(void) __attribute__((weak));

/// Selects the kernels made for another processor, such as `Haswell`; returns whether it did.
///
/// Does nothing if the user has set `OPENBLAS_CORETYPE`, or if the library has kernels for one processor only. OpenBLAS
/// reads its environment only while it selects kernels.
static inline bool pdrop_openblas_choose(const char *core) {
  static const char *const name = "OPENBLAS_CORETYPE";
  if (!gotoblas_dynamic_quit || !gotoblas_dynamic_init || getenv(name) || setenv(name, core, 0) != 0) return false;
  gotoblas_dynamic_quit();
  gotoblas_dynamic_init();
  unsetenv(name);
  return true;
}
