// Scores of int8 queries and keys with VNNI, which multiplies unsigned by signed bytes, four to a word: keys are stored
// with 128 added, and 128 times the sum of a query is subtracted.

/// The number of 32-bit words in a row of int8 elements.
INLINE size_t int8_words(size_t elements) { return (elements + 3) / 4; }

/// Packs the keys of a block in tiles of TILE_ROWS keys, [int8_words, TILE_ROWS] each.
INLINE void pack_int8_keys(const key_block *block, const pdrop_attention_block *b, const pdrop_kv_type type) {
  const size_t count = int8_words(b->dimension);
  float *const buffer = block->values, *const rows = buffer + padded(b->dimension);
  float *to = block->keys;
  for (size_t key = 0; key < block->count; key += TILE_ROWS, to += TILE_ROWS * count) {
    const size_t first = block->first + key;
    prefetch(b, b->keys, type, first + TILE_ROWS, block->first + min_of(key + 2 * TILE_ROWS, block->count));
    for (size_t r = 0; r < TILE_ROWS && key + r < block->count; r++)
      block->key_scales[key + r] = store_int8_row((int8_t *)(rows + r * count), count, b, type, first + r, buffer);
    uint8_t *const bytes = (uint8_t *)rows;
    for (size_t i = 0; i < 4 * count * TILE_ROWS; i++) bytes[i] ^= 0x80;
    transpose(to, TILE_ROWS, rows, count, TILE_ROWS, count);
  }
}

/// The scores of the keys of a block, [key, query]. Whole tiles: what follows the last key gives scores that are not
/// read.
INLINE void score_int8_keys(float *scores, const query_panel *panel, const key_block *block, size_t keys,
                            size_t dimension, const int vectors) {
  const size_t depth = int8_words(dimension);
  for (size_t key = 0; key < keys; key += TILE_ROWS) {
    const float *const left = block->keys + key * depth;
    __m512i sums[TILE_ROWS][TILE_VECTORS];
    for (int v = 0; v < vectors; v++) {
      const __m512i sum = _mm512_loadu_si512(panel->integer_sums + v * LANES);
      for (int i = 0; i < TILE_ROWS; i++)
        sums[i][v] = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sum, 7));
    }
    for (size_t k = 0; k < depth; k++) {
      __m512i right[TILE_VECTORS];
      for (int v = 0; v < vectors; v++) right[v] = _mm512_loadu_si512(panel->queries + k * PANEL + v * LANES);
      for (int i = 0; i < TILE_ROWS; i++) {
        const __m512i bytes = _mm512_set1_epi32(*(const int32_t *)(left + k * TILE_ROWS + i));
        for (int v = 0; v < vectors; v++) sums[i][v] = _mm512_dpbusd_epi32(sums[i][v], bytes, right[v]);
      }
    }
    for (int i = 0; i < TILE_ROWS; i++)
      for (int v = 0; v < vectors; v++)
        store_f32(scores + (key + i) * PANEL + v * LANES,
                  (vec_f32)_mm512_cvtepi32_ps(sums[i][v]) * block->key_scales[key + i]);
  }
}
