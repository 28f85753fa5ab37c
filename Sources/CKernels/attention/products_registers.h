// The two matmuls in vector registers, a tile of accumulators at a time.

INLINE void begin_products(void) {}
INLINE void end_products(void) {}

/// One register tile of `c = aᵀ · b`, or `c = rescale · c + aᵀ · b` with `rescale`.
///
/// - c: [TILE_ROWS, vectors · LANES], rows `c_stride` floats apart.
/// - a: Operands, [depth, TILE_ROWS], rows `a_stride` words apart.
/// - b: Operands, [depth, vectors · LANES], rows `b_stride` words apart.
/// - rescale: A factor of each row of `c`.
/// - row_scales: A factor of each row of the product; NULL for 1.
INLINE void tile(float *c, size_t c_stride, const float *a, size_t a_stride, const float *b, size_t b_stride,
                 size_t depth, const int vectors, const float *rescale, const float *row_scales) {
  vec_f32 sums[TILE_ROWS][TILE_VECTORS];
  for (int i = 0; i < TILE_ROWS; i++)
    for (int v = 0; v < vectors; v++)
      sums[i][v] = rescale ? load_f32(c + i * c_stride + v * LANES) * rescale[i] : splat(0);
  for (size_t k = 0; k < depth; k++) {
    vec_f32 right[TILE_VECTORS];
    for (int v = 0; v < vectors; v++) right[v] = load_f32(b + k * b_stride + v * LANES);
    for (int i = 0; i < TILE_ROWS; i++) {
      // Broadcast as integer bits: a pair of bf16 must not pass through float arithmetic.
      vec_f32 left = (vec_f32)((vec_u32){} + *(const uint32_t *)(a + k * a_stride + i));
      for (int v = 0; v < vectors; v++) sums[i][v] = multiply_add(left, right[v], sums[i][v]);
    }
  }
  for (int i = 0; i < TILE_ROWS; i++)
    for (int v = 0; v < vectors; v++)
      store_f32(c + i * c_stride + v * LANES, row_scales ? sums[i][v] * row_scales[i] : sums[i][v]);
}

/// The scores of the keys of a block, [key, query]. Whole tiles: what follows the last key gives scores that are not
/// read.
INLINE void score_keys(float *scores, const query_panel *panel, const key_block *block, size_t keys, size_t depth,
                       const int vectors, const bool is_scaled) {
  for (size_t key = 0; key < keys; key += TILE_ROWS)
    tile(scores + key * PANEL, PANEL, block->keys + key * depth, TILE_ROWS, panel->queries, PANEL, depth, vectors, NULL,
         is_scaled ? block->key_scales + key : NULL);
}

/// Adds the values of a block, weighted by probabilities, to the rescaled sums of a panel.
INLINE void add_values(const query_panel *panel, const key_block *block, float *probabilities, size_t keys,
                       size_t dimension, const int vectors, const float *rescale) {
  (void)vectors;
  const size_t columns = padded(dimension);
  for (size_t row = 0; row < panel->rows; row += TILE_ROWS) {
    float *const sums = panel->sums + row * columns;
    size_t i = 0;
    for (; i + PANEL <= columns; i += PANEL)
      tile(sums + i, columns, probabilities + row, PANEL, block->values + i, columns, words(keys), TILE_VECTORS,
           rescale + row, NULL);
    for (; i < columns; i += LANES)
      tile(sums + i, columns, probabilities + row, PANEL, block->values + i, columns, words(keys), 1, rescale + row,
           NULL);
  }
}

/// Writes the sums of a panel, divided by the totals, to rows `stride` floats apart.
INLINE void write_result(float *result, size_t stride, const query_panel *panel, size_t dimension) {
  const size_t columns = padded(dimension);
  for (size_t row = 0; row < panel->rows; row++) {
    const float inverse = 1 / panel->total[row];
    for (size_t i = 0; i < dimension; i++) result[row * stride + i] = panel->sums[row * columns + i] * inverse;
  }
}
