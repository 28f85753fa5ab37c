// int8 and bf16 GEMM in AMX tiles, for many rows.
//
// Sums of 32 rows and 32 outputs stay in four tiles, for up to 4,096 bytes of inputs. Activations and weights are read in
// the order in which they are stored: two tiles of each for every 64 bytes. Both types have the same layout, since a tile
// of weights consists of 32-bit words.

#include <string.h>

#include "matmul.h"

/// Rows of a tile of activations, and outputs of a tile of weights.
#define ROWS 16
/// Bytes of a row in a tile.
#define WIDTH 64
#define TILE (ROWS * WIDTH)

static size_t min_of(size_t a, size_t b) { return a < b ? a : b; }

/// A number in whole tiles.
static size_t tiles(size_t count, size_t size) { return (count + size - 1) / size; }

size_t pdrop_tile_bytes(size_t rows, size_t row_bytes) { return tiles(rows, ROWS) * tiles(row_bytes, WIDTH) * TILE; }

void pdrop_store_row_in_tiles(const void *x, size_t row, size_t rows, size_t row_bytes, void *to) {
  const char *from = x;
  // The last pair may have one tile only.
  const size_t pair = row / (2 * ROWS), tile_count = min_of(tiles(rows, ROWS) - 2 * pair, 2);
  char *line = (char *)to + pair * 2 * tiles(row_bytes, WIDTH) * TILE + row % (2 * ROWS) * WIDTH;
  for (size_t k = 0; k < row_bytes; k += WIDTH, line += tile_count * TILE) {
    const size_t count = min_of(row_bytes - k, WIDTH);
    memset(line + count, 0, WIDTH - count);
    memcpy(line, from + k, count);
  }
}

#if defined(__x86_64__)

#include <immintrin.h>

#include "../tiles.h"

#pragma clang attribute push(                                                                         \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,evex512,amx-tile,amx-int8,amx-bf16"))), \
    apply_to = function)

#define INLINE static inline __attribute__((always_inline))

/// Tiles of inputs whose products are added in tiles; with more, the weights of a panel would not stay in the second level
/// cache.
#define BLOCK_DEPTH 64
/// Rows whose sums are kept between blocks of inputs, if there are several.
#define BLOCK_ROWS 512

/// Rows whose sums are kept.
static size_t block_rows(size_t depth) { return depth > BLOCK_DEPTH ? BLOCK_ROWS : 2 * ROWS; }

// MARK: - Packing of weights

/// Packs a tile of weights, [ROWS, WIDTH] bytes, as words, [WIDTH / 4, ROWS]. Rows are `stride` bytes apart.
INLINE void pack_tile(const char *w, size_t stride, char *to) {
  // Each vector has words 4 j to 4 j + 3 of the outputs i, i + 4, i + 8 and i + 12.
  __m512i words[4][4];
  for (size_t i = 0; i < 4; i++)
    for (size_t j = 0; j < 4; j++) {
      const char *const from = w + i * stride + 16 * j;
      __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)from));
      x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(from + 4 * stride)), 1);
      x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(from + 8 * stride)), 2);
      words[i][j] = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(from + 12 * stride)), 3);
    }
  for (size_t j = 0; j < 4; j++, to += 4 * WIDTH) {
    const __m512i a = _mm512_unpacklo_epi32(words[0][j], words[1][j]),
                  b = _mm512_unpackhi_epi32(words[0][j], words[1][j]),
                  c = _mm512_unpacklo_epi32(words[2][j], words[3][j]),
                  d = _mm512_unpackhi_epi32(words[2][j], words[3][j]);
    _mm512_store_si512(to, _mm512_unpacklo_epi64(a, c));
    _mm512_store_si512(to + WIDTH, _mm512_unpackhi_epi64(a, c));
    _mm512_store_si512(to + 2 * WIDTH, _mm512_unpacklo_epi64(b, d));
    _mm512_store_si512(to + 3 * WIDTH, _mm512_unpackhi_epi64(b, d));
  }
}

