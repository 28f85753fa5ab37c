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

#define UNROLL _Pragma("clang loop unroll(full)")

/// Rows that share the unpacked weights: their activations of a span and their sums stay in the second level cache.
#define BLOCK_ROWS 512
/// The number of rows from which tiles are faster: unpacking takes as long for any number of rows.
#define MIN_TILE_ROWS 9
/// Groups of outputs in a pass, an even number. With many rows, they share the activations of a span in the cache.
#define PASS_GROUPS 16
/// Columns of a part of a span: of a product, at most.
#define DEPTH 64
/// Parts of a span. Vector instructions, which unpack and scale, alternate with the products of a part in tiles, so that
/// both are under way at the same time.
#define PARTS (SPAN / DEPTH)
/// Tiles of codes in a part.
#define DEPTH_TILES (DEPTH / 4)

/// The codes of a span of one group. Codes times scales have high bits in the first array and low bits in the second, for
/// the types with scales of scales; the other types have codes in the first.
typedef struct {
  uint8_t tiles[2][PARTS][DEPTH_TILES * TILE];
} span_codes;

/// The scales of a span of one group.
typedef union {
  /// Of Q4_0 and Q8_0.
  vec_f32 blocks[SPAN / 32];
  /// Of the types with scales of scales.
  struct {
    vec_f32 d, minus_dmin;
    k_scales k;
    vec_u32 pairs_of_minima[4];
  };
} span_scales;

/// The products of one tile of rows and two groups, [product][row][output].
typedef struct {
  int32_t values[16][ROWS][ROWS];
} products;

/// A span of two groups.
typedef struct {
  const uint8_t *groups[2];
  /// The first column.
  size_t k;
  /// Activations of the first row.
  const input_row *x;
  /// Sums of the first group, [row][output].
  float *sums;
} step;

/// All spans of up to `PASS_GROUPS` groups.
typedef struct {
  const uint8_t *groups;
  size_t count, bytes_per_group, spans;
  const input_row *input;
  int input_rows, tiles;
  /// [group][tile][row][output].
  float *sums;
} pass;

INLINE size_t pairs_of(const pass *p) { return (p->count + 1) / 2; }

/// Sums from one group to the next.
INLINE size_t group_stride(const pass *p) { return (size_t)p->tiles * ROWS * ROWS; }

/// A step of a pass; the last one for all larger indices.
INLINE step step_at(const pass *p, size_t index) {
  const size_t pairs = pairs_of(p), last = pairs * p->spans - 1, i = index < last ? index : last;
  // A single tile reads the weights in the order of memory; more of them keep the activations of a span.
  const size_t pair = p->tiles > 1 ? i % pairs : i / p->spans, span = p->tiles > 1 ? i / pairs : i % p->spans;
  const uint8_t *const group = p->groups + 2 * pair * p->bytes_per_group;
  return (step){
      // An odd last group is computed twice.
      .groups = {group, 2 * pair + 1 < p->count ? group + p->bytes_per_group : group},
      .k = span * SPAN,
      .x = p->input + span * (size_t)p->input_rows,
      .sums = p->sums + 2 * pair * group_stride(p),
  };
}

INLINE bool has_blocks(pdrop_block_type type) { return type == pdrop_q4_0 || type == pdrop_q8_0; }

/// Blocks of 32 columns in the span that begins with column k.
INLINE int blocks_at(size_t k, size_t inputs) { return inputs - k < SPAN ? (int)(inputs - k) / 32 : SPAN / 32; }

/// The packed weights of one of the groups.
INLINE const uint8_t *span_of(pdrop_block_type type, const step *s, int group, size_t inputs) {
  return s->groups[group] + first_span(type, inputs) + s->k / SPAN * span_bytes(type);
}

// MARK: - Weights

/// The value in the low byte of each word, in both halves of it.
INLINE __m512i in_both_halves(vec_u32 x) { return (__m512i)(x | x << 16); }

/// Two codes and their factor in each 16 bits; no product exceeds 8 bits.
INLINE vec_u32 multiply_bytes(vec_u32 codes, __m512i factor) {
  return (vec_u32)_mm512_mullo_epi16((__m512i)codes, factor);
}

