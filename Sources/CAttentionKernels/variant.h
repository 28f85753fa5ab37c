// One variant of the kernels, in plain C with vectors; included once per instruction set, with
//   RUN                        the name of its function
//   LANES                      floats of a vector
//   TILE_ROWS, TILE_VECTORS    the size of a tile of sums that fits the registers
//   FACTORS                    the header with the form of the products' factors
//
// Scores lie turned, [key, query], so that all of softmax is done for a whole vector of queries at a time. Both products then
// have one form: rows, which are keys or values turned, times a panel that has a column per query.
#include <stddef.h>

#include "variants.h"
#include "vectors.h"

/// Columns of a panel: one per query.
#define PANEL ATTENTION_ROWS

#include FACTORS

// MARK: - Products

/// One tile of c = a · b, or c += a · b. c: a panel, a: [rows, depth] words by strides, b: a panel of `depth` rows.
INLINE void tile(
    float *c, const float *a, size_t row_stride, size_t depth_stride, const float *b, size_t depth, int rows, int vectors,
    bool adds) {
  vec sums[TILE_ROWS][TILE_VECTORS];
  for (int i = 0; i < rows; i++)
    for (int v = 0; v < vectors; v++) sums[i][v] = adds ? load(c + i * PANEL + v * LANES) : all(0);
  for (size_t k = 0; k < depth; k++) {
    vec right[TILE_VECTORS];
    for (int v = 0; v < vectors; v++) right[v] = load(b + k * PANEL + v * LANES);
    for (int i = 0; i < rows; i++) {
      // As bits: a pair of bfloat16 is no float to be computed with.
      vec left = (vec)((bits){} + *(const uint32_t *)(a + i * row_stride + k * depth_stride));
      for (int v = 0; v < vectors; v++) sums[i][v] = multiply_add(left, right[v], sums[i][v]);
    }
  }
  for (int i = 0; i < rows; i++)
    for (int v = 0; v < vectors; v++) store(c + i * PANEL + v * LANES, sums[i][v]);
}

/// c = a · b, or c += a · b, for `vectors` vectors of columns.
INLINE void columns_of_product(
    float *c, const float *a, size_t row_stride, size_t depth_stride, const float *b, size_t rows, size_t depth,
    int vectors, bool adds) {
  size_t row = 0;
  for (; row + TILE_ROWS <= rows; row += TILE_ROWS)
    tile(c + row * PANEL, a + row * row_stride, row_stride, depth_stride, b, depth, TILE_ROWS, vectors, adds);
  for (; row < rows; row++)
    tile(c + row * PANEL, a + row * row_stride, row_stride, depth_stride, b, depth, 1, vectors, adds);
}

/// c = a · b, or c += a · b, for the first `columns` of the panels c, [rows, PANEL], and b, [depth, PANEL].
static void product(
    float *c, const float *a, size_t row_stride, size_t depth_stride, const float *b, size_t rows, size_t depth,
    size_t columns, bool adds) {
  size_t column = 0;
  for (; column + LANES < columns; column += TILE_VECTORS * LANES)
    columns_of_product(c + column, a, row_stride, depth_stride, b + column, rows, depth, TILE_VECTORS, adds);
  if (column < columns)
    columns_of_product(c + column, a, row_stride, depth_stride, b + column, rows, depth, 1, adds);
}

// MARK: - Softmax

/// What is known of each query after some of the keys: its largest score, and the sum of the others' powers below it.
typedef struct {
  float largest[PANEL];
  float total[PANEL];
} running;

/// Turns scores, after scaling, into powers of two of their distance from the largest so far; rescales what was summed before.
INLINE void soften(
    float *scores, float scale, float *sums, running *so_far, size_t keys, size_t dimension, size_t columns) {
  for (size_t column = 0; column < columns; column += LANES) {
    vec before = load(so_far->largest + column);
    vec largest = load(scores + column);
    for (size_t key = 1; key < keys; key++) largest = larger(load(scores + key * PANEL + column), largest);
    largest = larger(largest * scale, before);
    vec factor = power_of_two(before - largest);
    vec total = load(so_far->total + column) * factor;
    for (size_t key = 0; key < keys; key++) {
      vec power = power_of_two(load(scores + key * PANEL + column) * scale - largest);
      store(scores + key * PANEL + column, power);
      total += power;
    }
    store(so_far->largest + column, largest);
    store(so_far->total + column, total);
    for (size_t i = 0; i < dimension; i++) store(sums + i * PANEL + column, load(sums + i * PANEL + column) * factor);
  }
}

