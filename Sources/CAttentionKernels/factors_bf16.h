// The factors of both products as pairs of bfloat16 in a word, for an instruction that adds two products to each sum.
#include <immintrin.h>

/// How many 32-bit words a row of numbers takes.
INLINE size_t words(size_t numbers) { return (numbers + 1) / 2; }

INLINE vec multiply_add(vec left, vec right, vec sum) {
  return (vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)right);
}

INLINE bits rounded(vec x) { return __builtin_convertvector((halves)_mm512_cvtneps_pbh((__m512)x), bits); }
/// The numbers of a in the lower halves of the words, those of b in the upper.
INLINE vec pair(vec a, vec b) { return (vec)(rounded(a) | rounded(b) << 16); }

/// Up to LANES floats, zeros behind them.
INLINE vec load_some(const float *from, size_t count) {
  return (vec)_mm512_maskz_loadu_ps(count < LANES ? (1u << count) - 1 : 0xFFFF, from);
}

/// The words of a row, pairs of neighbours, of which the last may lack its second.
INLINE void pack_row(float *to, const float *from, size_t count) {
  for (size_t i = 0; i < count; i += LANES) {
    size_t rest = count - i;
    __m256i packed = (__m256i)_mm512_cvtneps_pbh((__m512)load_some(from + i, rest));
    _mm256_mask_storeu_epi32(to + i / 2, rest < LANES ? (1u << words(rest)) - 1 : 0xFF, packed);
  }
}

INLINE void gather_keys(float *to, const attention_block *b, size_t first, size_t keys) {
  for (size_t key = 0; key < keys; key++, to += words(b->dimension)) {
    size_t start = (first + key) * b->key_stride;
    if (b->keys_are_bf16) {
      to[words(b->dimension) - 1] = 0;
      __builtin_memcpy(to, (const uint16_t *)b->keys + start, 2 * b->dimension);
    } else {
      pack_row(to, (const float *)b->keys + start, b->dimension);
    }
  }
}

/// Values of pairs of keys, number by number; the last key may lack its second.
INLINE void gather_values(float *to, const attention_block *b, size_t first, size_t keys) {
  for (size_t key = 0; key < keys; key += 2, to += b->dimension) {
    size_t start = (first + key) * b->key_stride;
    size_t next = key + 1 < keys ? start + b->key_stride : start;
    uint32_t second = key + 1 < keys ? 0xFFFFFFFF : 0;
    for (size_t i = 0; i < b->dimension; i += LANES) {
      size_t rest = b->dimension - i;
      __mmask16 some = rest < LANES ? (1u << rest) - 1 : 0xFFFF;
      bits low, high;
      if (b->keys_are_bf16) {
        const uint16_t *half = b->values;
        low = __builtin_convertvector((halves)_mm256_maskz_loadu_epi16(some, half + start + i), bits);
        high = __builtin_convertvector((halves)_mm256_maskz_loadu_epi16(some, half + next + i), bits);
      } else {
        const float *full = b->values;
        low = rounded(load_some(full + start + i, rest));
        high = rounded(load_some(full + next + i, rest));
      }
      _mm512_mask_storeu_ps(to + i, some, (__m512)(low | (high & second) << 16));
    }
  }
}

INLINE void turn_queries(float *panel, float *rows, const attention_block *b) {
  size_t count = words(b->dimension);
  for (size_t row = 0; row < b->rows; row++)
    pack_row(rows + row * count, b->queries + row * b->query_stride, b->dimension);
  turn(panel, PANEL, rows, count, b->rows, count);
}

INLINE void pack_powers(float *powers, size_t keys, size_t columns) {
  for (size_t key = 0; key < keys; key += 2)
    for (size_t column = 0; column < columns; column += LANES) {
      vec first = load(powers + key * PANEL + column);
      vec second = key + 1 < keys ? load(powers + (key + 1) * PANEL + column) : all(0);
      store(powers + key / 2 * PANEL + column, pair(first, second));
    }
}
