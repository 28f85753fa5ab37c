// The attention kernel, in plain C with vector extensions. Included once per instruction set, with
//   ATTENTION                  the name of the function to define
//   LANES                      floats per vector
//   TILE_ROWS, TILE_VECTORS    the size of a register tile of accumulators
//   OPERANDS                   the header that defines the operand format of the two matmuls
//   PRODUCTS                   the header that defines the two matmuls of a panel and a block of keys
//   INT8_SCORES                the header that defines the first one for int8; optional
//
// A panel holds queries of one head as columns. Scores are stored transposed, [key, query], so that softmax processes a
// whole vector of queries at a time. Both matmuls have the same form, aᵀ · b: keys times queries gives scores, which as
// probabilities times values give the result, [query, element]. Keys and values are packed a block at a time, once for all panels.
#include <stddef.h>

#include "../simd.h"
#include "convert.h"
#include "kernels.h"

/// Columns of a panel: as many as a register tile.
#define PANEL (TILE_VECTORS * LANES)

_Static_assert(PDROP_ATTENTION_PANEL % PANEL == 0 && KEY_BLOCK % TILE_ROWS == 0, "whole tiles");

INLINE size_t min_of(size_t a, size_t b) { return a < b ? a : b; }

/// Elements rounded up to whole vectors.
INLINE size_t padded(size_t elements) { return (elements + LANES - 1) / LANES * LANES; }

/// Loads at most LANES elements of keys or values, from element `index` on, as f32; the remaining lanes are zero.
INLINE vec_f32 load_elements(const void *rows, size_t index, const pdrop_kv_type type, size_t count) {
  typedef int8_t vec_s8 __attribute__((vector_size(LANES)));
  const uint16_t *bf16 = (const uint16_t *)rows + index;
  const float *f32 = (const float *)rows + index;
  const int8_t *int8 = (const int8_t *)rows + index;
  if (count < LANES) {
    float lanes[LANES] = {0};
    for (size_t l = 0; l < count; l++)
      lanes[l] = type == pdrop_kv_bf16 ? widen_bf16(bf16[l]) : type == pdrop_kv_f32 ? f32[l] : (float)int8[l];
    return load_f32(lanes);
  }
  if (type == pdrop_kv_bf16) return load_bf16(bf16);
  if (type == pdrop_kv_f32) return load_f32(f32);
  vec_s8 x;
  __builtin_memcpy(&x, int8, sizeof x);
  return __builtin_convertvector(x, vec_f32);
}

/// The number of keys between the current key and the prefetched one.
#define PREFETCH_DISTANCE 8

/// Prefetches rows of keys or values from `row` on; a large stride defeats the hardware prefetcher.
INLINE void prefetch(const pdrop_attention_block *b, const void *rows, const pdrop_kv_type type, size_t row,
                     size_t end) {
  const size_t size = type == pdrop_kv_f32 ? 4 : type == pdrop_kv_bf16 ? 2 : 1;
  for (size_t r = row; r < end; r++)
    for (size_t byte = 0; byte < b->dimension * size; byte += 64)
      __builtin_prefetch((const char *)rows + r * b->key_stride * size + byte);
}

#include OPERANDS

// MARK: - A panel of queries and a block of keys

/// Queries of one head and their online softmax: the maximum score so far, the sum of probabilities relative to it,
/// and the values weighted by them.
typedef struct {
  /// [words(dimension), PANEL], or as INT8_SCORES says.
  float *queries;
  /// The factor of the scores of each query, [PANEL].
  float *factors;
  /// The sum of the integers of each query, [PANEL]; for int8 scores only.
  int32_t *integer_sums;
  /// [PANEL, result_columns(dimension)], or as PRODUCTS says.
  float *sums;
  /// [PANEL] each.
  float *maximum, *total;
  /// Queries, and the offset of the first.
  size_t rows, offset;
  /// Keys that the first and the last query see, counted from key 0.
  size_t visible, last_visible;
} query_panel;