/// Hides from each query the keys that it must not see.
INLINE void hide(float *scores, const attention_block *b, size_t first, size_t keys) {
  for (size_t row = 0; row < b->rows; row++) {
    size_t seen = b->visible + (b->is_causal ? row : 0);
    for (size_t key = seen > first ? seen - first : 0; key < keys; key++) scores[key * PANEL + row] = -__builtin_inff();
  }
}

// MARK: - Many queries

static void run_panel(const attention_block *b, float scale) {
  size_t dimension = b->dimension;
  float *queries = b->scratch;
  float *sums = queries + dimension * PANEL;
  float *scores = sums + dimension * PANEL;
  float *gathered = scores + KEY_BLOCK * PANEL;
  size_t columns = (b->rows + LANES - 1) / LANES * LANES;
  size_t count = b->visible + (b->is_causal ? b->rows - 1 : 0);

  for (size_t i = 0; i < 2 * dimension * PANEL; i++) queries[i] = 0;
  turn_queries(queries, gathered, b);
  running so_far;
  for (size_t row = 0; row < PANEL; row++) so_far.largest[row] = -__builtin_inff(), so_far.total[row] = 0;

  for (size_t first = 0; first < count; first += KEY_BLOCK) {
    size_t keys = count - first < KEY_BLOCK ? count - first : KEY_BLOCK;
    gather_keys(gathered, b, first, keys);
    product(scores, gathered, words(dimension), 1, queries, keys, words(dimension), columns, false);
    if (first + keys > b->visible) hide(scores, b, first, keys);
    soften(scores, scale, sums, &so_far, keys, dimension, columns);
    pack_powers(scores, keys, columns);
    gather_values(gathered, b, first, keys);
    product(sums, gathered, 1, dimension, scores, dimension, words(keys), columns, true);
  }
  for (size_t column = 0; column < columns; column += LANES) {
    vec factor = 1 / load(so_far.total + column);
    for (size_t i = 0; i < dimension; i++) store(sums + i * PANEL + column, load(sums + i * PANEL + column) * factor);
  }
  turn(b->result, b->query_stride, sums, PANEL, dimension, b->rows);
}

// MARK: - One query

/// Keys whose sums run side by side, and how many keys ahead memory is asked for.
#define TOGETHER 4
#define AHEAD 8

/// Asks for some of the next rows of keys or values, which lie too far apart for the processor to foresee.
INLINE void fetch(const attention_block *b, const void *rows, size_t row, size_t count) {
  size_t size = b->keys_are_bf16 ? 2 : 4;
  for (size_t r = row; r < row + TOGETHER && r < count; r++)
    for (size_t byte = 0; byte < b->dimension * size; byte += 64)
      __builtin_prefetch((const char *)rows + r * b->key_stride * size + byte);
}

/// `count` numbers of keys or values from number `index` on, at most a vector of them; zeros behind them.
INLINE vec load_numbers(const void *rows, size_t index, bool is_bf16, size_t count) {
  const uint16_t *half = (const uint16_t *)rows + index;
  const float *full = (const float *)rows + index;
  if (count >= LANES) return is_bf16 ? widen(*(const halves *)half) : load(full);
  float some[LANES] = {0};
  for (size_t l = 0; l < count; l++) some[l] = is_bf16 ? widen_one(half[l]) : full[l];
  return load(some);
}