INLINE void store_tile(uint8_t *to, vec_u32 tile) { memcpy(to, &tile, sizeof tile); }

/// A part of a span of Q4_K or Q5_K. Scales of 6 bits are divided in two parts of 3 bits: codes times parts are below 256.
INLINE void unpack_k(const int bits, const uint8_t *w, const k_scales *scales, int part, span_codes *to) {
  const uint8_t *const high = w + 4 * TILE, *const low = high + (bits == 5 ? 8 * TILE : 0);
  UNROLL
  for (int half = 0; half < 2; half++) {
    const int j = 2 * part + half;
    const vec_u32 scale = scales->scales[part / 2] >> 8 * (j % 4) & 255;
    const __m512i factors[2] = {in_both_halves(scale >> 3), in_both_halves(scale & 7)};
    UNROLL
    for (int i = 0; i < 8; i++) {
      vec_u32 codes = load_tile(low + (part * 8 + i) * TILE) >> (half * 4) & 0x0F0F0F0F;
      if (bits == 5) codes |= (load_tile(high + i * TILE) >> j & 0x01010101) << 4;
      UNROLL
      for (int n = 0; n < 2; n++)
        store_tile(to->tiles[n][part] + (half * 8 + i) * TILE, multiply_bytes(codes, factors[n]));
    }
  }
}

/// The bytes of `b` where a word's byte is odd, those of `a` elsewhere.
INLINE __m512i interleave_bytes(__m512i a, __m512i b) {
  return _mm512_ternarylogic_epi32(_mm512_set1_epi16((short)0xFF00), b, a, 0xCA);
}

/// A part of a span of Q6_K. Products of codes and scales have 13 bits, of which the low 8 have no sign.
INLINE void unpack_q6_k(const uint8_t *w, int part, span_codes *to) {
  const uint8_t *const high = w + (4 + 24 * (part / 2)) * TILE, *const low = high + 8 * TILE;
  UNROLL
  for (int j = 0; j < 4; j++) {
    const int top = part % 2 * 2 + j / 2;
    const vec_u32 scale =
        (vec_u32)_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(w + (4 * part + j) * ROWS))) & 0xFFFF;
    const __m512i even_scales = in_both_halves(scale & 0xFF), odd_scales = _mm512_slli_epi16(even_scales, 8);
    const __m512i offset = _mm512_slli_epi16(in_both_halves(scale), 5);
    UNROLL
    for (int i = j % 2 * 4; i < j % 2 * 4 + 4; i++) {
      const vec_u32 l = load_tile(low + (8 * (top % 2) + i) * TILE), h = load_tile(high + i * TILE);
      const vec_u32 codes = (top < 2 ? l : l >> 4) & 0x0F0F0F0F;
      const vec_u32 high_bits = (top < 2 ? h << (4 - 2 * top) : h >> (2 * top - 4)) & 0x30303030;
      const __m512i all = (__m512i)(codes | high_bits);
      const __m512i even = _mm512_sub_epi16(_mm512_maddubs_epi16(all, even_scales), offset);
      const __m512i odd = _mm512_sub_epi16(_mm512_maddubs_epi16(all, odd_scales), offset);
      const int tile = (j / 2 * 8 + i) * TILE;
      store_tile(to->tiles[0][part] + tile, (vec_u32)interleave_bytes(_mm512_srli_epi16(even, 8), odd));
      store_tile(to->tiles[1][part] + tile, (vec_u32)interleave_bytes(even, _mm512_slli_epi16(odd, 8)));
    }
  }
}

/// A part of a span of Q4_0 or Q8_0 with `blocks` blocks: codes without their offset.
INLINE void unpack_0(const int bits, const uint8_t *w, int blocks, int part, span_codes *to) {
  const uint8_t *const codes = w + scale_bytes((size_t)blocks);
  UNROLL
  for (int half = 0; half < 2; half++) {
    const int j = 2 * part + half;
    if (j >= blocks) return;
    UNROLL
    for (int i = 0; i < 8; i++) {
      const vec_u32 tile = bits == 8 ? load_tile(codes + (8 * j + i) * TILE) ^ 0x80808080
                                     : load_tile(codes + (4 * j + i % 4) * TILE) >> (i / 4 * 4) & 0x0F0F0F0F;
      const __m512i offset = _mm512_set1_epi8(bits == 8 ? 0 : 8);
      store_tile(to->tiles[0][part] + (half * 8 + i) * TILE, (vec_u32)_mm512_sub_epi8((__m512i)tile, offset));
    }
  }
}

