// The factors of both products as floats.

/// How many 32-bit words a row of numbers takes.
INLINE size_t words(size_t numbers) { return numbers; }

INLINE vec multiply_add(vec left, vec right, vec sum) { return left * right + sum; }

/// Keys or values next to one another, widened if they are bfloat16.
INLINE void gather(float *to, const attention_block *b, const void *from, size_t first, size_t rows) {
  for (size_t row = 0; row < rows; row++, to += b->dimension) {
    size_t start = (first + row) * b->key_stride, i = 0;
    const uint16_t *half = (const uint16_t *)from + start;
    const float *full = (const float *)from + start;
    if (b->keys_are_bf16) {
      for (; i + LANES <= b->dimension; i += LANES) store(to + i, widen(*(const halves *)(half + i)));
      for (; i < b->dimension; i++) to[i] = widen_one(half[i]);
    } else {
      for (; i + LANES <= b->dimension; i += LANES) store(to + i, load(full + i));
      for (; i < b->dimension; i++) to[i] = full[i];
    }
  }
}

INLINE void gather_keys(float *to, const attention_block *b, size_t first, size_t keys) {
  gather(to, b, b->keys, first, keys);
}

INLINE void gather_values(float *to, const attention_block *b, size_t first, size_t keys) {
  gather(to, b, b->values, first, keys);
}

/// Queries as the columns of a panel.
INLINE void turn_queries(float *panel, float *unused, const attention_block *b) {
  (void)unused;
  turn(panel, PANEL, b->queries, b->query_stride, b->rows, b->dimension);
}

/// Powers as factors.
INLINE void pack_powers(float *powers, size_t keys, size_t columns) { (void)powers, (void)keys, (void)columns; }