/// Packs the weights of a panel in pairs of tiles, [pairs of outputs, depth, 2]; missing weights are zero.
static void pack_weights(const char *w, size_t row_bytes, size_t outputs, char *to) {
  const size_t depth = tiles(row_bytes, WIDTH);
  for (size_t n = 0; n < tiles(outputs, 2 * ROWS) * 2 * ROWS; n += ROWS) {
    char *const column = to + (n / (2 * ROWS) * 2 * depth + n / ROWS % 2) * TILE;
    const size_t count = n < outputs ? min_of(outputs - n, ROWS) : 0;
    for (size_t k = 0; k < depth; k++) {
      const size_t rest = min_of(row_bytes - k * WIDTH, WIDTH);
      if (count == ROWS && rest == WIDTH) {
        pack_tile(w + n * row_bytes + k * WIDTH, row_bytes, column + 2 * k * TILE);
      } else {
        char padded[TILE] = {0};
        for (size_t i = 0; i < count; i++) memcpy(padded + i * WIDTH, w + (n + i) * row_bytes + k * WIDTH, rest);
        pack_tile(padded, WIDTH, column + 2 * k * TILE);
      }
    }
  }
}

// MARK: - Products

/// Lines of the next activations that are prefetched with each step of a product.
#define PREFETCHED_LINES 2

/// What is prefetched during a product: activations of the next rows, and the places of the results.
typedef struct {
  const char *x;
  const float *y;
  size_t stride;
} prefetched;

/// Prefetches for step `k`: a line of each row's results in two steps.
INLINE void prefetch(const prefetched *p, size_t k) {
  const size_t line = WIDTH / sizeof *p->y;
  for (size_t i = 0; i < PREFETCHED_LINES; i++) __builtin_prefetch(p->x + (k * PREFETCHED_LINES + i) * WIDTH, 0, 2);
  if (k < 4 * ROWS) __builtin_prefetch(p->y + k / 2 * p->stride + k % 2 * line, 1, 2);
}

/// Adds to a tile of sums the products of two tiles.
#define MULTIPLY(sums, x, w) is_bf16 ? _tile_dpbf16ps(sums, x, w) : _tile_dpbusd(sums, x, w)

/// Adds to the sums of one or two tiles of rows and two tiles of outputs the products of `depth` tiles.
///
/// - sums: Integers, or f32 for bf16, [tiles of rows · ROWS, 2 · ROWS]; rows are `stride` numbers apart.
INLINE void multiply(const bool is_bf16, int32_t *sums, size_t stride, const char *x, const char *w, size_t depth,
                     const bool adds, const bool has_two, const prefetched *next) {
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
    _tile_loadd(4, x, WIDTH);
    _tile_loadd(6, w, WIDTH);
    MULTIPLY(0, 4, 6);
    _tile_loadd(7, w + TILE, WIDTH);
    MULTIPLY(1, 4, 7);
    if (!has_two) continue;
    _tile_loadd(5, x + TILE, WIDTH);
    MULTIPLY(2, 5, 6);
    MULTIPLY(3, 5, 7);
  }
  _tile_stored(0, sums, stride_bytes);
  _tile_stored(1, sums + ROWS, stride_bytes);
  if (has_two) _tile_stored(2, lower, stride_bytes);
  if (has_two) _tile_stored(3, lower + ROWS, stride_bytes);
}

size_t pdrop_tiles_scratch_bytes(size_t rows, size_t row_bytes, size_t outputs) {
  const size_t columns = tiles(outputs, 2 * ROWS) * 2 * ROWS, depth = tiles(row_bytes, WIDTH);
  return columns * depth * WIDTH +
         min_of(tiles(rows, 2 * ROWS) * 2 * ROWS, block_rows(depth)) * columns * sizeof(int32_t);
}

/// The sums of one or two tiles of rows and all outputs of a panel, for `steps` tiles of inputs from tile `k` on.
///
/// - strip: [tiles of rows · ROWS, pairs · 2 · ROWS].
/// - w: The packed weights, [pairs, depth, 2].
INLINE void multiply_strip(const bool is_bf16, int32_t *strip, size_t pairs, const char *x, const char *w, size_t depth,
                           size_t k, size_t steps, const bool has_two, prefetched next) {
  const size_t stride = pairs * 2 * ROWS;
  for (size_t pair = 0; pair < pairs; pair++, strip += 2 * ROWS) {
    const char *const column = w + (pair * depth + k) * 2 * TILE;
    if (k > 0)
      multiply(is_bf16, strip, stride, x, column, steps, true, has_two, &next);
    else
      multiply(is_bf16, strip, stride, x, column, steps, false, has_two, &next);
    next.x += steps * PREFETCHED_LINES * WIDTH;
    next.y += 2 * ROWS;
  }
}