/// A block of keys and values, packed as operands.
typedef struct {
  /// Tiles of keys, [KEY_BLOCK / TILE_ROWS][words(dimension), TILE_ROWS], or as OPERANDS or INT8_SCORES says.
  float *keys;
  /// [words(KEY_BLOCK), result_columns(dimension)], or as OPERANDS says.
  float *values;
  /// Factors of keys, [KEY_BLOCK], and of values; for int8 caches, and of keys for int8 scores too.
  float *key_scales;
  const float *value_scales;
  size_t first, count;
} key_block;

#include PRODUCTS

// MARK: - Scores in int8

#ifdef INT8_SCORES
#define HAS_INT8_SCORES 1
#include "int8_scores.h"
#else
#define HAS_INT8_SCORES 0

INLINE void pack_int8_keys(const key_block *block, const pdrop_attention_block *b, const pdrop_kv_type type) {}
INLINE void score_int8_keys(float *scores, const query_panel *panel, const key_block *block, size_t keys,
                            size_t dimension, const int vectors) {}
INLINE void transpose_int8_queries(const query_panel *panel, float *buffer, const float *queries, size_t stride,
                                   size_t dimension) {}
#endif

// MARK: - Softmax

/// Sets the scores of keys that a query must not see to -infinity: each query sees one key more than the one before it.
INLINE void mask(float *scores, const query_panel *panel, const key_block *block, size_t keys, const int vectors) {
  vec_i32 row;
  for (int l = 0; l < LANES; l++) row[l] = l;
  for (size_t key = panel->visible > block->first ? panel->visible - block->first : 0; key < keys; key++) {
    const vec_i32 last_hidden = (int32_t)(block->first + key - panel->visible) + (vec_i32){};
    for (int v = 0; v < vectors; v++) {
      float *const at = scores + key * PANEL + v * LANES;
      store_f32(at, blend(row + v * LANES <= last_hidden, splat(-__builtin_inff()), load_f32(at)));
    }
  }
}

/// The largest score of each query, of `keys` rows, PANEL floats apart; four at a time, as each depends on the last.
INLINE vec_f32 largest_score(const float *column, size_t keys) {
  vec_f32 largest[4];
  for (size_t i = 0; i < 4; i++) largest[i] = load_f32(column + (i < keys ? i : 0) * PANEL);
  size_t key = 4;
  for (; key + 4 <= keys; key += 4)
    for (size_t i = 0; i < 4; i++) largest[i] = vmax(load_f32(column + (key + i) * PANEL), largest[i]);
  for (; key < keys; key++) largest[0] = vmax(load_f32(column + key * PANEL), largest[0]);
  return vmax(vmax(largest[0], largest[1]), vmax(largest[2], largest[3]));
}

/// Replaces scores by unnormalized probabilities, 2^(score · factor - maximum), packed as operands and multiplied by the
/// scales of the values.
///
/// - rescale: Receives the factors of the sums so far, [PANEL].
INLINE void online_softmax(float *scores, const query_panel *panel, const key_block *block, size_t keys,
                           const int vectors, const bool scales_values, float *rescale) {
  for (int v = 0; v < vectors; v++) {
    float *const column = scores + v * LANES;
    const vec_f32 factor = load_f32(panel->factors + v * LANES), previous = load_f32(panel->maximum + v * LANES);
    const vec_f32 maximum = vmax(largest_score(column, keys) * factor, previous);
    const vec_f32 decay = vexp2(previous - maximum);
    store_f32(rescale + v * LANES, decay);
    vec_f32 total = load_f32(panel->total + v * LANES) * decay;
    size_t key = 0;
    for (; key + 2 <= keys; key += 2) {
      vec_f32 pair[2];
      for (size_t i = 0; i < 2; i++) pair[i] = vexp2(load_f32(column + (key + i) * PANEL) * factor - maximum);
      total += pair[0] + pair[1];
      if (scales_values)
        for (size_t i = 0; i < 2; i++) pair[i] *= block->value_scales[key + i];
      store_probabilities(column, key, pair);
    }
    if (key < keys) {
      vec_f32 pair[2] = {vexp2(load_f32(column + key * PANEL) * factor - maximum), splat(0)};
      total += pair[0];
      if (scales_values) pair[0] *= block->value_scales[key];
      store_probabilities(column, key, pair);
    }
    store_f32(panel->maximum + v * LANES, maximum);
    store_f32(panel->total + v * LANES, total);
  }
}

