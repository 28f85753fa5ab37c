// The small-M GEMM over packed groups. Included once per instruction set.
//
// The including file includes simd.h and defines
//   ROW_TILE              activation rows per pass over a span, at most 8
//   HIGH_IN_PLACE         whether `dots` takes codes of 4 bits in the high halves of bytes, 16 times too large
//   SIGNED_BYTES          whether `dots` subtracts 128 from codes of 8 bits
//   load_f16(p)           LANES f16 values, widened
//   multiply_add(a, b, c) a · b + c
//   dot_pairs(s, w, x)    s plus the products of two 16-bit integers per lane; `x` holds one pair
//   dots(s, rows, u, tiles, x, bits)
//                         adds to s[r] the products of the codes in `u`, of up to `bits` bits, and the values of row r
//
// Sums within a span are integers and exact for types with scales of scales; in Q4_0 and Q8_0 that holds for a block.
// Each output of each row is computed by the same operations in the same order whatever the number of rows.

#include "scales.h"

#define HALVES (ROWS / LANES)
#define UNROLL _Pragma("clang loop unroll(full)")
// Prefetches lines of a span, `distance` bytes ahead of one of its equal parts. For one or two rows, Q4_K and Q5_K need
// none and Q6_K little: their order is foreseen. More rows are read at the same time and hide it. Measured on Zen 4.
#define PREFETCH(w, bytes, distance, part, parts, locality)                                                        \
  do {                                                                                                             \
    const int lines = ((bytes) + TILE * (parts)-1) / (TILE * (parts));                                             \
    const uintptr_t from = (uintptr_t)(w) + (uintptr_t)((distance) + (part)*lines * TILE);                         \
    UNROLL                                                                                                         \
    for (int i = 0; i < lines; i++) __builtin_prefetch((const void *)(from + (uintptr_t)(i * TILE)), 0, locality); \
  } while (0)

INLINE vec_i32 splat_i32(int32_t x) { return x - (vec_i32){}; }

INLINE vec_f32 to_f32(vec_i32 x) { return __builtin_convertvector(x, vec_f32); }

/// Eight tiles of codes: a sub-block of 32 columns.
typedef struct {
  vec_u32 tiles[8];
} codes;

/// total[r] += scale · (offset + codes · values), for all rows; `offsets` holds one integer per row, or is NULL.
INLINE void add_scaled(vec_i32 *total, const int rows, vec_i32 scale, const vec_u32 *u, const int tiles,
                       const input_row *x, int column, const int32_t *offsets, const int bits) {
  UNROLL
  for (int r = 0; r < rows; r += 4) {
    const int count = rows - r < 4 ? rows - r : 4;
    vec_i32 s[4] = {};
    if (offsets) {
      UNROLL
      for (int i = 0; i < count; i++)
        s[i] = splat_i32(*(const int32_t *)((const char *)offsets + (size_t)(r + i) * sizeof *x));
    }
    dots(s, count, u, tiles, x[r].values + column, bits);
    UNROLL
    for (int i = 0; i < count; i++) total[r + i] += scale * s[i];
  }
}

/// Sub-blocks 2 · g and 2 · g + 1 of Q4_K or Q5_K, whose codes share bytes; `words` holds their scales in its low bytes.
INLINE void pair_k(const int bits, const int rows, const uint8_t *low, const uint8_t *high, vec_u32 words, int g,
                   const input_row *x, vec_i32 *total) {
  const int in_place = HIGH_IN_PLACE && bits == 4;
  if (rows > 2) PREFETCH(low, (bits == 5 ? 44 : 36) * TILE, 4096, g, 4, 3);
  codes u;
  UNROLL
  for (int i = 0; i < 8; i++) {
    u.tiles[i] = load_tile(low + (8 * g + i) * TILE) & 0x0F0F0F0F;
    if (bits == 5) u.tiles[i] |= (load_tile(high + i * TILE) >> 2 * g & 0x01010101) << 4;
  }
  add_scaled(total, rows, (vec_i32)((words & 255) << (in_place ? 4 : 0)), u.tiles, 8, x, 64 * g, 0, bits);
  UNROLL
  for (int i = 0; i < 8; i++) {
    const vec_u32 tile = load_tile(low + (8 * g + i) * TILE);
    u.tiles[i] = in_place ? tile & 0xF0F0F0F0 : tile >> 4 & 0x0F0F0F0F;
    if (bits == 5) u.tiles[i] |= (load_tile(high + i * TILE) >> (2 * g + 1) & 0x01010101) << 4;
  }
  add_scaled(total, rows, (vec_i32)(words >> 8 & 255), u.tiles, 8, x, 64 * g + 32, 0, bits);
}