/// Writes the results of one or two tiles of rows, from `row` on.
///
/// - scales: The scales of int8 sums; NULL for f32 sums.
static void finish_strip(const pdrop_results *results, const pdrop_int8_sums *scales, size_t row, const int32_t *strip,
                         size_t stride) {
  pdrop_results part = *results;
  part.y += row * results->stride;
  part.rows = min_of(results->rows - row, 2 * ROWS);
  if (scales) {
    pdrop_int8_sums sums = *scales;
    sums.values = strip;
    sums.stride = stride;
    sums.row_scales += row;
    return pdrop_finish_int8(&part, &sums);
  }
  for (size_t r = 0; r < part.rows; r++) {
    const float *const from = (const float *)(const void *)(strip + r * stride);
    float *const to = part.y + r * part.stride;
    for (size_t i = 0; i < part.count; i++) to[i] = part.adds ? to[i] + from[i] : from[i];
  }
  pdrop_finish(&part);
}

INLINE void gemm(const bool is_bf16, const char *x, const char *w, size_t row_bytes, const pdrop_results *results,
                 const pdrop_int8_sums *scales, void *scratch) {
  const size_t rows = results->rows, depth = tiles(row_bytes, WIDTH), pairs = tiles(results->count, 2 * ROWS),
               stride = pairs * 2 * ROWS, row_step = block_rows(depth);
  const tile_configuration configuration = whole_tiles();
  char *const weights = scratch;
  int32_t *const sums = (int32_t *)(void *)(weights + pairs * 2 * depth * TILE);
  pack_weights(w, row_bytes, results->count, weights);
  _tile_loadconfig(&configuration);
  for (size_t first = 0; first < rows; first += row_step)
    for (size_t k = 0; k < depth; k += BLOCK_DEPTH) {
      const size_t steps = min_of(depth - k, BLOCK_DEPTH);
      for (size_t row = first; row < min_of(first + row_step, rows); row += 2 * ROWS) {
        int32_t *const strip = sums + (row - first) * stride;
        const bool has_two = rows - row > ROWS;
        const char *const from = x + row * depth * WIDTH + k * (has_two ? 2 : 1) * TILE;
        const prefetched next = {from + 2 * depth * TILE, results->y + row * results->stride, results->stride};
        if (has_two)
          multiply_strip(is_bf16, strip, pairs, from, weights, depth, k, steps, true, next);
        else
          multiply_strip(is_bf16, strip, pairs, from, weights, depth, k, steps, false, next);
        if (k + steps == depth) finish_strip(results, scales, row, strip, stride);
      }
    }
  _tile_release();
}

void pdrop_gemm_u8_s8_tiles(const void *x, const void *w, size_t inputs, const pdrop_results *results,
                            const pdrop_int8_sums *scales, void *scratch) {
  gemm(false, x, w, inputs, results, scales, scratch);
}

void pdrop_gemm_bf16_tiles(const void *x, const void *w, size_t inputs, const pdrop_results *results, void *scratch) {
  gemm(true, x, w, 2 * inputs, results, NULL, scratch);
}

#pragma clang attribute pop

#else

// Other processors have no tiles, so these are not called.

size_t pdrop_tiles_scratch_bytes(size_t rows, size_t row_bytes, size_t outputs) {
  (void)rows, (void)row_bytes, (void)outputs;
  return 0;
}

void pdrop_gemm_u8_s8_tiles(const void *x, const void *w, size_t inputs, const pdrop_results *results,
                            const pdrop_int8_sums *scales, void *scratch) {
  (void)x, (void)w, (void)inputs, (void)results, (void)scales, (void)scratch;
}

void pdrop_gemm_bf16_tiles(const void *x, const void *w, size_t inputs, const pdrop_results *results, void *scratch) {
  (void)x, (void)w, (void)inputs, (void)results, (void)scratch;
}

#endif