INLINE void unpack_scales(const pdrop_block_type type, const step *s, size_t inputs, span_scales to[2]) {
  for (int group = 0; group < 2; group++, to++) {
    const uint8_t *const w = span_of(type, s, group, inputs);
    if (has_blocks(type)) {
      for (int j = 0; j < blocks_at(s->k, inputs); j++) to->blocks[j] = load_f16(w + 2 * ROWS * j);
    } else if (type == pdrop_q6_k) {
      to->d = load_f16(s->groups[group] + s->k / SPAN * 2 * ROWS);
    } else {
      to->d = load_f16(w), to->minus_dmin = -load_f16(w + 2 * ROWS);
      to->k = unpack_k_scales(w + TILE);
      for (int pair = 0; pair < 4; pair++) to->pairs_of_minima[pair] = pair_of_minima(&to->k, pair);
    }
  }
}

INLINE void unpack(const pdrop_block_type type, const step *s, size_t inputs, const span_scales scales[2], int part,
                   span_codes to[2]) {
  for (int group = 0; group < 2; group++, scales++, to++) {
    const uint8_t *const w = span_of(type, s, group, inputs);
    switch (type) {
      case pdrop_q4_0: unpack_0(4, w, blocks_at(s->k, inputs), part, to); break;
      case pdrop_q8_0: unpack_0(8, w, blocks_at(s->k, inputs), part, to); break;
      case pdrop_q4_k: unpack_k(4, w, &scales->k, part, to); break;
      case pdrop_q5_k: unpack_k(5, w, &scales->k, part, to); break;
      default: unpack_q6_k(w, part, to); break;
    }
  }
}

