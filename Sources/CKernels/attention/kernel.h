// The attention kernel, in plain C with vector extensions. Included once per instruction set, with
//   ATTENTION                  the name of the function to define
//   LANES                      floats per vector
//   TILE_ROWS, TILE_VECTORS    the size of a register tile of accumulators
//   OPERANDS                   the header that defines the operand format of the two matmuls
//
// Scores are stored transposed, [key, query], so that softmax processes a whole vector of queries at a time. Both
// matmuls have the same form: rows (keys, or transposed values) times a panel with one column per query.
#include <stddef.h>

#include "../simd.h"
#include "kernels.h"

/// Columns of a panel: one per query.
#define PANEL PDROP_ATTENTION_ROWS

#include OPERANDS

// MARK: - Matmul

/// One register tile of `c = a · b`, or `c += a · b` with `accumulate`.
///
/// - c: A panel, [rows, PANEL].
/// - a: [rows, depth] 32-bit words, addressed by the two strides.
/// - b: A panel, [depth, PANEL].
INLINE void tile(float *c, const float *a, size_t row_stride, size_t depth_stride, const float *b, size_t depth,
                 int rows, int vectors, bool accumulate) {
  vec_f32 sums[TILE_ROWS][TILE_VECTORS];
  for (int i = 0; i < rows; i++)
    for (int v = 0; v < vectors; v++) sums[i][v] = accumulate ? load_f32(c + i * PANEL + v * LANES) : splat(0);
  for (size_t k = 0; k < depth; k++) {
    vec_f32 right[TILE_VECTORS];
    for (int v = 0; v < vectors; v++) right[v] = load_f32(b + k * PANEL + v * LANES);
    for (int i = 0; i < rows; i++) {
      // Broadcast as integer bits: a pair of bf16 must not pass through float arithmetic.
      vec_f32 left = (vec_f32)((vec_u32){} + *(const uint32_t *)(a + i * row_stride + k * depth_stride));
      for (int v = 0; v < vectors; v++) sums[i][v] = multiply_add(left, right[v], sums[i][v]);
    }
  }
  for (int i = 0; i < rows; i++)
    for (int v = 0; v < vectors; v++) store_f32(c + i * PANEL + v * LANES, sums[i][v]);
}

/// `c = a · b`, or `c += a · b`, for `vectors` vectors of columns.
INLINE void gemm_columns(float *c, const float *a, size_t row_stride, size_t depth_stride, const float *b, size_t rows,
                         size_t depth, int vectors, bool accumulate) {
  size_t row = 0;
  for (; row + TILE_ROWS <= rows; row += TILE_ROWS)
    tile(c + row * PANEL, a + row * row_stride, row_stride, depth_stride, b, depth, TILE_ROWS, vectors, accumulate);
  for (; row < rows; row++)
    tile(c + row * PANEL, a + row * row_stride, row_stride, depth_stride, b, depth, 1, vectors, accumulate);
}

/// `c = a · b`, or `c += a · b`, for the first `columns` columns of the panels c, [rows, PANEL], and b, [depth, PANEL].
static void gemm(float *c, const float *a, size_t row_stride, size_t depth_stride, const float *b, size_t rows,
                 size_t depth, size_t columns, bool accumulate) {
  size_t column = 0;
  for (; column + LANES < columns; column += TILE_VECTORS * LANES)
    gemm_columns(c + column, a, row_stride, depth_stride, b + column, rows, depth, TILE_VECTORS, accumulate);
  if (column < columns) gemm_columns(c + column, a, row_stride, depth_stride, b + column, rows, depth, 1, accumulate);
}

// MARK: - Softmax

/// Online softmax state of each query: the maximum score so far, and the sum of probabilities relative to it.
typedef struct {
  float maximum[PANEL];
  float total[PANEL];
} softmax_state;

/// Replaces scores by unnormalized probabilities, 2^(score · scale - maximum), and rescales the accumulators.
INLINE void online_softmax(float *scores, float scale, float *accumulators, softmax_state *state, size_t keys,
                           size_t dimension, size_t columns) {
  for (size_t column = 0; column < columns; column += LANES) {
    vec_f32 previous = load_f32(state->maximum + column);
    vec_f32 maximum = load_f32(scores + column);
    for (size_t key = 1; key < keys; key++) maximum = vmax(load_f32(scores + key * PANEL + column), maximum);
    maximum = vmax(maximum * scale, previous);
    vec_f32 rescale = vexp2(previous - maximum);
    vec_f32 total = load_f32(state->total + column) * rescale;
    for (size_t key = 0; key < keys; key++) {
      vec_f32 probability = vexp2(load_f32(scores + key * PANEL + column) * scale - maximum);
      store_f32(scores + key * PANEL + column, probability);
      total += probability;
    }
    store_f32(state->maximum + column, maximum);
    store_f32(state->total + column, total);
    for (size_t i = 0; i < dimension; i++)
      store_f32(accumulators + i * PANEL + column, load_f32(accumulators + i * PANEL + column) * rescale);
  }
}

