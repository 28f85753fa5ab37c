// Dispatch to the kernels of an instruction set.

#include "blocks.h"

#include "kernels.h"
#include "layout.h"

static const pdrop_block_kernels *kernels(pdrop_isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case pdrop_isa_avx2: return &pdrop_block_kernels_avx2;
    case pdrop_isa_avx512: return &pdrop_block_kernels_avx512;
    case pdrop_isa_avx512_vnni:
    case pdrop_isa_avx512_bf16:
    case pdrop_isa_avx512_amx: return &pdrop_block_kernels_avx512_vnni;
#endif
    default: return &pdrop_block_kernels_portable;
  }
}

size_t pdrop_block_input_bytes(int rows, size_t inputs) {
  return (inputs + SPAN - 1) / SPAN * (size_t)rows * sizeof(input_row);
}

void pdrop_quantize_block_input(pdrop_isa isa, pdrop_block_type type, const float *x, size_t stride, int rows,
                                size_t inputs, void *input, int input_rows) {
  kernels(isa)->quantize_input(type, x, stride, rows, inputs, input, input_rows);
}

size_t pdrop_block_scratch_bytes(pdrop_isa isa, int rows, size_t outputs) {
#if defined(__x86_64__)
  if (isa == pdrop_isa_avx512_amx) return pdrop_block_tiles_scratch_bytes(rows, outputs);
#endif
  (void)isa, (void)rows, (void)outputs;
  return 0;
}

void pdrop_gemm_blocks(pdrop_isa isa, pdrop_block_type type, const void *input, int rows, const void *groups,
                       size_t inputs, size_t outputs, float *y, size_t stride, bool add, void *scratch) {
#if defined(__x86_64__)
  if (isa == pdrop_isa_avx512_amx) {
    pdrop_gemm_block_tiles(type, input, rows, groups, inputs, outputs, y, stride, add, scratch);
    return;
  }
#endif
  (void)scratch;
  for (int first = 0; first < rows; first += PDROP_MAX_SMALL_ROWS) {
    const int count = rows - first < PDROP_MAX_SMALL_ROWS ? rows - first : PDROP_MAX_SMALL_ROWS;
    kernels(isa)->gemm(type, (const input_row *)input + first, rows, count, groups, inputs, outputs,
                       y + (size_t)first * stride, stride, add);
  }
}
