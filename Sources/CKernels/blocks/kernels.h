#pragma once

#include "blocks.h"

/// The kernels of one instruction set, for up to `PDROP_MAX_SMALL_ROWS` rows.
typedef struct {
  void (*quantize_input)(pdrop_block_type type, const float *x, size_t stride, int rows, size_t inputs, void *input,
                         int input_rows);
  void (*gemm)(pdrop_block_type type, const void *input, int input_rows, int rows, const void *groups, size_t inputs,
               size_t outputs, float *y, size_t stride, bool add);
} pdrop_block_kernels;

extern const pdrop_block_kernels pdrop_block_kernels_portable;
#if defined(__x86_64__)
extern const pdrop_block_kernels pdrop_block_kernels_avx2;
extern const pdrop_block_kernels pdrop_block_kernels_avx512;
extern const pdrop_block_kernels pdrop_block_kernels_avx512_vnni;

/// `pdrop_gemm_blocks` in AMX tiles.
void pdrop_gemm_block_tiles(pdrop_block_type type, const void *input, int rows, const void *groups, size_t inputs,
                            size_t outputs, float *y, size_t stride, bool add, void *scratch);

/// The size in bytes of its `scratch`.
size_t pdrop_block_tiles_scratch_bytes(int rows, size_t outputs);
#endif
