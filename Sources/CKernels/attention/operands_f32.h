// f32 operands of both matmuls.

/// The number of 32-bit words in a row of elements.
INLINE size_t words(size_t elements) { return elements; }

INLINE vec_f32 multiply_add(vec_f32 left, vec_f32 right, vec_f32 sum) { return left * right + sum; }

/// Copies rows of keys or values into a contiguous buffer, [rows, dimension]; bf16 is widened.
INLINE void gather(float *to, const pdrop_attention_block *b, const void *from, size_t first, size_t rows) {
  for (size_t row = 0; row < rows; row++, to += b->dimension) {
    size_t start = (first + row) * b->key_stride, i = 0;
    const uint16_t *bf16 = (const uint16_t *)from + start;
    const float *f32 = (const float *)from + start;
    if (b->keys_are_bf16) {
      for (; i + LANES <= b->dimension; i += LANES) store_f32(to + i, load_bf16(bf16 + i));
      for (; i < b->dimension; i++) to[i] = widen_bf16(bf16[i]);
    } else {
      for (; i + LANES <= b->dimension; i += LANES) store_f32(to + i, load_f32(f32 + i));
      for (; i < b->dimension; i++) to[i] = f32[i];
    }
  }
}

/// Copies rows of keys into a contiguous buffer, [keys, dimension].
INLINE void gather_keys(float *to, const pdrop_attention_block *b, size_t first, size_t keys) {
  gather(to, b, b->keys, first, keys);
}

/// Copies rows of values into a contiguous buffer, [keys, dimension].
INLINE void gather_values(float *to, const pdrop_attention_block *b, size_t first, size_t keys) {
  gather(to, b, b->values, first, keys);
}

/// Stores the queries as the columns of a panel.
INLINE void transpose_queries(float *panel, float *unused, const pdrop_attention_block *b) {
  (void)unused;
  transpose(panel, PANEL, b->queries, b->query_stride, b->rows, b->dimension);
}

/// Converts probabilities to matmul operands in place; f32 needs no conversion.
INLINE void pack_probabilities(float *probabilities, size_t keys, size_t columns) {
  (void)probabilities, (void)keys, (void)columns;
}
