// bf16 values in 32-bit words, as pairs.
#include <immintrin.h>

/// Packs `a` into the lower halves of the words and `b` into the upper halves.
INLINE vec_f32 pair(vec_f32 a, vec_f32 b) {
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return (vec_f32)_mm512_permutexvar_epi16(order, halves);
}

/// Loads at most LANES elements of keys or values as bf16: f32 is rounded, int8 is exact; the remaining lanes are zero.
INLINE __m256i load_as_bf16(const void *rows, size_t index, const pdrop_kv_type type, size_t count) {
  if (type != pdrop_kv_bf16) return (__m256i)_mm512_cvtneps_pbh((__m512)load_elements(rows, index, type, count));
  const uint16_t *const from = (const uint16_t *)rows + index;
  return count < LANES ? _mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1), from)
                       : _mm256_loadu_si256((const __m256i *)from);
}

/// Stores the probabilities of keys `key` and `key + 1`, packed, in a column of a panel, in place of earlier scores.
INLINE void store_probabilities(float *column, size_t key, const vec_f32 *probabilities) {
  store_f32(column + key / 2 * PANEL, pair(probabilities[0], probabilities[1]));
}
