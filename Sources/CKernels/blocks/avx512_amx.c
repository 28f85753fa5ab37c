// Block kernels in AMX tiles, for more than a few rows.
//
// A tile of codes is a right operand as it is stored. In Q4_0 and Q8_0, a product has 32 columns, since each block has a
// scale. In the other types, a sub-block's scale is an integer, which is multiplied into the codes. The result has more
// than 8 bits, so it is divided in two parts of 8 bits, and a product of all columns of a span is made of each. The sums
// are the integers of the other kernels, and so are the bits of the results.

#if defined(__x86_64__)

#include <immintrin.h>

#include "../tiles.h"
#include "kernels.h"
#include "layout.h"

#pragma clang attribute push(                                                                           \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,evex512,amx-tile,amx-int8"))), \
    apply_to = function)

#include "avx512.h"
#include "scales.h"

/// Rows that share the unpacked weights: their activations of a span and their sums stay in the second level cache.
#define BLOCK_ROWS 512
/// Groups of outputs that share the activations of a span in the cache.
#define PASS_GROUPS 16
/// Columns of a product, at most.
#define DEPTH 64
/// Tiles of codes in a product.
#define DEPTH_TILES (DEPTH / 4)

/// A span of one group, ready for products.
typedef struct {
  /// Codes times scales, in two parts, for the types with scales of scales; the other types have codes in the first.
  uint8_t tiles[2][SPAN / DEPTH][DEPTH_TILES * TILE];
  union {
    /// Scales of blocks.
    vec_f32 blocks[SPAN / 32];
    /// Scales of the span.
    struct {
      vec_f32 d, dmin;
      k_scales k;
    };
  } scales;
} weights;

/// The products of one tile of rows and two groups, [product][row][output].
typedef struct {
  int32_t values[16][ROWS][ROWS];
} products;

// MARK: - Weights

/// The value in the low byte of each word, in both halves of it.
INLINE __m512i in_both_halves(vec_u32 x) { return (__m512i)(x | x << 16); }

/// Two codes and their factor in each 16 bits; no product exceeds 8 bits.
INLINE vec_u32 multiply_bytes(vec_u32 codes, __m512i factor) {
  return (vec_u32)_mm512_mullo_epi16((__m512i)codes, factor);
}

INLINE void store_tile(uint8_t *to, vec_u32 tile) { memcpy(to, &tile, sizeof tile); }

/// A span of Q4_K or Q5_K. Scales of 6 bits are divided in two parts of 3 bits: codes times parts are below 256.
INLINE void unpack_k(const int bits, const uint8_t *w, weights *to) {
  const uint8_t *const high = w + 4 * TILE, *const low = high + (bits == 5 ? 8 * TILE : 0);
  to->scales.d = load_f16(w), to->scales.dmin = load_f16(w + 2 * ROWS);
  to->scales.k = unpack_k_scales(w + TILE);
  for (int j = 0; j < 8; j++) {
    const vec_u32 scale = to->scales.k.scales[j / 4] >> 8 * (j % 4) & 255;
    const __m512i factors[2] = {in_both_halves(scale >> 3), in_both_halves(scale & 7)};
    for (int i = 0; i < 8; i++) {
      vec_u32 codes = load_tile(low + (j / 2 * 8 + i) * TILE) >> (j % 2 * 4) & 0x0F0F0F0F;
      if (bits == 5) codes |= (load_tile(high + i * TILE) >> j & 0x01010101) << 4;
      for (int part = 0; part < 2; part++)
        store_tile(to->tiles[part][j / 2] + (j % 2 * 8 + i) * TILE, multiply_bytes(codes, factors[part]));
    }
  }
}

