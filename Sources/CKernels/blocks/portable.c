// Block kernels for any processor, in 16-byte vectors.

#include "kernels.h"
#include "layout.h"

#define LANES 4
#define ROW_TILE 2
#define HIGH_IN_PLACE 1
#define SIGNED_BYTES 0

#include "../simd.h"

#pragma STDC FP_CONTRACT OFF

INLINE vec_f32 load_f16(const void *p) {
  vec_f32 x;
  for (int l = 0; l < LANES; l++) x[l] = load_scale((const char *)p + 2 * l);
  return x;
}

INLINE vec_f32 multiply_add(vec_f32 a, vec_f32 b, vec_f32 c) { return a * b + c; }

INLINE vec_i32 dot_pairs(vec_i32 s, vec_i32 w, int32_t pair) {
  return s + (w & 0xFFFF) * (int16_t)(pair & 0xFFFF) + (w >> 16) * (pair >> 16);
}

INLINE void dots(vec_i32 *s, const int rows, const vec_u32 *u, const int tiles, const int8_t *x, const int bits) {
  (void)bits;
  for (int v = 0; v < tiles; v++)
    for (int c = 0; c < 4; c++) {
      const vec_i32 code = (vec_i32)(u[v] >> 8 * c & 255);
      for (int r = 0; r < rows; r++) s[r] += code * (int32_t)x[(size_t)r * sizeof(input_row) + 4 * v + c];
    }
}

#include "gemm.h"
#include "input.h"

const pdrop_block_kernels pdrop_block_kernels_portable = {quantize_input, gemm};