/// Sets the scores of keys that a query must not see to -infinity.
INLINE void mask(float *scores, const pdrop_attention_block *b, size_t first, size_t keys) {
  for (size_t row = 0; row < b->rows; row++) {
    size_t visible = b->visible + (b->is_causal ? row : 0);
    for (size_t key = visible > first ? visible - first : 0; key < keys; key++)
      scores[key * PANEL + row] = -__builtin_inff();
  }
}

// MARK: - A panel of queries

static void attend_panel(const pdrop_attention_block *b, float scale) {
  size_t dimension = b->dimension;
  float *queries = b->scratch;
  float *accumulators = queries + dimension * PANEL;
  float *scores = accumulators + dimension * PANEL;
  float *gathered = scores + KEY_BLOCK * PANEL;
  size_t columns = (b->rows + LANES - 1) / LANES * LANES;
  size_t count = b->visible + (b->is_causal ? b->rows - 1 : 0);

  for (size_t i = 0; i < 2 * dimension * PANEL; i++) queries[i] = 0;
  transpose_queries(queries, gathered, b);
  softmax_state state;
  for (size_t row = 0; row < PANEL; row++) state.maximum[row] = -__builtin_inff(), state.total[row] = 0;

  for (size_t first = 0; first < count; first += KEY_BLOCK) {
    size_t keys = count - first < KEY_BLOCK ? count - first : KEY_BLOCK;
    gather_keys(gathered, b, first, keys);
    gemm(scores, gathered, words(dimension), 1, queries, keys, words(dimension), columns, false);
    if (first + keys > b->visible) mask(scores, b, first, keys);
    online_softmax(scores, scale, accumulators, &state, keys, dimension, columns);
    pack_probabilities(scores, keys, columns);
    gather_values(gathered, b, first, keys);
    gemm(accumulators, gathered, 1, dimension, scores, dimension, words(keys), columns, true);
  }
  for (size_t column = 0; column < columns; column += LANES) {
    vec_f32 inverse = 1 / load_f32(state.total + column);
    for (size_t i = 0; i < dimension; i++)
      store_f32(accumulators + i * PANEL + column, load_f32(accumulators + i * PANEL + column) * inverse);
  }
  transpose(b->result, b->query_stride, accumulators, PANEL, dimension, b->rows);
}

// MARK: - A single query

/// The number of keys whose scores are computed together.
#define KEYS_PER_STEP 4
/// The number of keys between the current key and the prefetched one.
#define PREFETCH_DISTANCE 8

/// Prefetches the next KEYS_PER_STEP rows of keys or values; their stride defeats the hardware prefetcher.
INLINE void prefetch(const pdrop_attention_block *b, const void *rows, size_t row, size_t count) {
  size_t size = b->keys_are_bf16 ? 2 : 4;
  for (size_t r = row; r < row + KEYS_PER_STEP && r < count; r++)
    for (size_t byte = 0; byte < b->dimension * size; byte += 64)
      __builtin_prefetch((const char *)rows + r * b->key_stride * size + byte);
}

/// Loads at most LANES elements of keys or values, from element `index` on, as f32; the remaining lanes are zero.
INLINE vec_f32 load_elements(const void *rows, size_t index, bool is_bf16, size_t count) {
  const uint16_t *bf16 = (const uint16_t *)rows + index;
  const float *f32 = (const float *)rows + index;
  if (count >= LANES) return is_bf16 ? load_bf16(bf16) : load_f32(f32);
  float lanes[LANES] = {0};
  for (size_t l = 0; l < count; l++) lanes[l] = is_bf16 ? widen_bf16(bf16[l]) : f32[l];
  return load_f32(lanes);
}