/// A span of Q6_K; `d` is the place of its scales. Products of 14 bits are divided in 7 low bits and the others.
INLINE void unpack_q6_k(const uint8_t *w, const uint8_t *d, weights *to) {
  to->scales.d = load_f16(d);
  for (int j = 0; j < 16; j++) {
    const int half = j / 8, k = j % 8 / 2;
    const uint8_t *const high = w + (4 + 24 * half) * TILE, *const low = high + 8 * TILE;
    const __m512i bytes = _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(w + j * ROWS)));
    const __m512i factor = in_both_halves((vec_u32)bytes & 0xFFFF);
    for (int i = j % 2 * 4; i < j % 2 * 4 + 4; i++) {
      const vec_u32 l = load_tile(low + (8 * (k % 2) + i) * TILE), h = load_tile(high + i * TILE);
      const vec_u32 codes = ((k < 2 ? l : l >> 4) & 0x0F0F0F0F) | ((k == 0   ? h << 4
                                                                    : k == 1 ? h << 2
                                                                    : k == 2 ? h
                                                                             : h >> 2) &
                                                                   0x30303030);
      const __m512i offset = _mm512_set1_epi16(32), low_byte = _mm512_set1_epi16(0xFF), seven = _mm512_set1_epi8(0x7F);
      const __m512i even =
          _mm512_mullo_epi16(_mm512_sub_epi16(_mm512_and_si512((__m512i)codes, low_byte), offset), factor);
      const __m512i odd = _mm512_mullo_epi16(_mm512_sub_epi16(_mm512_srli_epi16((__m512i)codes, 8), offset), factor);
      const __mmask64 odd_bytes = 0xAAAAAAAAAAAAAAAA;
      const __m512i lows = _mm512_mask_blend_epi8(odd_bytes, even, _mm512_slli_epi16(odd, 8));
      const __m512i highs = _mm512_mask_blend_epi8(odd_bytes, _mm512_srai_epi16(even, 7),
                                                   _mm512_slli_epi16(_mm512_srai_epi16(odd, 7), 8));
      uint8_t *const low_part = to->tiles[1][j / 4] + (j % 4 * 4 + i % 4) * TILE;
      store_tile(to->tiles[0][j / 4] + (j % 4 * 4 + i % 4) * TILE, (vec_u32)highs);
      store_tile(low_part, (vec_u32)_mm512_and_si512(lows, seven));
    }
  }
}

/// A span of Q4_0 or Q8_0 with `blocks` blocks: codes without their offset.
INLINE void unpack_0(const int bits, const uint8_t *w, int blocks, weights *to) {
  const uint8_t *codes = w + scale_bytes((size_t)blocks);
  for (int j = 0; j < blocks; j++) {
    uint8_t *const tiles = to->tiles[0][0] + j * 8 * TILE;
    to->scales.blocks[j] = load_f16(w + 2 * ROWS * j);
    for (int i = 0; i < 8; i++) {
      const vec_u32 tile = bits == 8 ? load_tile(codes + (8 * j + i) * TILE) ^ 0x80808080
                                     : load_tile(codes + (4 * j + i % 4) * TILE) >> (i / 4 * 4) & 0x0F0F0F0F;
      const __m512i offset = _mm512_set1_epi8(bits == 8 ? 0 : 8);
      store_tile(tiles + i * TILE, (vec_u32)_mm512_sub_epi8((__m512i)tile, offset));
    }
  }
}

INLINE void unpack(const pdrop_block_type type, const uint8_t *group, size_t k, size_t inputs, weights *to) {
  const uint8_t *const w = group + first_span(type, inputs) + k / SPAN * span_bytes(type);
  const int blocks = inputs - k < SPAN ? (int)(inputs - k) / 32 : SPAN / 32;
  switch (type) {
    case pdrop_q4_0: unpack_0(4, w, blocks, to); break;
    case pdrop_q8_0: unpack_0(8, w, blocks, to); break;
    case pdrop_q4_k: unpack_k(4, w, to); break;
    case pdrop_q5_k: unpack_k(5, w, to); break;
    default: unpack_q6_k(w, group + k / SPAN * 2 * ROWS, to); break;
  }
}

/// Prefetches a span into the second level cache.
INLINE void prefetch_span(const pdrop_block_type type, const uint8_t *group, size_t k, size_t inputs) {
  const uintptr_t w = (uintptr_t)group + first_span(type, inputs) + k / SPAN * span_bytes(type);
  for (size_t i = 0; i < span_bytes(type); i += TILE) __builtin_prefetch((const void *)(w + i), 0, 2);
}

// MARK: - Products

/// Sums are in tiles 0 to 3, activations in 4, weights in 5 to 7.
INLINE void configure_tiles(int rows, int depth) {
  tile_configuration configuration = {.palette = 1};
  for (int t = 0; t < 8; t++) {
    configuration.rows[t] = (uint8_t)(t < 5 ? rows : depth / 4);
    configuration.row_bytes[t] = (uint16_t)(t == 4 ? depth : TILE);
  }
  _tile_loadconfig(&configuration);
}

#define MULTIPLY(sum, right)       \
  do {                             \
    if (has_signs)                 \
      _tile_dpbssd(sum, 4, right); \
    else                           \
      _tile_dpbsud(sum, 4, right); \
  } while (0)