/// Attention of a panel to the keys of a block.
INLINE void attend_block(const query_panel *panel, const key_block *block, float *scores, size_t dimension,
                         const int vectors, const bool has_int8_scores, const bool is_int8_cache) {
  const size_t left = panel->last_visible - block->first, keys = left < block->count ? left : block->count;
  if (has_int8_scores)
    score_int8_keys(scores, panel, block, keys, dimension, vectors);
  else
    score_keys(scores, panel, block, keys, words(dimension), vectors, is_int8_cache);
  if (block->first + keys > panel->visible) mask(scores, panel, block, keys, vectors);
  float rescale[PANEL];
  online_softmax(scores, panel, block, keys, vectors, is_int8_cache, rescale);
  add_values(panel, block, scores, keys, dimension, vectors, rescale);
}

/// The same for a panel of any number of rows.
INLINE void attend_block_of(const query_panel *panel, const key_block *block, float *scores, size_t dimension,
                            const bool has_int8_scores, const bool is_int8_cache) {
  if (panel->rows > LANES)
    attend_block(panel, block, scores, dimension, TILE_VECTORS, has_int8_scores, is_int8_cache);
  else
    attend_block(panel, block, scores, dimension, 1, has_int8_scores, is_int8_cache);
}

/// Packs the keys and values of a block, from `b` of a type.
INLINE void pack_block_of(const pdrop_kv_type type, const key_block *block, const pdrop_attention_block *b) {
  if (HAS_INT8_SCORES && b->has_int8_scores) {
    // The memory of the values serves as a buffer.
    pack_int8_keys(block, b, type);
  } else {
    pack_keys(block->keys, b, type, block->first, block->count);
    // A copy, as whole tiles read more scales than there are.
    if (type == pdrop_kv_int8)
      __builtin_memcpy(block->key_scales, b->key_scales + block->first, block->count * sizeof *block->key_scales);
  }
  pack_values(block->values, b, type, block->first, block->count);
}

static void pack_block(const key_block *block, const pdrop_attention_block *b) {
  switch (b->type) {
    case pdrop_kv_f32: return pack_block_of(pdrop_kv_f32, block, b);
    case pdrop_kv_bf16: return pack_block_of(pdrop_kv_bf16, block, b);
    case pdrop_kv_int8: return pack_block_of(pdrop_kv_int8, block, b);
  }
}