/// Dot products of a zero-padded query and `keys` keys, from key `first` on.
///
/// - full: The part of the dimension that fills whole vectors.
INLINE void score(float *scores, const float *query, const pdrop_attention_block *b, bool is_bf16, size_t first,
                  int keys, size_t full) {
  const void *rows = b->keys;
  size_t start = first * b->key_stride, stride = b->key_stride, rest = b->dimension - full;
  vec_f32 sums[KEYS_PER_STEP];
  for (int k = 0; k < keys; k++)
    sums[k] = rest ? load_f32(query + full) * load_elements(rows, start + k * stride + full, is_bf16, rest) : splat(0);
  for (size_t i = 0; i < full; i += LANES)
    for (int k = 0; k < keys; k++)
      sums[k] += load_f32(query + i) * load_elements(rows, start + k * stride + i, is_bf16, LANES);
  for (int k = 0; k < keys; k++) scores[k] = sum_of_lanes(sums[k]);
}

/// `accumulators = accumulators · rescale + Σ probability · value` over `keys` keys, for `vectors` vectors of elements
/// from element `i` on.
INLINE void accumulate_values(float *accumulators, float rescale, const float *probabilities,
                              const pdrop_attention_block *b, bool is_bf16, size_t first, size_t keys, size_t i,
                              int vectors, size_t count) {
  vec_f32 sums[TILE_ROWS];
  for (int v = 0; v < vectors; v++) sums[v] = load_f32(accumulators + i + v * LANES) * rescale;
  for (size_t key = 0; key < keys; key++)
    for (int v = 0; v < vectors; v++)
      sums[v] +=
          probabilities[key] * load_elements(b->values, (first + key) * b->key_stride + i + v * LANES, is_bf16, count);
  for (int v = 0; v < vectors; v++) store_f32(accumulators + i + v * LANES, sums[v]);
}

/// Attention of one query in f32; each key and each value is read once, from where it is stored.
INLINE void attend_row(const pdrop_attention_block *b, size_t row, float scale, bool is_bf16) {
  size_t full = b->dimension / LANES * LANES;
  float *query = b->scratch, *accumulators = query + full + LANES, *probabilities = accumulators + full + LANES;
  size_t count = b->visible + (b->is_causal ? row : 0);
  for (size_t i = 0; i < full + LANES; i++) {
    query[i] = i < b->dimension ? b->queries[row * b->query_stride + i] * scale : 0;
    accumulators[i] = 0;
  }
  float maximum = -__builtin_inff();
  vec_f32 total = splat(0);
  for (size_t first = 0; first < count; first += KEY_BLOCK) {
    size_t keys = count - first < KEY_BLOCK ? count - first : KEY_BLOCK, key = 0;
    for (; key + KEYS_PER_STEP <= keys; key += KEYS_PER_STEP) {
      prefetch(b, b->keys, first + key + PREFETCH_DISTANCE, count);
      score(probabilities + key, query, b, is_bf16, first + key, KEYS_PER_STEP, full);
      prefetch(b, b->values, first + key, count);
    }
    for (; key < keys; key++) score(probabilities + key, query, b, is_bf16, first + key, 1, full);
    for (; key % LANES; key++) probabilities[key] = -__builtin_inff();

    float previous = maximum;
    for (size_t k = 0; k < keys; k++) maximum = probabilities[k] > maximum ? probabilities[k] : maximum;
    float rescale = vexp2(splat(previous - maximum))[0];
    total *= rescale;
    for (size_t k = 0; k < keys; k += LANES) {
      store_f32(probabilities + k, vexp2(load_f32(probabilities + k) - maximum));
      total += load_f32(probabilities + k);
    }
    size_t i = 0;
    for (; i + TILE_ROWS * LANES <= full; i += TILE_ROWS * LANES)
      accumulate_values(accumulators, rescale, probabilities, b, is_bf16, first, keys, i, TILE_ROWS, LANES);
    for (; i < b->dimension; i += LANES)
      accumulate_values(accumulators, rescale, probabilities, b, is_bf16, first, keys, i, 1, b->dimension - i);
  }
  float inverse = 1 / sum_of_lanes(total);
  for (size_t i = 0; i < b->dimension; i++) b->result[row * b->query_stride + i] = accumulators[i] * inverse;
}

void ATTENTION(const pdrop_attention_block *b) {
  // Softmax in base 2: e^x = 2^(x / ln 2).
  float scale = 1.44269504f / __builtin_sqrtf((float)b->dimension);
  if (b->one_by_one)
    for (size_t row = 0; row < b->rows; row++)
      b->keys_are_bf16 ? attend_row(b, row, scale, true) : attend_row(b, row, scale, false);
  else
    attend_panel(b, scale);
}
