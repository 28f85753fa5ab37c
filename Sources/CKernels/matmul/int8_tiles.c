// int8 GEMM in AMX tiles, for many rows.
//
// Sums of 32 rows and 32 outputs stay in four tiles, for up to 4,096 inputs. Activations and weights are read in the order
// in which they are stored: two tiles of each for every 64 inputs.

#include <string.h>

#include "matmul.h"

/// Rows of a tile of activations, and outputs of a tile of weights.
#define ROWS 16
/// Inputs of a tile: the bytes of a row of activations.
#define INPUTS 64
#define TILE (ROWS * INPUTS)

static size_t min_of(size_t a, size_t b) { return a < b ? a : b; }

/// A number in whole tiles.
static size_t tiles(size_t count, size_t size) { return (count + size - 1) / size; }

size_t pdrop_int8_tile_bytes(size_t rows, size_t inputs) { return tiles(rows, ROWS) * tiles(inputs, INPUTS) * TILE; }

void pdrop_store_row_in_tiles(const uint8_t *x, size_t row, size_t rows, size_t inputs, uint8_t *to) {
  // The last pair may have one tile only.
  const size_t pair = row / (2 * ROWS), tile_count = min_of(tiles(rows, ROWS) - 2 * pair, 2);
  to += pair * 2 * tiles(inputs, INPUTS) * TILE + row % (2 * ROWS) * INPUTS;
  for (size_t k = 0; k < inputs; k += INPUTS, to += tile_count * TILE) {
    const size_t count = min_of(inputs - k, INPUTS);
    memset(to + count, 0, INPUTS - count);
    memcpy(to, x + k, count);
  }
}

#if defined(__x86_64__)

#include <immintrin.h>

#include "../tiles.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,evex512,amx-tile,amx-int8"))), \
                             apply_to = function)

#define INLINE static inline __attribute__((always_inline))

/// Inputs whose products are added in tiles; with more, the weights of a panel would not stay in the second level cache.
#define INPUT_BLOCK 4096
/// Rows whose sums are kept between blocks of inputs, if there are several.
#define ROW_BLOCK 512

/// Rows whose sums are kept.
static size_t row_block(size_t inputs) { return inputs > INPUT_BLOCK ? ROW_BLOCK : 2 * ROWS; }

// MARK: - Packing of weights

/// Packs a tile of weights, [ROWS, INPUTS]: words of four inputs, [INPUTS / 4, ROWS].
INLINE void pack_tile(const int8_t *w, size_t stride, int8_t *to) {
  // Each vector has words 4 j to 4 j + 3 of the outputs i, i + 4, i + 8 and i + 12.
  __m512i words[4][4];
  for (size_t i = 0; i < 4; i++)
    for (size_t j = 0; j < 4; j++) {
      const int8_t *const from = w + i * stride + 16 * j;
      __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)from));
      x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(from + 4 * stride)), 1);
      x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(from + 8 * stride)), 2);
      words[i][j] = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(from + 12 * stride)), 3);
    }
  for (size_t j = 0; j < 4; j++, to += 4 * INPUTS) {
    const __m512i a = _mm512_unpacklo_epi32(words[0][j], words[1][j]),
                  b = _mm512_unpackhi_epi32(words[0][j], words[1][j]),
                  c = _mm512_unpacklo_epi32(words[2][j], words[3][j]),
                  d = _mm512_unpackhi_epi32(words[2][j], words[3][j]);
    _mm512_store_si512(to, _mm512_unpacklo_epi64(a, c));
    _mm512_store_si512(to + INPUTS, _mm512_unpackhi_epi64(a, c));
    _mm512_store_si512(to + 2 * INPUTS, _mm512_unpacklo_epi64(b, d));
    _mm512_store_si512(to + 3 * INPUTS, _mm512_unpackhi_epi64(b, d));
  }
}

