// Block kernels with AVX-512 and VNNI.

#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels.h"
#include "layout.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,evex512"))), \
                             apply_to = function)

#define HIGH_IN_PLACE 1
#define SIGNED_BYTES 0

#include "avx512.h"

INLINE vec_i32 dot_pairs(vec_i32 s, vec_i32 w, int32_t pair) {
  return (vec_i32)_mm512_dpwssd_epi32((__m512i)s, (__m512i)w, _mm512_set1_epi32(pair));
}

INLINE void dots(vec_i32 *s, const int rows, const vec_u32 *u, const int tiles, const int8_t *x, const int bits) {
  (void)bits;
  for (int v = 0; v < tiles; v++)
    for (int r = 0; r < rows; r++)
      s[r] = (vec_i32)_mm512_dpbusd_epi32((__m512i)s[r], (__m512i)u[v], values_at(x + r * sizeof(input_row) + 4 * v));
}

#include "gemm.h"
#include "input.h"

#pragma clang attribute pop

const pdrop_block_kernels pdrop_block_kernels_avx512_vnni = {quantize_input, gemm};

#endif