/// Sums of both parts of two groups over a span, in tiles 0 to 3.
INLINE void multiply_span(const bool has_signs, const input_row *x, const weights *w) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int k = 0; k < SPAN / DEPTH; k++) {
    _tile_loadd(4, x->values + k * DEPTH, sizeof *x);
    _tile_loadd(5, w[0].tiles[0][k], TILE);
    MULTIPLY(0, 5);
    _tile_loadd(6, w[0].tiles[1][k], TILE);
    MULTIPLY(1, 6);
    _tile_loadd(7, w[1].tiles[0][k], TILE);
    MULTIPLY(2, 7);
    _tile_loadd(5, w[1].tiles[1][k], TILE);
    MULTIPLY(3, 5);
  }
}

INLINE void store_products(products *p, int first) {
  _tile_stored(0, p->values[first], TILE);
  _tile_stored(1, p->values[first + 1], TILE);
  _tile_stored(2, p->values[first + 2], TILE);
  _tile_stored(3, p->values[first + 3], TILE);
}

/// Sums of blocks j and j + 1 of two groups.
INLINE void multiply_blocks(const input_row *x, const weights *w, int j) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int i = 0; i < 2; i++) {
    _tile_loadd(4, x->values + (j + i) * 32, sizeof *x);
    _tile_loadd(5, w[0].tiles[0][0] + (j + i) * 8 * TILE, TILE);
    _tile_loadd(6, w[1].tiles[0][0] + (j + i) * 8 * TILE, TILE);
    if (i == 0) {
      _tile_dpbssd(0, 4, 5);
      _tile_dpbssd(1, 4, 6);
    } else {
      _tile_dpbssd(2, 4, 5);
      _tile_dpbssd(3, 4, 6);
    }
  }
}

// MARK: - Sums

INLINE vec_i32 product(const products *p, int index, int row) {
  vec_i32 x;
  memcpy(&x, p->values[index][row], sizeof x);
  return x;
}

INLINE vec_f32 to_f32(vec_i32 x) { return __builtin_convertvector(x, vec_f32); }

/// Adds the span's products of one group, scaled, to its sums, [row][output].
INLINE void add_products(const pdrop_block_type type, const products *p, int group, const weights *w, int blocks,
                         const input_row *x, int rows, float *sums) {
  for (int r = 0; r < rows; r++, sums += ROWS) {
    vec_f32 sum = load_f32(sums);
    if (type == pdrop_q4_0 || type == pdrop_q8_0) {
      for (int j = 0; j < blocks; j++)
        sum = multiply_add(to_f32(product(p, 2 * j + group, r)) * w->scales.blocks[j], splat(x[r].scales[j]), sum);
    } else {
      const vec_i32 high = product(p, 2 * group, r), low = product(p, 2 * group + 1, r);
      vec_f32 scaled = to_f32((high << (type == pdrop_q6_k ? 7 : 3)) + low) * w->scales.d;
      if (type != pdrop_q6_k) {
        __m512i offset = _mm512_setzero_si512();
        for (int pair = 0; pair < 4; pair++) {
          int32_t values;
          memcpy(&values, x[r].sums + 2 * pair, sizeof values);
          offset = _mm512_dpwssd_epi32(offset, (__m512i)pair_of_minima(&w->scales.k, pair), _mm512_set1_epi32(values));
        }
        scaled = multiply_add(to_f32((vec_i32)offset), -w->scales.dmin, scaled);
      }
      sum = multiply_add(scaled, splat(x[r].scales[0]), sum);
    }
    store_f32(sums, sum);
  }
}

/// The products of a span for tiles of rows that are `tile_stride` rows of activations apart, and for two groups.
INLINE void add_span(const pdrop_block_type type, const weights *w, int blocks, const input_row *x, size_t tile_stride,
                     int tiles, int rows, float *sums, size_t group_stride) {
  products p;
  const bool has_blocks = type == pdrop_q4_0 || type == pdrop_q8_0;
  for (int t = 0; t <= tiles; t++, x += tile_stride) {
    const bool has_tile = t < tiles;
    if (has_tile && !has_blocks) multiply_span(type == pdrop_q6_k, x, w);
    // While these products are made, those before them are scaled.
    if (t > 0)
      for (int group = 0; group < 2; group++)
        add_products(type, &p, group, w + group, blocks, x - tile_stride, rows,
                     sums + group * group_stride + (size_t)(t - 1) * ROWS * ROWS);
    if (!has_tile) break;
    if (has_blocks)
      for (int j = 0; j < blocks; j += 2) {
        multiply_blocks(x, w, j);
        store_products(&p, 2 * j);
      }
    else
      store_products(&p, 0);
  }
}

