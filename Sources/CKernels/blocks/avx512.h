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

/// Transposes 16 by 16 words: within pairs and quadruples of rows first, then quarters of vectors.
INLINE void store_rows(const vec_u32 *words, uint8_t *to, size_t stride, int count) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_epi32((__m512i)words[i], (__m512i)words[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi32((__m512i)words[i], (__m512i)words[i + 1]);
  }
  // b[4 * i + r] holds words 4 * i to 4 * i + 3 of the rows r, r + 4, r + 8, r + 12.
  for (int i = 0; i < 16; i += 4) {
    b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]), b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]), b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
  for (int r = 0; r < 4; r++) {
    const __m512i low = _mm512_shuffle_i32x4(b[r], b[4 + r], 0x88),
                  high = _mm512_shuffle_i32x4(b[8 + r], b[12 + r], 0x88);
    const __m512i low_odd = _mm512_shuffle_i32x4(b[r], b[4 + r], 0xDD),
                  high_odd = _mm512_shuffle_i32x4(b[8 + r], b[12 + r], 0xDD);
    const __m512i rows[4] = {
        _mm512_shuffle_i32x4(low, high, 0x88),
        _mm512_shuffle_i32x4(low_odd, high_odd, 0x88),
        _mm512_shuffle_i32x4(low, high, 0xDD),
        _mm512_shuffle_i32x4(low_odd, high_odd, 0xDD),
    };
    for (int i = 0; i < 4; i++)
      if (r + 4 * i < count) _mm512_storeu_si512(to + (size_t)(r + 4 * i) * stride, rows[i]);
  }
}
