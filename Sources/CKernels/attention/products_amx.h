// The two matmuls in AMX tiles. Sums are transposed, [result_columns(dimension), PANEL], so that probabilities are the right
// operand as they are stored.

#include "../tiles.h"

INLINE void begin_products(void) {
  const tile_configuration configuration = whole_tiles();
  _tile_loadconfig(&configuration);
}

INLINE void end_products(void) { _tile_release(); }

/// Adds to tile SUMS the product of two tiles of int8 or of bf16.
#define MULTIPLY_TILE(SUMS, LEFT, RIGHT) is_int8 ? _tile_dpbssd(SUMS, LEFT, RIGHT) : _tile_dpbf16ps(SUMS, LEFT, RIGHT)

/// Adds to tiles 0 to 3, [32, PANEL], the product of `left`, [32, depth], and `right`, [depth, PANEL], in words.
INLINE void multiply_tiles(const float *left, size_t left_stride, const float *right, size_t depth, const int vectors,
                           const bool is_int8) {
  for (size_t k = 0; k < depth; k += TILE_WORDS) {
    _tile_loadd(4, left + k, left_stride * sizeof(float));
    _tile_loadd(5, left + 16 * left_stride + k, left_stride * sizeof(float));
    _tile_loadd(6, right + k * PANEL, PANEL * sizeof(float));
    MULTIPLY_TILE(0, 4, 6);
    MULTIPLY_TILE(2, 5, 6);
    if (vectors == 1) continue;
    _tile_loadd(7, right + k * PANEL + LANES, PANEL * sizeof(float));
    MULTIPLY_TILE(1, 4, 7);
    MULTIPLY_TILE(3, 5, 7);
  }
}

INLINE void store_tiles(float *to, const int vectors) {
  _tile_stored(0, to, PANEL * sizeof(float));
  _tile_stored(2, to + 16 * PANEL, PANEL * sizeof(float));
  if (vectors == 1) return;
  _tile_stored(1, to + LANES, PANEL * sizeof(float));
  _tile_stored(3, to + 16 * PANEL + LANES, PANEL * sizeof(float));
}

/// The scores of the keys of a block, [key, query]. Whole tiles: what follows the last key gives scores that are not
/// read.
INLINE void score_keys(float *scores, const query_panel *panel, const key_block *block, size_t keys, size_t depth,
                       const int vectors, const bool is_scaled) {
  for (size_t key = 0; key < keys; key += TILE_ROWS) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    multiply_tiles(block->keys + key * depth, depth, panel->queries, depth, vectors, false);
    store_tiles(scores + key * PANEL, vectors);
  }
  if (!is_scaled) return;
  for (size_t key = 0; key < keys; key++)
    for (int v = 0; v < vectors; v++) {
      float *const at = scores + key * PANEL + v * LANES;
      store_f32(at, load_f32(at) * block->key_scales[key]);
    }
}

/// Whether a factor of a panel is not 1.
INLINE bool rescales(const float *rescale, const int vectors) {
  for (int row = 0; row < vectors * LANES; row++)
    if (rescale[row] != 1) return true;
  return false;
}

/// Adds the values of a block, weighted by probabilities, to the rescaled sums of a panel.
INLINE void add_values(const query_panel *panel, const key_block *block, float *probabilities, size_t keys,
                       size_t dimension, const int vectors, const float *rescale) {
  const size_t depth = words(keys), stride = words(KEY_BLOCK);
  for (size_t k = (keys + 1) / 2; k < depth; k++)
    for (int v = 0; v < vectors; v++) store_f32(probabilities + k * PANEL + v * LANES, splat(0));
  const bool is_rescaled = rescales(rescale, vectors);
  for (size_t i = 0; i < dimension; i += TILE_ROWS) {
    float *const sums = panel->sums + i * PANEL;
    if (is_rescaled)
      for (int row = 0; row < TILE_ROWS; row++)
        for (int v = 0; v < vectors; v++) {
          float *const at = sums + row * PANEL + v * LANES;
          store_f32(at, load_f32(at) * load_f32(rescale + v * LANES));
        }
    _tile_loadd(0, sums, PANEL * sizeof(float));
    _tile_loadd(1, sums + LANES, PANEL * sizeof(float));
    _tile_loadd(2, sums + 16 * PANEL, PANEL * sizeof(float));
    _tile_loadd(3, sums + 16 * PANEL + LANES, PANEL * sizeof(float));
    multiply_tiles(block->values + i * stride, stride, probabilities, depth, vectors, false);
    store_tiles(sums, vectors);
  }
}

/// Writes the sums of a panel, divided by the totals, to rows `stride` floats apart.
INLINE void write_result(float *result, size_t stride, const query_panel *panel, size_t dimension) {
  for (size_t i = 0; i < dimension; i++)
    for (size_t v = 0; v < PANEL; v += LANES) {
      float *const at = panel->sums + i * PANEL + v;
      store_f32(at, load_f32(at) * (1 / load_f32(panel->total + v)));
    }
  transpose(result, stride, panel->sums, PANEL, dimension, panel->rows);
}