/// Packs the weights of a panel in pairs of tiles, [pairs of outputs, inputs / INPUTS, 2]; missing weights are zero.
static void pack_weights(const int8_t *w, size_t inputs, size_t outputs, int8_t *to) {
  const size_t depth = tiles(inputs, INPUTS);
  for (size_t n = 0; n < tiles(outputs, 2 * ROWS) * 2 * ROWS; n += ROWS) {
    int8_t *const column = to + (n / (2 * ROWS) * 2 * depth + n / ROWS % 2) * TILE;
    const size_t count = n < outputs ? min_of(outputs - n, ROWS) : 0;
    for (size_t k = 0; k < depth; k++) {
      const size_t rest = min_of(inputs - k * INPUTS, INPUTS);
      if (count == ROWS && rest == INPUTS) {
        pack_tile(w + n * inputs + k * INPUTS, inputs, column + 2 * k * TILE);
      } else {
        int8_t padded[TILE] = {0};
        for (size_t i = 0; i < count; i++) memcpy(padded + i * INPUTS, w + (n + i) * inputs + k * INPUTS, rest);
        pack_tile(padded, INPUTS, column + 2 * k * TILE);
      }
    }
  }
}

// MARK: - Products

/// Lines of the next activations that are prefetched with each step of a product.
#define PREFETCHED_LINES 2

/// What is prefetched during a product: activations of the next rows, and the places of the results.
typedef struct {
  const uint8_t *x;
  const float *y;
  size_t stride;
} prefetched;

/// Prefetches for step `k`: a line of each row's results in two steps.
INLINE void prefetch(const prefetched *p, size_t k) {
  const size_t line = INPUTS / sizeof *p->y;
  for (size_t i = 0; i < PREFETCHED_LINES; i++) __builtin_prefetch(p->x + (k * PREFETCHED_LINES + i) * INPUTS, 0, 2);
  if (k < 4 * ROWS) __builtin_prefetch(p->y + k / 2 * p->stride + k % 2 * line, 1, 2);
}