/// Prefetches a part of a span of packed weights: a few lines at a time, as processors fetch few at the same time.
INLINE void prefetch_weights(const pdrop_block_type type, const step *s, size_t inputs, int part) {
  const size_t lines = (span_bytes(type) / TILE + PARTS - 1) / PARTS;
  for (int group = 0; group < 2; group++) {
    const uint8_t *const w = span_of(type, s, group, inputs);
    for (size_t i = 0; i < lines; i++) __builtin_prefetch(w + ((size_t)part * lines + i) * TILE, 0, 2);
  }
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

INLINE void zero_products(void) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

INLINE void store_products(products *p, int first) {
  _tile_stored(0, p->values[first], TILE);
  _tile_stored(1, p->values[first + 1], TILE);
  _tile_stored(2, p->values[first + 2], TILE);
  _tile_stored(3, p->values[first + 3], TILE);
}

/// Adds to a sum the products with high bits, which have a sign in Q6_K.
#define MULTIPLY_HIGH(sum, right) (has_signs ? _tile_dpbssd(sum, 4, right) : _tile_dpbsud(sum, 4, right))

/// Adds a part of a span of two groups to the products in tiles: high and low bits of the first, then of the second.
INLINE void multiply_part(const bool has_signs, const input_row *x, const span_codes w[2], int part) {
  _tile_loadd(4, x->values + part * DEPTH, sizeof *x);
  _tile_loadd(5, w[0].tiles[0][part], TILE);
  MULTIPLY_HIGH(0, 5);
  _tile_loadd(6, w[0].tiles[1][part], TILE);
  _tile_dpbsud(1, 4, 6);
  _tile_loadd(7, w[1].tiles[0][part], TILE);
  MULTIPLY_HIGH(2, 7);
  _tile_loadd(5, w[1].tiles[1][part], TILE);
  _tile_dpbsud(3, 4, 5);
}

/// The products of two blocks of two groups.
INLINE void multiply_blocks(const input_row *x, const span_codes w[2], int part, products *p) {
  zero_products();
  _tile_loadd(4, x->values + part * DEPTH, sizeof *x);
  _tile_loadd(5, w[0].tiles[0][part], TILE);
  _tile_dpbssd(0, 4, 5);
  _tile_loadd(6, w[1].tiles[0][part], TILE);
  _tile_dpbssd(1, 4, 6);
  _tile_loadd(4, x->values + part * DEPTH + 32, sizeof *x);
  _tile_loadd(7, w[0].tiles[0][part] + 8 * TILE, TILE);
  _tile_dpbssd(2, 4, 7);
  _tile_loadd(5, w[1].tiles[0][part] + 8 * TILE, TILE);
  _tile_dpbssd(3, 4, 5);
  store_products(p, 4 * part);
}

// MARK: - Sums

/// Products that are to be scaled and added to sums.
typedef struct {
  const products *products;
  const span_scales *scales;
  const input_row *x;
  /// Of the first group, [row][output]; NULL if there are no products.
  float *sums;
  int blocks;
} unscaled;

INLINE vec_i32 product(const products *p, int index, int row) {
  vec_i32 x;
  memcpy(&x, p->values[index][row], sizeof x);
  return x;
}

INLINE vec_f32 to_f32(vec_i32 x) { return __builtin_convertvector(x, vec_f32); }

/// Adds the products of a share of the rows, scaled, to their sums.
INLINE void add_rows(const pdrop_block_type type, const unscaled *u, int first, int end, size_t group_stride) {
  UNROLL
  for (int group = 0; group < 2; group++) {
    const span_scales scales = u->scales[group];
    float *sums = u->sums + (size_t)group * group_stride + first * ROWS;
    for (int r = first; r < end; r++, sums += ROWS) {
      const input_row *const x = u->x + r;
      vec_f32 sum = load_f32(sums);
      if (has_blocks(type)) {
        for (int j = 0; j < u->blocks; j++)
          sum =
              multiply_add(to_f32(product(u->products, 2 * j + group, r)) * scales.blocks[j], splat(x->scales[j]), sum);
      } else {
        const vec_i32 high = product(u->products, 2 * group, r), low = product(u->products, 2 * group + 1, r);
        vec_f32 scaled = to_f32((high << (type == pdrop_q6_k ? 8 : 3)) + low) * scales.d;
        if (type != pdrop_q6_k) {
          __m512i offset = _mm512_setzero_si512();
          UNROLL
          for (int pair = 0; pair < 4; pair++) {
            int32_t values;
            memcpy(&values, x->sums + 2 * pair, sizeof values);
            offset = _mm512_dpwssd_epi32(offset, (__m512i)scales.pairs_of_minima[pair], _mm512_set1_epi32(values));
          }
          scaled = multiply_add(to_f32((vec_i32)offset), scales.minus_dmin, scaled);
        }
        sum = multiply_add(scaled, splat(x->scales[0]), sum);
      }
      store_f32(sums, sum);
    }
  }
}

/// The sums of a pass, for tiles of `rows` rows.
INLINE void sum_pass(const pdrop_block_type type, const pass *p, int rows, size_t inputs) {
  span_codes codes[2];
  // Of the products before, of these and of the next.
  span_scales scales[3][2];
  products buffers[2];
  step now = step_at(p, 0), next;
  unpack_scales(type, &now, inputs, scales[0]);
  for (int part = 0; part < PARTS; part++) unpack(type, &now, inputs, scales[0], part, codes);
  unscaled before = {};
  for (size_t i = 0; i < pairs_of(p) * p->spans; i++, now = next) {
    const step later = step_at(p, i + 2);
    const int blocks = blocks_at(now.k, inputs);
    next = step_at(p, i + 1);
    unpack_scales(type, &next, inputs, scales[(i + 1) % 3]);
    for (int t = 0; t < p->tiles; t++) {
      const bool is_last = t == p->tiles - 1;
      const input_row *const x = now.x + t * rows;
      products *const to = &buffers[(i * (size_t)p->tiles + (size_t)t) % 2];
      if (!has_blocks(type)) zero_products();
      UNROLL
      for (int part = 0; part < PARTS; part++) {
        if (!has_blocks(type))
          multiply_part(type == pdrop_q6_k, x, codes, part);
        else if (2 * part < blocks)
          multiply_blocks(x, codes, part, to);
        // The codes of this part are no longer needed.
        if (is_last) unpack(type, &next, inputs, scales[(i + 1) % 3], part, codes);
        if (is_last) prefetch_weights(type, &later, inputs, part);
        if (before.sums) add_rows(type, &before, part * rows / PARTS, (part + 1) * rows / PARTS, group_stride(p));
      }
      if (!has_blocks(type)) store_products(to, 0);
      before = (unscaled){to, scales[i % 3], x, now.sums + t * ROWS * ROWS, blocks};
    }
  }
  add_rows(type, &before, 0, rows, group_stride(p));
}

/// Writes the sums of one group as `width` columns of the result.
INLINE void store_sums(const float *sums, int tiles, int rows, float *y, size_t stride, size_t width, bool add) {
  for (int t = 0; t < tiles; t++)
    for (int r = 0; r < rows; r++) {
      const float *const from = sums + (t * ROWS + r) * ROWS;
      float *const to = y + (size_t)(t * rows + r) * stride;
      for (size_t i = 0; i < width; i++) to[i] = add ? to[i] + from[i] : from[i];
    }
}

/// The result for `tiles` tiles of `rows` rows each.
INLINE void gemm_of(const pdrop_block_type type, const input_row *input, int input_rows, int tiles, int rows,
                    const uint8_t *groups, size_t inputs, size_t outputs, float *y, size_t stride, bool add,
                    float *sums) {
  const size_t bytes = pdrop_group_bytes(type, inputs), count = (outputs + ROWS - 1) / ROWS;
  for (size_t n = 0; n < count; n += PASS_GROUPS) {
    const pass p = {
        .groups = groups + n * bytes,
        .count = count - n < PASS_GROUPS ? count - n : PASS_GROUPS,
        .bytes_per_group = bytes,
        .spans = (inputs + SPAN - 1) / SPAN,
        .input = input,
        .input_rows = input_rows,
        .tiles = tiles,
        .sums = sums,
    };
    memset(sums, 0, 2 * pairs_of(&p) * group_stride(&p) * sizeof(float));
    sum_pass(type, &p, rows, inputs);
    for (size_t g = 0; g < p.count; g++) {
      const size_t first = (n + g) * ROWS;
      store_sums(sums + g * group_stride(&p), tiles, rows, y + first, stride,
                 outputs - first < ROWS ? outputs - first : ROWS, add);
    }
  }
}

static void gemm(pdrop_block_type type, const void *input, int input_rows, int tiles, int rows, const void *groups,
                 size_t inputs, size_t outputs, float *y, size_t stride, bool add, void *sums) {
  configure_tiles(rows, has_blocks(type) ? 32 : DEPTH);
  switch (type) {
#define TYPE(name)                                                                                        \
  case pdrop_##name:                                                                                      \
    gemm_of(pdrop_##name, input, input_rows, tiles, rows, groups, inputs, outputs, y, stride, add, sums); \
    break;
    PACKED_TYPES(TYPE)
#undef TYPE
    default: break;
  }
  _tile_release();
}

size_t pdrop_block_tiles_scratch_bytes(int rows, size_t outputs) {
  const size_t tiles = ((size_t)(rows < BLOCK_ROWS ? rows : BLOCK_ROWS) + ROWS - 1) / ROWS;
  const size_t groups = (outputs + 2 * ROWS - 1) / (2 * ROWS) * 2;
  return tiles * (groups < PASS_GROUPS ? groups : PASS_GROUPS) * ROWS * ROWS * sizeof(float);
}

void pdrop_gemm_block_tiles(pdrop_block_type type, const void *input, int rows, const void *groups, size_t inputs,
                            size_t outputs, float *y, size_t stride, bool add, void *scratch) {
  for (int first = 0; first < rows;) {
    const input_row *const x = (const input_row *)input + first;
    const int rest = rows - first < BLOCK_ROWS ? rows - first : BLOCK_ROWS, tiles = rest / ROWS;
    const int count = tiles > 0 ? tiles * ROWS : rest;
    float *const to = y + (size_t)first * stride;
    if (count < MIN_TILE_ROWS)
      pdrop_block_kernels_avx512_vnni.gemm(type, x, rows, count, groups, inputs, outputs, to, stride, add);
    else
      gemm(type, x, rows, tiles > 0 ? tiles : 1, tiles > 0 ? ROWS : rest, groups, inputs, outputs, to, stride, add,
           scratch);
    first += count;
  }
}

#pragma clang attribute pop

#endif
