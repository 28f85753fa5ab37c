// f32 operands of both matmuls.

/// The number of 32-bit words in a row of elements.
INLINE size_t words(size_t elements) { return elements; }

INLINE vec_f32 multiply_add(vec_f32 left, vec_f32 right, vec_f32 sum) { return left * right + sum; }

/// The columns of values and results, in whole tiles.
INLINE size_t result_columns(size_t dimension) { return padded(dimension); }

/// Packs keys in tiles of TILE_ROWS keys, [words, TILE_ROWS] each.
INLINE void pack_keys(float *to, const pdrop_attention_block *b, const pdrop_kv_type type, size_t first, size_t keys) {
  for (size_t key = 0; key < keys; key++) {
    float *const tile = to + key / TILE_ROWS * TILE_ROWS * b->dimension + key % TILE_ROWS;
    for (size_t i = 0; i < b->dimension; i += LANES) {
      const size_t rest = b->dimension - i, count = rest < LANES ? rest : LANES;
      const vec_f32 x = load_elements(b->keys, (first + key) * b->key_stride + i, type, count);
      for (size_t l = 0; l < count; l++) tile[(i + l) * TILE_ROWS] = x[l];
    }
  }
}

/// Copies values, [keys, padded(dimension)], as f32.
INLINE void pack_values(float *to, const pdrop_attention_block *b, const pdrop_kv_type type, size_t first,
                        size_t keys) {
  for (size_t key = 0; key < keys; key++, to += padded(b->dimension))
    for (size_t i = 0; i < b->dimension; i += LANES)
      store_f32(to + i, load_elements(b->values, (first + key) * b->key_stride + i, type, b->dimension - i));
}

/// Stores queries, [rows, dimension], as the columns of a panel.
INLINE void transpose_queries(float *panel, float *unused, const float *queries, size_t stride, size_t rows,
                              size_t dimension) {
  (void)unused;
  transpose(panel, PANEL, queries, stride, rows, dimension);
}

/// Stores the probabilities of keys `key` and `key + 1` in a column of a panel, in place of scores.
INLINE void store_probabilities(float *column, size_t key, const vec_f32 *pair) {
  for (size_t i = 0; i < 2; i++) store_f32(column + (key + i) * PANEL, pair[i]);
}