/// One span of Q4_K or Q5_K.
INLINE void span_k(const int bits, const int rows, const uint8_t *w, const int half, const input_row *x,
                   vec_f32 *sums) {
  const uint8_t *const scale_words = w + TILE + half * 4 * LANES, *const high = scale_words + 3 * TILE,
                       *const low = high + (bits == 5 ? 8 * TILE : 0);
  const k_scales s = unpack_k_scales(scale_words);
  vec_i32 total[ROW_TILE], offset[ROW_TILE];
  UNROLL
  for (int r = 0; r < rows; r++) {
    int32_t pairs[4];
    memcpy(pairs, x[r].sums, sizeof pairs);
    offset[r] = splat_i32(0);
    UNROLL
    for (int p = 0; p < 4; p++) offset[r] = dot_pairs(offset[r], (vec_i32)pair_of_minima(&s, p), pairs[p]);
    total[r] = splat_i32(0);
  }
  const int in_place = HIGH_IN_PLACE && bits == 4;
  if (bits == 5 && rows > 2) {
    // With constant shifts of the high bits; a single row is faster with less code.
    UNROLL
    for (int g = 0; g < 4; g++) pair_k(bits, rows, low, high, s.scales[g / 2] >> 16 * (g % 2), g, x, total);
  } else {
    for (int g = 0; g < 4; g++) pair_k(bits, rows, low, high, s.scales[g / 2] >> 16 * (g % 2), g, x, total);
  }
  w += half * 2 * LANES;
  const vec_f32 d = load_f16(w) * (in_place ? 0.0625f : 1), dmin = load_f16(w + 2 * ROWS);
  UNROLL
  for (int r = 0; r < rows; r++) {
    const vec_f32 sum = multiply_add(to_f32(offset[r]), -dmin, to_f32(total[r]) * d);
    sums[r] = multiply_add(sum, splat(x[r].scales[0]), sums[r]);
  }
}

/// One span of Q6_K; `d` is the place of its scales.
INLINE void span_q6_k(const int rows, const uint8_t *w, const uint8_t *d, const int half, const input_row *x,
                      vec_f32 *sums) {
  typedef int8_t vec_s8 __attribute__((vector_size(LANES)));
  vec_i32 total[ROW_TILE];
  UNROLL
  for (int r = 0; r < rows; r++) total[r] = splat_i32(0);
  for (int part = 0; part < 2; part++) {
    const uint8_t *const high = w + (4 + 24 * part) * TILE + half * 4 * LANES, *const low = high + 8 * TILE;
    UNROLL
    for (int k = 0; k < 4; k++) {
      codes u;
      PREFETCH(w, 52 * TILE, rows > 2 ? 4096 : 512, 4 * part + k, 8, 3);
      UNROLL
      for (int i = 0; i < 8; i++) {
        const vec_u32 l = load_tile(low + (8 * (k % 2) + i) * TILE), h = load_tile(high + i * TILE);
        const vec_u32 top = k == 0 ? h << 4 : k == 1 ? h << 2 : k == 2 ? h : h >> 2;
        u.tiles[i] = ((k < 2 ? l : l >> 4) & 0x0F0F0F0F) | (top & 0x30303030);
      }
      UNROLL
      for (int i = 0; i < 2; i++) {
        const int j = 8 * part + 2 * k + i;
        vec_s8 scale;
        memcpy(&scale, w + j * ROWS + half * LANES, sizeof scale);
        add_scaled(total, rows, __builtin_convertvector(scale, vec_i32), u.tiles + 4 * i, 4, x, 16 * j, x->sums_32 + j,
                   6);
      }
    }
  }
  const vec_f32 scale = load_f16(d + half * 2 * LANES);
  UNROLL
  for (int r = 0; r < rows; r++) sums[r] = multiply_add(to_f32(total[r]) * scale, splat(x[r].scales[0]), sums[r]);
}