/// The result for `tiles` tiles of `rows` rows each. The inputs of the tiles follow each other, each as
/// `pdrop_quantize_block_input` writes it for `rows` rows.
INLINE void gemm_of(const pdrop_block_type type, const input_row *input, int tiles, int rows, const uint8_t *groups,
                    size_t inputs, size_t outputs, float *y, size_t stride, bool add, float *sums) {
  const size_t bytes = pdrop_group_bytes(type, inputs), count = (outputs + ROWS - 1) / ROWS;
  const size_t tile_stride = (inputs + SPAN - 1) / SPAN * (size_t)rows, group_stride = (size_t)tiles * ROWS * ROWS;
  // A single tile reads the weights from memory, in their order.
  const size_t per_pass = tiles > 1 ? PASS_GROUPS : 2;
  weights w[2];
  for (size_t n = 0; n < count; n += per_pass) {
    const size_t pass = count - n < per_pass ? count - n : per_pass;
    memset(sums, 0, (pass + 1) / 2 * 2 * group_stride * sizeof(float));
    const input_row *x = input;
    for (size_t k = 0; k < inputs; k += SPAN, x += rows) {
      const int blocks = inputs - k < SPAN ? (int)(inputs - k) / 32 : SPAN / 32;
      for (size_t g = 0; g < pass; g += 2) {
        const uint8_t *const group = groups + (n + g) * bytes;
        // In a pass over many rows, the next groups are needed next; in one over a single tile, the next spans.
        const size_t distance = tiles > 1 ? 2 * bytes : 2 * span_bytes(type);
        prefetch_span(type, group + distance, k, inputs);
        prefetch_span(type, group + bytes + distance, k, inputs);
        unpack(type, group, k, inputs, w);
        // An odd last group is computed twice.
        unpack(type, g + 1 < pass ? group + bytes : group, k, inputs, w + 1);
        add_span(type, w, blocks, x, tile_stride, tiles, rows, sums + g * group_stride, group_stride);
      }
    }
    for (size_t g = 0; g < pass; g++) {
      const size_t first = (n + g) * ROWS, width = outputs - first < ROWS ? outputs - first : ROWS;
      for (int t = 0; t < tiles; t++)
        for (int r = 0; r < rows; r++) {
          const float *const from = sums + g * group_stride + (size_t)(t * ROWS + r) * ROWS;
          float *const to = y + (size_t)(t * rows + r) * stride + first;
          for (size_t i = 0; i < width; i++) to[i] = add ? to[i] + from[i] : from[i];
        }
    }
  }
}

static void gemm(pdrop_block_type type, const void *input, int tiles, int rows, const void *groups, size_t inputs,
                 size_t outputs, float *y, size_t stride, bool add, void *sums) {
  configure_tiles(rows, type == pdrop_q4_0 || type == pdrop_q8_0 ? 32 : DEPTH);
  switch (type) {
#define TYPE(name) \
  case pdrop_##name: gemm_of(pdrop_##name, input, tiles, rows, groups, inputs, outputs, y, stride, add, sums); break
    TYPE(q4_0);
    TYPE(q8_0);
    TYPE(q4_k);
    TYPE(q5_k);
    TYPE(q6_k);
#undef TYPE
    default: break;
  }
  _tile_release();
}

/// The number of rows from which tiles are faster: unpacking takes as long for any number of rows, and longest for Q6_K.
static inline int min_tile_rows(pdrop_block_type type) { return type == pdrop_q6_k ? ROWS + 1 : 12; }

size_t pdrop_block_tiles_scratch_bytes(int rows, size_t outputs) {
  const size_t tiles = ((size_t)(rows < BLOCK_ROWS ? rows : BLOCK_ROWS) + ROWS - 1) / ROWS;
  const size_t groups = (outputs + 2 * ROWS - 1) / (2 * ROWS) * 2;
  return tiles * (groups < PASS_GROUPS ? groups : PASS_GROUPS) * ROWS * ROWS * sizeof(float);
}

void pdrop_gemm_block_tiles(pdrop_block_type type, const void *input, int rows, const void *groups, size_t inputs,
                            size_t outputs, float *y, size_t stride, bool add, void *scratch) {
  for (int first = 0; first < rows;) {
    const void *const x = (const char *)input + pdrop_block_input_bytes(first, inputs);
    const int rest = rows - first < BLOCK_ROWS ? rows - first : BLOCK_ROWS, tiles = rest / ROWS;
    const int count = tiles > 0 ? tiles * ROWS : rest;
    float *const to = y + (size_t)first * stride;
    if (count < min_tile_rows(type))
      pdrop_block_kernels_avx512_vnni.gemm(type, x, count, groups, inputs, outputs, to, stride, add);
    else
      gemm(type, x, tiles > 0 ? tiles : 1, tiles > 0 ? ROWS : rest, groups, inputs, outputs, to, stride, add, scratch);
    first += count;
  }
}

#pragma clang attribute pop

#endif
