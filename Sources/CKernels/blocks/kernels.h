#pragma once

#include "blocks.h"

/// The kernels of one instruction set.
typedef struct {
  void (*quantize_input)(const float *x, size_t stride, int rows, size_t inputs, void *input);
  void (*gemm)(pdrop_block_type type, const void *input, int rows, const void *groups, size_t inputs, size_t outputs,
               float *y, size_t stride, bool add);
} pdrop_block_kernels;

extern const pdrop_block_kernels pdrop_block_kernels_portable;
#if defined(__x86_64__)
extern const pdrop_block_kernels pdrop_block_kernels_avx2;
extern const pdrop_block_kernels pdrop_block_kernels_avx512;
extern const pdrop_block_kernels pdrop_block_kernels_avx512_vnni;
#endif
