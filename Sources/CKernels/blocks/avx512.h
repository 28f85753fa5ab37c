// What the kernels with AVX-512 share.

#define LANES 16
#define ROW_TILE 8

#include "../simd.h"

INLINE vec_f32 load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }

INLINE vec_f32 multiply_add(vec_f32 a, vec_f32 b, vec_f32 c) { return _mm512_fmadd_ps(a, b, c); }

INLINE __m512i values_at(const int8_t *x) {
  int32_t word;
  memcpy(&word, x, sizeof word);
  return _mm512_set1_epi32(word);
}
