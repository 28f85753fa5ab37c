// bf16 operands of both matmuls, packed as pairs in 32-bit words; one instruction adds two products to each sum.
#include <immintrin.h>

/// The number of 32-bit words in a row of elements.
INLINE size_t words(size_t elements) { return (elements + 1) / 2; }

/// Adds the two bf16 products of each word to the sum of its lane.
INLINE vec_f32 multiply_add(vec_f32 left, vec_f32 right, vec_f32 sum) {
  return (vec_f32)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)right);
}

/// Rounds to bf16, in the lower half of each word.
INLINE vec_u32 round_to_bf16(vec_f32 x) { return extend_u16((vec_u16)_mm512_cvtneps_pbh((__m512)x)); }

/// Packs `a` into the lower halves of the words and `b` into the upper halves.
INLINE vec_f32 pair(vec_f32 a, vec_f32 b) { return (vec_f32)(round_to_bf16(a) | round_to_bf16(b) << 16); }

/// Loads at most LANES floats; the remaining lanes are zero.
INLINE vec_f32 load_partial(const float *from, size_t count) {
  return (vec_f32)_mm512_maskz_loadu_ps(count < LANES ? (1u << count) - 1 : 0xFFFF, from);
}

/// Rounds a row to bf16 and packs neighbours in pairs; the last pair is padded with zero.
INLINE void pack_row(float *to, const float *from, size_t count) {
  for (size_t i = 0; i < count; i += LANES) {
    size_t rest = count - i;
    __m256i packed = (__m256i)_mm512_cvtneps_pbh((__m512)load_partial(from + i, rest));
    _mm256_mask_storeu_epi32(to + i / 2, rest < LANES ? (1u << words(rest)) - 1 : 0xFF, packed);
  }
}

/// Packs rows of keys into a contiguous buffer, [keys, words]; f32 is rounded to bf16.
INLINE void gather_keys(float *to, const pdrop_attention_block *b, size_t first, size_t keys) {
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

/// Packs the values of neighbouring keys in pairs, element by element; an odd last key is paired with zero.
INLINE void gather_values(float *to, const pdrop_attention_block *b, size_t first, size_t keys) {
  for (size_t key = 0; key < keys; key += 2, to += b->dimension) {
    size_t start = (first + key) * b->key_stride;
    size_t next = key + 1 < keys ? start + b->key_stride : start;
    uint32_t second = key + 1 < keys ? 0xFFFFFFFF : 0;
    for (size_t i = 0; i < b->dimension; i += LANES) {
      size_t rest = b->dimension - i;
      __mmask16 lanes = rest < LANES ? (1u << rest) - 1 : 0xFFFF;
      vec_u32 low, high;
      if (b->keys_are_bf16) {
        const uint16_t *bf16 = b->values;
        low = extend_u16((vec_u16)_mm256_maskz_loadu_epi16(lanes, bf16 + start + i));
        high = extend_u16((vec_u16)_mm256_maskz_loadu_epi16(lanes, bf16 + next + i));
      } else {
        const float *f32 = b->values;
        low = round_to_bf16(load_partial(f32 + start + i, rest));
        high = round_to_bf16(load_partial(f32 + next + i, rest));
      }
      _mm512_mask_storeu_ps(to + i, lanes, (__m512)(low | (high & second) << 16));
    }
  }
}

/// Stores the packed queries as the columns of a panel.
INLINE void transpose_queries(float *panel, float *rows, const pdrop_attention_block *b) {
  size_t count = words(b->dimension);
  for (size_t row = 0; row < b->rows; row++)
    pack_row(rows + row * count, b->queries + row * b->query_stride, b->dimension);
  transpose(panel, PANEL, rows, count, b->rows, count);
}

/// Packs the probabilities of neighbouring keys in pairs, in place; an odd last key is paired with zero.
INLINE void pack_probabilities(float *probabilities, size_t keys, size_t columns) {
  for (size_t key = 0; key < keys; key += 2)
    for (size_t column = 0; column < columns; column += LANES) {
      vec_f32 first = load_f32(probabilities + key * PANEL + column);
      vec_f32 second = key + 1 < keys ? load_f32(probabilities + (key + 1) * PANEL + column) : splat(0);
      store_f32(probabilities + key / 2 * PANEL + column, pair(first, second));
    }
}
