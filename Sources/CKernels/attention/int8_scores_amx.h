// Scores of int8 queries and keys in AMX tiles, whose rows have 16 words of four elements.

/// The number of 32-bit words in a row of int8 elements, in whole tiles.
INLINE size_t int8_words(size_t elements) { return (elements + 4 * TILE_WORDS - 1) / (4 * TILE_WORDS) * TILE_WORDS; }

/// Packs the keys of a block as rows, [keys, int8_words].
INLINE void pack_int8_keys(const key_block *block, const pdrop_attention_block *b, const pdrop_kv_type type) {
  const size_t count = int8_words(b->dimension);
  for (size_t key = 0; key < block->count; key++) {
    prefetch(b, b->keys, type, block->first + key + PREFETCH_DISTANCE,
             block->first + min_of(key + PREFETCH_DISTANCE + 1, block->count));
    block->key_scales[key] =
        store_int8_row((int8_t *)(block->keys + key * count), count, b, type, block->first + key, block->values);
  }
}

/// The scores of the keys of a block, [key, query]. Whole tiles: what follows the last key gives scores that are not
/// read.
INLINE void score_int8_keys(float *scores, const query_panel *panel, const key_block *block, size_t keys,
                            size_t dimension, const int vectors) {
  const size_t depth = int8_words(dimension);
  for (size_t key = 0; key < keys; key += TILE_ROWS) {
    float *const to = scores + key * PANEL;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    multiply_tiles(block->keys + key * depth, depth, panel->queries, depth, vectors, true);
    store_tiles(to, vectors);
    for (size_t i = 0; i < TILE_ROWS; i++)
      for (int v = 0; v < vectors; v++) {
        float *const at = to + i * PANEL + v * LANES;
        store_f32(at, (vec_f32)_mm512_cvtepi32_ps((__m512i)load_f32(at)) * block->key_scales[key + i]);
      }
  }
}
