// bf16 operands of both matmuls, packed as pairs in 32-bit words; one instruction adds two products to each sum.
#include "pairs_bf16.h"

/// The number of 32-bit words in a row of elements.
INLINE size_t words(size_t elements) { return (elements + 1) / 2; }

/// Adds the two bf16 products of each word to the sum of its lane.
INLINE vec_f32 multiply_add(vec_f32 left, vec_f32 right, vec_f32 sum) {
  return (vec_f32)_mm512_dpbf16_ps((__m512)sum, (__m512bh)left, (__m512bh)right);
}

/// The columns of values and results, in whole tiles.
INLINE size_t result_columns(size_t dimension) { return padded(dimension); }

/// Packs keys in tiles of TILE_ROWS keys, [words, TILE_ROWS] each.
INLINE void pack_keys(float *to, const pdrop_attention_block *b, const pdrop_kv_type type, size_t first, size_t keys) {
  const size_t count = words(b->dimension);
  for (size_t key = 0; key < keys; key += TILE_ROWS, to += TILE_ROWS * count) {
    prefetch(b, b->keys, type, first + key + TILE_ROWS, first + min_of(key + 2 * TILE_ROWS, keys));
    for (size_t i = 0; i < b->dimension; i += LANES) {
      // Rows of half a vector; those after the last key are not read.
      float rows[TILE_ROWS][LANES / 2];
      for (size_t r = 0; r < TILE_ROWS && key + r < keys; r++) {
        const __m256i row = load_as_bf16(b->keys, (first + key + r) * b->key_stride + i, type, b->dimension - i);
        _mm256_storeu_si256((__m256i *)rows[r], row);
      }
      transpose(to + i / 2 * TILE_ROWS, TILE_ROWS, rows[0], LANES / 2, TILE_ROWS, min_of(count - i / 2, LANES / 2));
    }
  }
}

/// Packs values, [words(keys), padded(dimension)]: those of neighbouring keys in pairs; an odd last key is paired with
/// zero.
INLINE void pack_values(float *to, const pdrop_attention_block *b, const pdrop_kv_type type, size_t first,
                        size_t keys) {
  for (size_t key = 0; key < keys; key += 2, to += padded(b->dimension)) {
    prefetch(b, b->values, type, first + key + PREFETCH_DISTANCE, first + min_of(key + PREFETCH_DISTANCE + 2, keys));
    for (size_t i = 0; i < b->dimension; i += LANES) {
      const size_t start = (first + key) * b->key_stride + i, count = b->dimension - i;
      vec_u32 pairs = extend_u16((vec_u16)load_as_bf16(b->values, start, type, count));
      if (key + 1 < keys)
        pairs |= extend_u16((vec_u16)load_as_bf16(b->values, start + b->key_stride, type, count)) << 16;
      store_f32(to + i, (vec_f32)pairs);
    }
  }
}

/// Stores queries, [rows, dimension], as the columns of a panel, in pairs.
INLINE void transpose_queries(float *panel, float *buffer, const float *queries, size_t stride, size_t rows,
                              size_t dimension) {
  const size_t count = padded(dimension) / 2;
  for (size_t row = 0; row < rows; row++)
    for (size_t i = 0; i < dimension; i += LANES)
      _mm256_storeu_si256((__m256i *)(buffer + row * count + i / 2),
                          load_as_bf16(queries, row * stride + i, pdrop_kv_f32, dimension - i));
  transpose(panel, PANEL, buffer, count, rows, words(dimension));
}