/// All queries of a block, in panels.
static void attend_panels(const pdrop_attention_block *b, float scale) {
  const size_t dimension = b->dimension, depth = words(dimension), columns = result_columns(dimension),
               panels_per_head = (b->rows + PANEL - 1) / PANEL, count = b->heads * panels_per_head;
  const bool has_int8_scores = HAS_INT8_SCORES && b->has_int8_scores, is_int8_cache = b->type == pdrop_kv_int8;
  float *memory = b->scratch;
  query_panel panels[PDROP_ATTENTION_ROWS / PANEL];
  float *const scores = memory, *const keys = scores + KEY_BLOCK * PANEL,
               *const values = keys + KEY_BLOCK * words(dimension);
  float key_scales[KEY_BLOCK];
  memory = values + words(KEY_BLOCK) * columns;
  begin_products();
  for (size_t p = 0; p < count; p++) {
    query_panel *const panel = panels + p;
    const size_t head = p / panels_per_head, row = p % panels_per_head * PANEL;
    panel->queries = memory, memory += depth * PANEL;
    panel->sums = memory, memory += columns * PANEL;
    panel->maximum = memory, panel->total = memory + PANEL, memory += 2 * PANEL;
    panel->factors = memory, panel->integer_sums = (int32_t *)(memory + PANEL), memory += 2 * PANEL;
    panel->rows = b->rows - row < PANEL ? b->rows - row : PANEL;
    panel->offset = row * b->query_stride + head * dimension;
    panel->visible = b->visible + (b->is_causal ? row : 0);
    panel->last_visible = panel->visible + (b->is_causal ? panel->rows - 1 : 0);
    for (size_t i = 0; i < depth * PANEL; i++) panel->queries[i] = 0;
    for (size_t i = 0; i < columns * PANEL; i++) panel->sums[i] = 0;
    for (size_t i = 0; i < PANEL; i++) {
      panel->maximum[i] = -__builtin_inff(), panel->total[i] = 0;
      panel->factors[i] = scale, panel->integer_sums[i] = 0;
    }
    // The memory of the keys serves as a buffer.
    if (has_int8_scores)
      transpose_int8_queries(panel, keys, b->queries + panel->offset, b->query_stride, dimension);
    else
      transpose_queries(panel->queries, keys, b->queries + panel->offset, b->query_stride, panel->rows, dimension);
  }

  const size_t visible = panels[count - 1].last_visible;
  for (size_t first = 0; first < visible; first += KEY_BLOCK) {
    const key_block block = {keys,       values,
                             key_scales, is_int8_cache ? b->value_scales + first : NULL,
                             first,      min_of(visible - first, KEY_BLOCK)};
    pack_block(&block, b);
    for (size_t p = 0; p < count; p++) {
      const query_panel *const panel = panels + p;
      if (panel->last_visible <= first) continue;
      if (has_int8_scores)
        is_int8_cache ? attend_block_of(panel, &block, scores, dimension, true, true)
                      : attend_block_of(panel, &block, scores, dimension, true, false);
      else
        is_int8_cache ? attend_block_of(panel, &block, scores, dimension, false, true)
                      : attend_block_of(panel, &block, scores, dimension, false, false);
    }
  }
  for (size_t p = 0; p < count; p++) {
    const query_panel *const panel = panels + p;
    write_result(b->result + panel->offset, b->query_stride, panel, dimension);
  }
  end_products();
}

// MARK: - A single query

/// The number of keys whose scores are computed together.
#define KEYS_PER_STEP 4

/// Dot products of a zero-padded query and `keys` keys, from key `first` on.
///
/// - full: The part of the dimension that fills whole vectors.
INLINE void score(float *scores, const float *query, const pdrop_attention_block *b, const pdrop_kv_type type,
                  size_t first, int keys, size_t full) {
  const void *rows = b->keys;
  size_t start = first * b->key_stride, stride = b->key_stride, rest = b->dimension - full;
  vec_f32 sums[KEYS_PER_STEP];
  for (int k = 0; k < keys; k++)
    sums[k] = rest ? load_f32(query + full) * load_elements(rows, start + k * stride + full, type, rest) : splat(0);
  for (size_t i = 0; i < full; i += LANES)
    for (int k = 0; k < keys; k++)
      sums[k] += load_f32(query + i) * load_elements(rows, start + k * stride + i, type, LANES);
  for (int k = 0; k < keys; k++)
    scores[k] = sum_of_lanes(sums[k]) * (type == pdrop_kv_int8 ? b->key_scales[first + (size_t)k] : 1);
}

/// `accumulators = accumulators · rescale + Σ probability · value` over `keys` keys, for `vectors` vectors of elements
/// from element `i` on.
INLINE void accumulate_values(float *accumulators, float rescale, const float *probabilities,
                              const pdrop_attention_block *b, const pdrop_kv_type type, size_t first, size_t keys,
                              size_t i, int vectors, size_t count) {
  vec_f32 sums[TILE_ROWS];
  for (int v = 0; v < vectors; v++) sums[v] = load_f32(accumulators + i + v * LANES) * rescale;
  for (size_t key = 0; key < keys; key++)
    for (int v = 0; v < vectors; v++)
      sums[v] +=
          probabilities[key] * load_elements(b->values, (first + key) * b->key_stride + i + v * LANES, type, count);
  for (int v = 0; v < vectors; v++) store_f32(accumulators + i + v * LANES, sums[v]);
}

