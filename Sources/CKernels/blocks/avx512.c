// Block kernels with the F, BW, DQ and VL subsets of AVX-512.

#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels.h"
#include "layout.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,evex512"))), apply_to = function)

#define HIGH_IN_PLACE 0
#define SIGNED_BYTES 1

#include "avx512.h"

INLINE vec_i32 dot_pairs(vec_i32 s, vec_i32 w, int32_t pair) {
  return s + (vec_i32)_mm512_madd_epi16((__m512i)w, _mm512_set1_epi32(pair));
}

/// Products of bytes are added in 16 bits: as many as cannot overflow.
INLINE void dots(vec_i32 *s, const int rows, const vec_u32 *u, const int tiles, const int8_t *x, const int bits) {
  const __m512i one = _mm512_set1_epi16(1);
  // Two products of codes and values are at most 254 times the largest code.
  const int chain = bits == 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
  for (int r = 0; r < rows; r++, x += sizeof(input_row))
    for (int v = 0; v < tiles; v += chain) {
      __m512i sum;
      if (bits == 8) {
        // 127 times a magnitude of 128, twice, fits into 16 bits.
        const __m512i code = _mm512_xor_si512((__m512i)u[v], _mm512_set1_epi8(-128)), value = values_at(x + 4 * v);
        const __m512i with_sign = _mm512_mask_sub_epi8(value, _mm512_movepi8_mask(code), _mm512_setzero_si512(), value);
        sum = _mm512_maddubs_epi16(_mm512_abs_epi8(code), with_sign);
      } else {
        sum = _mm512_maddubs_epi16((__m512i)u[v], values_at(x + 4 * v));
        for (int i = 1; i < chain; i++)
          sum = _mm512_add_epi16(sum, _mm512_maddubs_epi16((__m512i)u[v + i], values_at(x + 4 * (v + i))));
      }
      s[r] += (vec_i32)_mm512_madd_epi16(sum, one);
    }
}

#include "gemm.h"
#include "input.h"

#pragma clang attribute pop

const pdrop_block_kernels pdrop_block_kernels_avx512 = {quantize_input, gemm};

#endif
