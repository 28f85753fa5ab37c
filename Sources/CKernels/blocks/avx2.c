// Block kernels with AVX2, FMA and F16C.

#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels.h"
#include "layout.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#define LANES 8
#define ROW_TILE 4
#define HIGH_IN_PLACE 0
#define SIGNED_BYTES 1

#include "../simd.h"

INLINE vec_f32 load_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }

INLINE vec_f32 multiply_add(vec_f32 a, vec_f32 b, vec_f32 c) { return _mm256_fmadd_ps(a, b, c); }

INLINE vec_i32 dot_pairs(vec_i32 s, vec_i32 w, int32_t pair) {
  return s + (vec_i32)_mm256_madd_epi16((__m256i)w, _mm256_set1_epi32(pair));
}

INLINE __m256i values_at(const int8_t *x) {
  int32_t word;
  memcpy(&word, x, sizeof word);
  return _mm256_set1_epi32(word);
}

/// Products of bytes are added in 16 bits: as many as cannot overflow.
INLINE void dots(vec_i32 *s, const int rows, const vec_u32 *u, const int tiles, const int8_t *x, const int bits) {
  const __m256i one = _mm256_set1_epi16(1);
  // Two products of codes and values are at most 254 times the largest code.
  const int chain = bits == 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
  for (int r = 0; r < rows; r++, x += sizeof(input_row))
    for (int v = 0; v < tiles; v += chain) {
      __m256i sum;
      if (bits == 8) {
        // 127 times a magnitude of 128, twice, fits into 16 bits.
        const __m256i code = _mm256_xor_si256((__m256i)u[v], _mm256_set1_epi8(-128));
        sum = _mm256_maddubs_epi16(_mm256_abs_epi8(code), _mm256_sign_epi8(values_at(x + 4 * v), code));
      } else {
        sum = _mm256_maddubs_epi16((__m256i)u[v], values_at(x + 4 * v));
        for (int i = 1; i < chain; i++)
          sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16((__m256i)u[v + i], values_at(x + 4 * (v + i))));
      }
      s[r] += (vec_i32)_mm256_madd_epi16(sum, one);
    }
}

#include "gemm.h"
#include "input.h"

#pragma clang attribute pop

const pdrop_block_kernels pdrop_block_kernels_avx2 = {quantize_input, gemm};

#endif
