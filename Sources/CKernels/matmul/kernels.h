#pragma once

#include "matmul.h"

/// A small-M GEMM with f32 results; the activations are packed.
typedef void gemm_f32(const unsigned char *x, int rows, const unsigned char *w, size_t inputs, size_t outputs, float *y,
                      size_t stride, bool add);

/// A small-M GEMM with int32 results; the activations are packed.
typedef void gemm_s32(const unsigned char *x, int rows, const unsigned char *w, size_t inputs, size_t outputs,
                      int32_t *y, size_t stride, bool add);

/// The small-M GEMMs of one instruction set, named after the types of activations and weights.
typedef struct {
  gemm_f32 *f32_f32;
  gemm_f32 *f32_f16;
  gemm_f32 *f32_bf16;
  gemm_f32 *bf16_bf16;
  gemm_s32 *u8_s8;
} pdrop_gemms;

extern const pdrop_gemms pdrop_gemms_portable;
#if defined(__x86_64__)
extern const pdrop_gemms pdrop_gemms_avx2;
extern const pdrop_gemms pdrop_gemms_avx512;
extern const pdrop_gemms pdrop_gemms_avx512_vnni;
extern const pdrop_gemms pdrop_gemms_avx512_bf16;
#endif
