#pragma once

#include <stdbool.h>
#include <stddef.h>

// GEMM of the oneDNN library, where it is installed.
//
// Compiled against the headers of version 2.6 or 3.x. The library is loaded at first use and never linked. Without the
// headers or the library, every function reports that nothing is available.

/// The version of the library as major * 10000 + minor * 100 + patch; 0 if it cannot be used.
int pdrop_onednn_version(void);

/// Whether the library has fast bf16 GEMM on this processor (AVX512_BF16).
bool pdrop_onednn_has_bf16(void);

/// Whether the library has int8 GEMM without saturation on this processor (VNNI).
bool pdrop_onednn_has_int8(void);

/// Element types of a GEMM.
typedef enum {
  /// bf16 × bf16 → f32.
  pdrop_onednn_bf16,
  /// u8 × s8 → s32.
  pdrop_onednn_u8_s8,
} pdrop_onednn_type;

/// `y = x · wᵀ`, or `y += x · wᵀ` with `add`.
///
/// - x: The activations, [rows, inputs], row-major.
/// - w: The weight, [outputs, inputs], row-major.
/// - y: The result, [rows, outputs], row-major; rows are `stride` elements apart.
///
/// Runs on the calling thread only; any number of threads may call at the same time.
///
/// Returns false if the library rejects the matmul, which depends only on the sizes; `y` is then unchanged.
bool pdrop_onednn_gemm(pdrop_onednn_type type, const void *x, size_t rows, const void *w, size_t inputs, size_t outputs,
                       void *y, size_t stride, bool add);
