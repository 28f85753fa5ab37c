// Scores of int8 queries and keys, with a scale for each row; their products are exact. INT8_SCORES has the matmul.

/// Copies a row of keys as int8, or rounds it to int8, with zeros up to the end of its last word.
///
/// - buffer: `count` floats.
/// - Returns: The scale of the row; for an int8 cache, that of the cache.
INLINE float store_int8_row(int8_t *to, size_t words, const pdrop_attention_block *b, const pdrop_kv_type type,
                            size_t key, float *buffer) {
  const size_t index = key * b->key_stride, count = b->dimension;
  for (size_t i = count; i < 4 * words; i++) to[i] = 0;
  if (type == pdrop_kv_int8) {
    __builtin_memcpy(to, (const int8_t *)b->keys + index, count);
    return b->key_scales[key];
  }
  for (size_t i = 0; i < count; i += LANES) store_f32(buffer + i, load_elements(b->keys, index + i, type, count - i));
  int32_t sum;
  return pdrop_quantize_s8(buffer, count, to, &sum);
}

#include INT8_SCORES

/// Stores queries, [rows, dimension], as the int8 columns of a panel, with their factors and sums.
INLINE void transpose_int8_queries(const query_panel *panel, float *buffer, const float *queries, size_t stride,
                                   size_t dimension) {
  const size_t count = int8_words(dimension);
  for (size_t row = 0; row < panel->rows; row++) {
    int8_t *const to = (int8_t *)(buffer + row * count);
    for (size_t i = dimension; i < 4 * count; i++) to[i] = 0;
    const float scale = pdrop_quantize_s8(queries + row * stride, dimension, to, panel->integer_sums + row);
    // With a factor of zero, masked scores, -infinity, would become NaN.
    if (scale != 0) panel->factors[row] *= scale;
  }
  transpose(panel->queries, PANEL, buffer, count, panel->rows, count);
}