/// One span of Q4_0 or Q8_0 with `blocks` blocks; `d` is the place of its scales.
INLINE void span_0(const int bits, const int rows, const uint8_t *w, const uint8_t *d, int blocks, const int half,
                   const input_row *x, vec_f32 *sums) {
  w += scale_bytes((size_t)blocks) + half * 4 * LANES, d += half * 2 * LANES;
  for (int j = 0; j < blocks; j++) {
    codes u;
    PREFETCH(w, (bits == 8 ? 68 : 36) * TILE, 4096, j, 8, 2);
    if (bits == 4) {
      UNROLL
      for (int i = 0; i < 4; i++) {
        const vec_u32 tile = load_tile(w + (4 * j + i) * TILE);
        u.tiles[i] = tile & 0x0F0F0F0F, u.tiles[4 + i] = tile >> 4 & 0x0F0F0F0F;
      }
    } else {
      UNROLL
      for (int i = 0; i < 8; i++) u.tiles[i] = load_tile(w + (8 * j + i) * TILE);
    }
    const vec_f32 scale = load_f16(d + 2 * ROWS * j);
    UNROLL
    for (int r = 0; r < rows; r += 4) {
      const int count = rows - r < 4 ? rows - r : 4;
      vec_i32 s[4] = {};
      UNROLL
      for (int i = 0; i < count; i++)
        if (bits == 4 || !SIGNED_BYTES) s[i] = splat_i32(bits == 4 ? x[r + i].sums_8[j] : x[r + i].sums_128[j]);
      dots(s, count, u.tiles, 8, x[r].values + 32 * j, bits);
      UNROLL
      for (int i = 0; i < count; i++)
        sums[r + i] = multiply_add(to_f32(s[i]) * scale, splat(x[r + i].scales[j]), sums[r + i]);
    }
  }
}

/// One span, of any type; `half` selects LANES of the rows of the group.
INLINE void span(const pdrop_block_type type, const int rows, const uint8_t *w, const uint8_t *d, int blocks,
                 const int half, const input_row *x, vec_f32 *sums) {
  switch (type) {
    case pdrop_q4_0: span_0(4, rows, w, d, blocks, half, x, sums); break;
    case pdrop_q8_0: span_0(8, rows, w, d, blocks, half, x, sums); break;
    case pdrop_q4_k: span_k(4, rows, w, half, x, sums); break;
    case pdrop_q5_k: span_k(5, rows, w, half, x, sums); break;
    default: span_q6_k(rows, w, d, half, x, sums); break;
  }
}

INLINE void gemm_of(const pdrop_block_type type, const input_row *input, int input_rows, int rows,
                    const uint8_t *groups, size_t inputs, size_t outputs, float *y, size_t stride, bool add) {
  const size_t bytes = pdrop_group_bytes(type, inputs), span_size = span_bytes(type);
  // Passes of nearly equal numbers of rows.
  const int passes = (rows + ROW_TILE - 1) / ROW_TILE, per_pass = (rows + passes - 1) / passes;
  for (size_t n = 0; n < outputs; n += ROWS, groups += bytes) {
    vec_f32 sums[HALVES][PDROP_MAX_SMALL_ROWS];
    memset(sums, 0, sizeof sums);
    const input_row *x = input;
    for (size_t k = 0; k < inputs; k += SPAN, x += input_rows) {
      const uint8_t *const w = groups + first_span(type, inputs) + k / SPAN * span_size;
      const int blocks = inputs - k < SPAN ? (int)(inputs - k) / 32 : SPAN / 32;
      const uint8_t *const d = type == pdrop_q6_k ? groups + k / SPAN * 2 * ROWS : w;
      for (int half = 0; half < HALVES; half++)
        for (int r = 0; r < rows; r += per_pass) {
          vec_f32 *const to = sums[half] + r;
          switch (rows - r < per_pass ? rows - r : per_pass) {
#define PASS(count) \
  case count: span(type, count, w, d, blocks, half, x + r, to); break
            PASS(1);
            PASS(2);
#if ROW_TILE > 2
            PASS(3);
            PASS(4);
#endif
#if ROW_TILE > 4
            PASS(5);
            PASS(6);
            PASS(7);
            PASS(8);
#endif
#undef PASS
          }
        }
    }
    const int count = outputs - n < ROWS ? (int)(outputs - n) : ROWS;
    for (int r = 0; r < rows; r++) {
      float *const to = y + (size_t)r * stride + n;
      float totals[ROWS];
      for (int half = 0; half < HALVES; half++) store_f32(totals + half * LANES, sums[half][r]);
      for (int i = 0; i < count; i++) to[i] = add ? to[i] + totals[i] : totals[i];
    }
  }
}

static void gemm(pdrop_block_type type, const void *input, int input_rows, int rows, const void *groups, size_t inputs,
                 size_t outputs, float *y, size_t stride, bool add) {
  switch (type) {
#define TYPE(name) \
  case pdrop_##name: gemm_of(pdrop_##name, input, input_rows, rows, groups, inputs, outputs, y, stride, add); break;
    PACKED_TYPES(TYPE)
#undef TYPE
    default: break;
  }
}
