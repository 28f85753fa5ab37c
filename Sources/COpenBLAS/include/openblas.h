#pragma once

#include <stdbool.h>
#include <stddef.h>

// The functions of the OpenBLAS library that we use, where it is installed.
//
// The library is loaded by `pdrop_openblas_load` and never linked: a linked OpenBLAS starts a thread for each processor
// before `main`, and spins for ever if it cannot have the memory for them.

/// Loads the library with one thread per call; returns whether it can be used. Further calls only return that.
bool pdrop_openblas_load(void);

/// Reserves the working memory of a number of concurrent calls, which otherwise the calls themselves reserve: they spin
/// for ever if there is none. Returns whether that is possible; the caller makes sure that there is enough memory.
bool pdrop_openblas_reserve(int calls);

/// Bytes of the working memory of one call: addresses, of which few are used.
#define PDROP_OPENBLAS_CALL_BYTES ((size_t)128 << 20)

/// Bytes of the library itself and of those that it needs.
#define PDROP_OPENBLAS_LIBRARY_BYTES ((size_t)64 << 20)

/// Selects the kernels made for another processor, such as `Haswell`; returns whether it did.
///
/// Does nothing if the user has set `OPENBLAS_CORETYPE`, or if the library has kernels for one processor only.
bool pdrop_openblas_choose(const char *core);

/// The name of the selected kernels, such as `Haswell`.
const char *pdrop_openblas_core(void);

/// The version and the options of the build, such as `OpenBLAS 0.3.21 DYNAMIC_ARCH`.
const char *pdrop_openblas_configuration(void);

/// `y = x · wᵀ`, or `y += x · wᵀ` with `add`.
///
/// - x: [rows, inputs], row-major.
/// - w: [outputs, inputs], row-major.
/// - y: [rows, outputs], row-major; rows are `stride` elements apart.
void pdrop_openblas_sgemm(const float *x, int rows, const float *w, int inputs, int outputs, float *y, int stride,
                          bool add);

/// `y = scale · a · x`.
///
/// - a: [rows, columns], row-major; rows are `stride` elements apart.
/// - x: [columns].
/// - y: [rows].
void pdrop_openblas_sgemv(float scale, const float *a, int rows, int columns, int stride, const float *x, float *y);
