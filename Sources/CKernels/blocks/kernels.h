#pragma once

#include "blocks.h"

/// The kernels of one instruction set.
typedef struct {
  void (*quantize_input)(const float *x, size_t stride, int rows, size_t inputs, void *input);
  void (*gemm)(pdrop_block_type type, const void *input, int rows, const void *groups, size_t inputs, size_t outputs,
               float *y, size_t stride, bool add);
  /// These take one group, of which the first `count` rows are stored.
  void (*group_scales)(pdrop_block_type type, const void *group, size_t inputs, float *scales);
  void (*round_to_s8)(pdrop_block_type type, const void *group, size_t inputs, int count, const float *scales,
                      int8_t *values, int32_t *sums);
  void (*round_to_bf16)(pdrop_block_type type, const void *group, size_t inputs, int count, uint16_t *values);
} pdrop_block_kernels;

extern const pdrop_block_kernels pdrop_block_kernels_portable;
#if defined(__x86_64__)
extern const pdrop_block_kernels pdrop_block_kernels_avx2;
extern const pdrop_block_kernels pdrop_block_kernels_avx512;
extern const pdrop_block_kernels pdrop_block_kernels_avx512_vnni;
#endif