/// The products of a query, filled up with zeros, and `keys` keys from key `first` on.
INLINE void score(
    float *scores, const float *query, const attention_block *b, bool is_bf16, size_t first, int keys, size_t whole) {
  const void *rows = b->keys;
  size_t start = first * b->key_stride, stride = b->key_stride, rest = b->dimension - whole;
  vec sums[TOGETHER];
  for (int k = 0; k < keys; k++)
    sums[k] = rest ? load(query + whole) * load_numbers(rows, start + k * stride + whole, is_bf16, rest) : all(0);
  for (size_t i = 0; i < whole; i += LANES)
    for (int k = 0; k < keys; k++) sums[k] += load(query + i) * load_numbers(rows, start + k * stride + i, is_bf16, LANES);
  for (int k = 0; k < keys; k++) scores[k] = sum_of_lanes(sums[k]);
}

/// sums = sums · factor + the values of some keys by their powers, for `vectors` vectors of numbers from number `i` on.
INLINE void weigh(
    float *sums, float factor, const float *powers, const attention_block *b, bool is_bf16, size_t first, size_t keys,
    size_t i, int vectors, size_t count) {
  vec some[TILE_ROWS];
  for (int v = 0; v < vectors; v++) some[v] = load(sums + i + v * LANES) * factor;
  for (size_t key = 0; key < keys; key++)
    for (int v = 0; v < vectors; v++)
      some[v] += powers[key] * load_numbers(b->values, (first + key) * b->key_stride + i + v * LANES, is_bf16, count);
  for (int v = 0; v < vectors; v++) store(sums + i + v * LANES, some[v]);
}

/// One query by itself: each key and each value is read once, where it is stored, and nothing is rounded.
INLINE void run_row(const attention_block *b, size_t row, float scale, bool is_bf16) {
  size_t whole = b->dimension / LANES * LANES;
  float *query = b->scratch, *sums = query + whole + LANES, *powers = sums + whole + LANES;
  size_t count = b->visible + (b->is_causal ? row : 0);
  for (size_t i = 0; i < whole + LANES; i++) {
    query[i] = i < b->dimension ? b->queries[row * b->query_stride + i] * scale : 0;
    sums[i] = 0;
  }
  float largest = -__builtin_inff();
  vec total = all(0);
  for (size_t first = 0; first < count; first += KEY_BLOCK) {
    size_t keys = count - first < KEY_BLOCK ? count - first : KEY_BLOCK, key = 0;
    for (; key + TOGETHER <= keys; key += TOGETHER) {
      fetch(b, b->keys, first + key + AHEAD, count);
      score(powers + key, query, b, is_bf16, first + key, TOGETHER, whole);
      fetch(b, b->values, first + key, count);
    }
    for (; key < keys; key++) score(powers + key, query, b, is_bf16, first + key, 1, whole);
    for (; key % LANES; key++) powers[key] = -__builtin_inff();

    float before = largest;
    for (size_t k = 0; k < keys; k++) largest = powers[k] > largest ? powers[k] : largest;
    float factor = power_of_two(all(before - largest))[0];
    total *= factor;
    for (size_t k = 0; k < keys; k += LANES) {
      store(powers + k, power_of_two(load(powers + k) - largest));
      total += load(powers + k);
    }
    size_t i = 0;
    for (; i + TILE_ROWS * LANES <= whole; i += TILE_ROWS * LANES)
      weigh(sums, factor, powers, b, is_bf16, first, keys, i, TILE_ROWS, LANES);
    for (; i < b->dimension; i += LANES)
      weigh(sums, factor, powers, b, is_bf16, first, keys, i, 1, b->dimension - i);
  }
  float factor = 1 / sum_of_lanes(total);
  for (size_t i = 0; i < b->dimension; i++) b->result[row * b->query_stride + i] = sums[i] * factor;
}

void RUN(const attention_block *b) {
  // Powers of two: e^x = 2^(x / ln 2).
  float scale = 1.44269504f / __builtin_sqrtf((float)b->dimension);
  if (b->one_by_one)
    for (size_t row = 0; row < b->rows; row++)
      b->keys_are_bf16 ? run_row(b, row, scale, true) : run_row(b, row, scale, false);
  else
    run_panel(b, scale);
}