/// Adds to the sums of one or two tiles of rows and two tiles of outputs the products of `depth` tiles.
///
/// - sums: [tiles of rows · ROWS, 2 · ROWS], rows `stride` integers apart.
INLINE void multiply(int32_t *sums, size_t stride, const uint8_t *x, const int8_t *w, size_t depth, const bool adds,
                     const bool has_two, const prefetched *next) {
  int32_t *const lower = sums + ROWS * stride;
  const size_t stride_bytes = stride * sizeof *sums;
  if (adds) {
    _tile_loadd(0, sums, stride_bytes);
    _tile_loadd(1, sums + ROWS, stride_bytes);
    if (has_two) _tile_loadd(2, lower, stride_bytes);
    if (has_two) _tile_loadd(3, lower + ROWS, stride_bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (size_t k = 0; k < depth; k++, x += has_two ? 2 * TILE : TILE, w += 2 * TILE) {
    prefetch(next, k);
    _tile_loadd(4, x, INPUTS);
    _tile_loadd(6, w, INPUTS);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, w + TILE, INPUTS);
    _tile_dpbusd(1, 4, 7);
    if (!has_two) continue;
    _tile_loadd(5, x + TILE, INPUTS);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_stored(0, sums, stride_bytes);
  _tile_stored(1, sums + ROWS, stride_bytes);
  if (has_two) _tile_stored(2, lower, stride_bytes);
  if (has_two) _tile_stored(3, lower + ROWS, stride_bytes);
}

static void begin_products(void) {
  tile_configuration configuration = {.palette = 1};
  for (int t = 0; t < 8; t++) configuration.rows[t] = ROWS, configuration.row_bytes[t] = INPUTS;
  _tile_loadconfig(&configuration);
}

size_t pdrop_int8_tiles_scratch_bytes(size_t rows, size_t inputs, size_t outputs) {
  const size_t columns = tiles(outputs, 2 * ROWS) * 2 * ROWS;
  return columns * tiles(inputs, INPUTS) * INPUTS +
         min_of(tiles(rows, 2 * ROWS) * 2 * ROWS, row_block(inputs)) * columns * sizeof(int32_t);
}

/// The sums of one or two tiles of rows and all outputs of a panel, for `steps` tiles of inputs from tile `k` on.
///
/// - strip: [tiles of rows · ROWS, pairs · 2 · ROWS].
/// - w: The packed weights, [pairs, depth, 2].
INLINE void multiply_strip(int32_t *strip, size_t pairs, const uint8_t *x, const int8_t *w, size_t depth, size_t k,
                           size_t steps, const bool has_two, prefetched next) {
  const size_t stride = pairs * 2 * ROWS;
  for (size_t pair = 0; pair < pairs; pair++, strip += 2 * ROWS) {
    const int8_t *const column = w + (pair * depth + k) * 2 * TILE;
    if (k > 0)
      multiply(strip, stride, x, column, steps, true, has_two, &next);
    else
      multiply(strip, stride, x, column, steps, false, has_two, &next);
    next.x += steps * PREFETCHED_LINES * INPUTS;
    next.y += 2 * ROWS;
  }
}

/// Writes the results of one or two tiles of rows, from `row` on.
static void finish_strip(const pdrop_results *results, const pdrop_int8_sums *scales, size_t row, const int32_t *strip,
                         size_t stride) {
  pdrop_results part = *results;
  pdrop_int8_sums sums = *scales;
  part.y += row * results->stride;
  part.rows = min_of(results->rows - row, 2 * ROWS);
  sums.values = strip;
  sums.stride = stride;
  sums.row_scales += row;
  pdrop_finish_int8(&part, &sums);
}

void pdrop_gemm_u8_s8_tiles(const uint8_t *x, const int8_t *w, size_t inputs, const pdrop_results *results,
                            const pdrop_int8_sums *scales, void *scratch) {
  const size_t rows = results->rows, depth = tiles(inputs, INPUTS), pairs = tiles(results->count, 2 * ROWS),
               stride = pairs * 2 * ROWS, block_depth = INPUT_BLOCK / INPUTS, block_rows = row_block(inputs);
  int8_t *const weights = scratch;
  int32_t *const sums = (int32_t *)(weights + pairs * 2 * depth * TILE);
  pack_weights(w, inputs, results->count, weights);
  begin_products();
  for (size_t first = 0; first < rows; first += block_rows)
    for (size_t k = 0; k < depth; k += block_depth) {
      const size_t steps = min_of(depth - k, block_depth);
      for (size_t row = first; row < min_of(first + block_rows, rows); row += 2 * ROWS) {
        int32_t *const strip = sums + (row - first) * stride;
        const bool has_two = rows - row > ROWS;
        const uint8_t *const from = x + row * depth * INPUTS + k * (has_two ? 2 : 1) * TILE;
        const prefetched next = {from + 2 * ROWS * depth * INPUTS, results->y + row * results->stride, results->stride};
        if (has_two)
          multiply_strip(strip, pairs, from, weights, depth, k, steps, true, next);
        else
          multiply_strip(strip, pairs, from, weights, depth, k, steps, false, next);
        if (k + steps == depth) finish_strip(results, scales, row, strip, stride);
      }
    }
  _tile_release();
}

#pragma clang attribute pop

#else

// Other processors have no tiles, so these are not called.

size_t pdrop_int8_tiles_scratch_bytes(size_t rows, size_t inputs, size_t outputs) {
  (void)rows, (void)inputs, (void)outputs;
  return 0;
}

void pdrop_gemm_u8_s8_tiles(const uint8_t *x, const int8_t *w, size_t inputs, const pdrop_results *results,
                            const pdrop_int8_sums *scales, void *scratch) {
  (void)x, (void)w, (void)inputs, (void)results, (void)scales, (void)scratch;
}

#endif
