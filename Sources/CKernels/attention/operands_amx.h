// bf16 operands of both matmuls for AMX, whose tiles have 16 rows of 16 words, each a pair of values.
#include "pairs_bf16.h"

/// Words of a row of a tile.
#define TILE_WORDS 16

/// The number of 32-bit words in a row of elements, in whole tiles.
INLINE size_t words(size_t elements) { return (elements + 2 * TILE_WORDS - 1) / (2 * TILE_WORDS) * TILE_WORDS; }

/// The columns of values and results, in whole tiles.
INLINE size_t result_columns(size_t dimension) { return 2 * words(dimension); }

/// Stores at most two vectors of elements from element `i` on as one row of a tile; the rest is zero.
INLINE void store_tile_row(float *to, const void *rows, size_t index, const pdrop_kv_type type, size_t count) {
  const __m256i zero = _mm256_setzero_si256();
  _mm256_storeu_si256((__m256i *)to, load_as_bf16(rows, index, type, count));
  _mm256_storeu_si256((__m256i *)(to + LANES / 2),
                      count > LANES ? load_as_bf16(rows, index + LANES, type, count - LANES) : zero);
}

/// Packs keys as rows, [keys, words(dimension)].
INLINE void pack_keys(float *to, const pdrop_attention_block *b, const pdrop_kv_type type, size_t first, size_t keys) {
  for (size_t key = 0; key < keys; key++, to += words(b->dimension)) {
    prefetch(b, b->keys, type, first + key + PREFETCH_DISTANCE, first + min_of(key + PREFETCH_DISTANCE + 1, keys));
    for (size_t i = 0; i < b->dimension; i += 2 * LANES)
      store_tile_row(to + i / 2, b->keys, (first + key) * b->key_stride + i, type, b->dimension - i);
  }
}

/// Packs values as columns, [result_columns(dimension), words(KEY_BLOCK)]: a row has an element of all keys; the words after the
/// last key are zero up to a whole tile.
INLINE void pack_values(float *to, const pdrop_attention_block *b, const pdrop_kv_type type, size_t first,
                        size_t keys) {
  for (size_t key = 0; key < 2 * words(keys); key += 2 * TILE_WORDS) {
    prefetch(b, b->values, type, first + key + 2 * TILE_WORDS, first + min_of(key + 4 * TILE_WORDS, keys));
    for (size_t i = 0; i < b->dimension; i += LANES) {
      const size_t count = b->dimension - i;
      float pairs[TILE_WORDS * LANES];
      for (size_t pair = 0; pair < TILE_WORDS; pair++) {
        const size_t k = key + 2 * pair, start = (first + k) * b->key_stride + i;
        vec_u32 words = {};
        if (k < keys) words = extend_u16((vec_u16)load_as_bf16(b->values, start, type, count));
        if (k + 1 < keys)
          words |= extend_u16((vec_u16)load_as_bf16(b->values, start + b->key_stride, type, count)) << 16;
        store_f32(pairs + pair * LANES, (vec_f32)words);
      }
      transpose(to + i * words(KEY_BLOCK) + key / 2, words(KEY_BLOCK), pairs, LANES, TILE_WORDS, LANES);
    }
  }
}

/// Stores queries, [rows, dimension], as the columns of a panel, in pairs.
INLINE void transpose_queries(float *panel, float *buffer, const float *queries, size_t stride, size_t rows,
                              size_t dimension) {
  const size_t count = words(dimension);
  for (size_t row = 0; row < rows; row++)
    for (size_t i = 0; i < dimension; i += 2 * LANES)
      store_tile_row(buffer + row * count + i / 2, queries, row * stride + i, pdrop_kv_f32, dimension - i);
  transpose(panel, PANEL, buffer, count, rows, count);
}