/// Attention of one query in f32; each key and each value is read once, from where it is stored.
INLINE void attend_row(const pdrop_attention_block *b, size_t head, size_t row, float scale, const pdrop_kv_type type) {
  const size_t offset = row * b->query_stride + head * b->dimension;
  size_t full = b->dimension / LANES * LANES;
  float *query = b->scratch, *accumulators = query + full + LANES, *probabilities = accumulators + full + LANES;
  size_t count = b->visible + (b->is_causal ? row : 0);
  for (size_t i = 0; i < full + LANES; i++) {
    query[i] = i < b->dimension ? b->queries[offset + i] * scale : 0;
    accumulators[i] = 0;
  }
  float maximum = -__builtin_inff();
  vec_f32 total = splat(0);
  for (size_t first = 0; first < count; first += KEY_BLOCK) {
    size_t keys = count - first < KEY_BLOCK ? count - first : KEY_BLOCK, key = 0;
    for (; key + KEYS_PER_STEP <= keys; key += KEYS_PER_STEP) {
      prefetch(b, b->keys, type, first + key + PREFETCH_DISTANCE,
               min_of(first + key + PREFETCH_DISTANCE + KEYS_PER_STEP, count));
      score(probabilities + key, query, b, type, first + key, KEYS_PER_STEP, full);
      prefetch(b, b->values, type, first + key, min_of(first + key + KEYS_PER_STEP, count));
    }
    for (; key < keys; key++) score(probabilities + key, query, b, type, first + key, 1, full);
    for (; key % LANES; key++) probabilities[key] = -__builtin_inff();

    float previous = maximum;
    for (size_t k = 0; k < keys; k++) maximum = probabilities[k] > maximum ? probabilities[k] : maximum;
    float rescale = vexp2(splat(previous - maximum))[0];
    total *= rescale;
    for (size_t k = 0; k < keys; k += LANES) {
      store_f32(probabilities + k, vexp2(load_f32(probabilities + k) - maximum));
      total += load_f32(probabilities + k);
    }
    if (type == pdrop_kv_int8)
      for (size_t k = 0; k < keys; k++) probabilities[k] *= b->value_scales[first + k];
    size_t i = 0;
    for (; i + TILE_ROWS * LANES <= full; i += TILE_ROWS * LANES)
      accumulate_values(accumulators, rescale, probabilities, b, type, first, keys, i, TILE_ROWS, LANES);
    for (; i < b->dimension; i += LANES)
      accumulate_values(accumulators, rescale, probabilities, b, type, first, keys, i, 1, b->dimension - i);
  }
  float inverse = 1 / sum_of_lanes(total);
  for (size_t i = 0; i < b->dimension; i++) b->result[offset + i] = accumulators[i] * inverse;
}

INLINE void attend_rows(const pdrop_attention_block *b, float scale, const pdrop_kv_type type) {
  for (size_t head = 0; head < b->heads; head++)
    for (size_t row = 0; row < b->rows; row++) attend_row(b, head, row, scale, type);
}

void ATTENTION(const pdrop_attention_block *b) {
  // Softmax in base 2: e^x = 2^(x / ln 2).
  const float scale = 1.44269504f / __builtin_sqrtf((float)b->dimension);
  if (!b->one_by_one) return attend_panels(b, scale);
  switch (b->type) {
    case pdrop_kv_f32: return attend_rows(b, scale, pdrop_kv_f32);
    case pdrop_kv_bf16: return attend_rows(b, scale, pdrop_kv_bf16);
    case pdrop_kv_int8: return attend_rows(b, scale, pdrop_kv_int8);
  }
}
