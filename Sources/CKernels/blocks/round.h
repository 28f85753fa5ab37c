// Rounding of packed groups to row-major int8 and bf16. Included once per instruction set, after gemm.h.
//
// The including file also defines
//   add_bytes(s, words)             s plus the four signed bytes of each word
//   store_rows(words, to, stride, count)
//                                   16 tiles of words as rows of 64 bytes, `stride` bytes apart; the first `count` rows

/// A sub-block of 32 columns: weight = scale · code - offset, with one scale and offset per 16 columns.
///
/// For all types, the product is exact in f32, so fusing it with the subtraction changes no bit.
typedef struct {
  codes codes;
  vec_f32 scale[2], offset[2];
} sub_block;

/// The same NaN for every NaN, so that rounding carries no mantissa into the sign.
INLINE vec_f32 load_scales(const uint8_t *from) {
  const vec_f32 d = load_f16(from);
  return blend(d == d, d, splat(__builtin_nanf("")));
}

/// Unpacks sub-block `j` of a span with `blocks` sub-blocks.
INLINE void unpack(const pdrop_block_type type, const uint8_t *w, const uint8_t *d, int blocks, int j, const int half,
                   sub_block *to) {
  const uint8_t *const words = w + half * 4 * LANES, *const codes = words + scale_bytes((size_t)blocks);
  vec_u32 *const u = to->codes.tiles;
  if (type == pdrop_q4_0 || type == pdrop_q8_0) {
    UNROLL
    for (int i = 0; i < 8; i++)
      u[i] = type == pdrop_q8_0 ? load_tile(codes + (8 * j + i) * TILE)
                                : load_tile(codes + (4 * j + i % 4) * TILE) >> i / 4 * 4 & 0x0F0F0F0F;
    to->scale[0] = load_scales(d + 2 * (ROWS * j + half * LANES));
    to->offset[0] = to->scale[0] * (type == pdrop_q8_0 ? 128.0f : 8.0f);
    to->scale[1] = to->scale[0], to->offset[1] = to->offset[0];
  } else if (type == pdrop_q6_k) {
    typedef int8_t vec_s8 __attribute__((vector_size(LANES)));
    const int part = j / 4, k = j % 4;
    const uint8_t *const high = words + (4 + 24 * part) * TILE, *const low = high + 8 * TILE;
    UNROLL
    for (int i = 0; i < 8; i++) {
      const vec_u32 l = load_tile(low + (8 * (k % 2) + i) * TILE) >> (k & 2) * 2,
                    h = load_tile(high + i * TILE) >> 2 * k;
      u[i] = (l & 0x0F0F0F0F) | (h & 0x03030303) << 4;
    }
    const vec_f32 scale = load_scales(d + half * 2 * LANES);
    UNROLL
    for (int i = 0; i < 2; i++) {
      vec_s8 s;
      memcpy(&s, w + (2 * j + i) * ROWS + half * LANES, sizeof s);
      to->scale[i] = scale * __builtin_convertvector(s, vec_f32);
      to->offset[i] = to->scale[i] * 32;
    }
  } else {
    const int bits = type == pdrop_q5_k ? 5 : 4;
    const uint8_t *const high = words + 4 * TILE, *const low = high + (bits == 5 ? 8 * TILE : 0);
    UNROLL
    for (int i = 0; i < 8; i++) {
      u[i] = load_tile(low + (8 * (j / 2) + i) * TILE) >> 4 * (j % 2) & 0x0F0F0F0F;
      if (bits == 5) u[i] |= (load_tile(high + i * TILE) >> j & 0x01010101) << 4;
    }
    const vec_u32 a = load_tile(words + TILE), b = load_tile(words + 2 * TILE), c = load_tile(words + 3 * TILE);
    const int shift = 8 * (j % 4);
    const vec_u32 scale = j < 4 ? a >> shift & 63 : (c >> shift & 15) | (a >> shift & 192) >> 2;
    const vec_u32 minimum = j < 4 ? b >> shift & 63 : (c >> shift >> 4 & 15) | (b >> shift & 192) >> 2;
    to->scale[0] = load_scales(w + half * 2 * LANES) * to_f32((vec_i32)scale);
    to->offset[0] = load_scales(w + 2 * ROWS + half * 2 * LANES) * to_f32((vec_i32)minimum);
    to->scale[1] = to->scale[0], to->offset[1] = to->offset[0];
  }
}

typedef uint8_t vec_bytes __attribute__((vector_size(4 * LANES)));

/// The largest and the smallest byte of each word.
INLINE vec_i32 largest_byte(vec_bytes x) {
  x = __builtin_elementwise_max(x, (vec_bytes)((vec_u32)x >> 16));
  return (vec_i32)((vec_u32)__builtin_elementwise_max(x, (vec_bytes)((vec_u32)x >> 8)) & 255);
}

INLINE vec_i32 smallest_byte(vec_bytes x) { return 255 - largest_byte(~x); }

/// A code of each row, at byte `c` of its word, as a weight.
INLINE vec_f32 weight_at(vec_u32 tile, int c, vec_f32 scale, vec_f32 minus_offset) {
  return multiply_add(to_f32((vec_i32)(c == 3 ? tile >> 24 : tile >> 8 * c & 255)), scale, minus_offset);
}

/// Runs a body for each sub-block `s` at column `k` of half a group.
#define FOR_SUB_BLOCKS(type, group, inputs, half)                                            \
  for (size_t k = 0; k < inputs; k += SPAN) {                                                \
    const int blocks = inputs - k < SPAN ? (int)(inputs - k) / 32 : SPAN / 32;               \
    const uint8_t *const w = group + first_span(type, inputs) + k / SPAN * span_bytes(type); \
    const uint8_t *const d = type == pdrop_q6_k ? group + k / SPAN * 2 * ROWS : w;           \
    for (int j = 0; j < blocks; j++) {                                                       \
      sub_block s;                                                                           \
      unpack(type, w, d, blocks, j, half, &s);

#define END_SUB_BLOCKS \
  }                    \
  }

INLINE void group_scales_of(const pdrop_block_type type, const uint8_t *group, size_t inputs, float *scales) {
  for (int half = 0; half < HALVES; half++) {
    vec_u32 largest = {};
    FOR_SUB_BLOCKS(type, group, inputs, half)
    UNROLL
    for (int i = 0; i < 2; i++) {
      vec_bytes high = (vec_bytes)s.codes.tiles[4 * i], low = high;
      UNROLL
      for (int v = 1; v < 4; v++) {
        high = __builtin_elementwise_max(high, (vec_bytes)s.codes.tiles[4 * i + v]);
        low = __builtin_elementwise_min(low, (vec_bytes)s.codes.tiles[4 * i + v]);
      }
      // Weights at the two ends; NaN ranks above infinity, as its bits do.
      const vec_f32 top = multiply_add(to_f32(largest_byte(high)), s.scale[i], -s.offset[i]);
      const vec_f32 bottom = multiply_add(to_f32(smallest_byte(low)), s.scale[i], -s.offset[i]);
      largest = __builtin_elementwise_max(largest, (vec_u32)top & 0x7FFFFFFF);
      largest = __builtin_elementwise_max(largest, (vec_u32)bottom & 0x7FFFFFFF);
    }
    END_SUB_BLOCKS
    store_f32(scales + half * LANES, (vec_f32)largest / 127);
  }
}

/// Stores `tiles` tiles of words as rows; 16 tiles are rows of 64 bytes.
INLINE void store_tiles(const vec_u32 *words, int tiles, uint8_t *to, size_t stride, int count) {
  if (tiles == 16) {
    store_rows(words, to, stride, count);
    return;
  }
  for (int r = 0; r < count; r++)
    for (int i = 0; i < tiles; i++) {
      const uint32_t word = words[i][r];
      memcpy(to + (size_t)r * stride + 4 * i, &word, 4);
    }
}

/// Rows of a group that start at lane 0 of `half`.
static inline int rows_in_half(int count, int half) {
  const int rows = count - half * LANES;
  return rows < 0 ? 0 : rows < LANES ? rows : LANES;
}

INLINE void round_to_s8_of(const pdrop_block_type type, const uint8_t *group, size_t inputs, int count,
                           const float *scales, int8_t *values, int32_t *sums) {
  for (int half = 0; half < HALVES && half * LANES < count; half++) {
    const int rows = rows_in_half(count, half);
    float inverses[LANES] = {0};
    for (int r = 0; r < rows; r++) {
      const float scale = scales[half * LANES + r];
      // Not finite or too small to invert: zeros.
      inverses[r] = scale > 0x1p-126f && scale < __builtin_inff() ? 1 / scale : 0;
    }
    const vec_f32 inverse = load_f32(inverses);
    vec_i32 sum = {};
    vec_u32 words[16];
    uint8_t *to = (uint8_t *)values + (size_t)(half * LANES) * inputs;
    FOR_SUB_BLOCKS(type, group, inputs, half)
    const int first = j % 2 * 8;
    UNROLL
    for (int i = 0; i < 8; i++) {
      const vec_f32 scale = s.scale[i / 4] * inverse, offset = -s.offset[i / 4] * inverse;
      vec_u32 word = {};
      UNROLL
      for (int c = 0; c < 4; c++) {
        // Adding 1.5 * 2^23 rounds to an integer, whose low byte is then that of the mantissa.
        const vec_u32 bits = (vec_u32)(weight_at(s.codes.tiles[i], c, scale, offset) + 12582912.0f);
        word |= c == 3 ? bits << 24 : (bits & 255) << 8 * c;
      }
      words[first + i] = word;
      sum = add_bytes(sum, word);
    }
    if (first == 8 || j == blocks - 1) {
      store_tiles(words, first + 8, to, inputs, rows);
      to += 4 * (first + 8);
    }
    END_SUB_BLOCKS
    for (int r = 0; r < rows; r++) sums[half * LANES + r] = sum[r];
  }
}

INLINE void round_to_bf16_of(const pdrop_block_type type, const uint8_t *group, size_t inputs, int count,
                             uint16_t *values) {
  for (int half = 0; half < HALVES && half * LANES < count; half++) {
    const int rows = rows_in_half(count, half);
    uint8_t *to = (uint8_t *)(values + (size_t)(half * LANES) * inputs);
    FOR_SUB_BLOCKS(type, group, inputs, half)
    vec_u32 words[16];
    UNROLL
    for (int i = 0; i < 8; i++) {
      vec_u32 bits[4];
      UNROLL
      for (int c = 0; c < 4; c++) {
        bits[c] = (vec_u32)weight_at(s.codes.tiles[i], c, s.scale[i / 4], -s.offset[i / 4]);
        bits[c] += 0x7FFF + (bits[c] >> 16 & 1);
      }
      words[2 * i] = bits[0] >> 16 | (bits[1] & 0xFFFF0000);
      words[2 * i + 1] = bits[2] >> 16 | (bits[3] & 0xFFFF0000);
    }
    store_tiles(words, 16, to, 2 * inputs, rows);
    to += 64;
    END_SUB_BLOCKS
  }
}

#define FOR_TYPES(call)                       \
  switch (type) {                             \
    case pdrop_q4_0: call(pdrop_q4_0); break; \
    case pdrop_q8_0: call(pdrop_q8_0); break; \
    case pdrop_q4_k: call(pdrop_q4_k); break; \
    case pdrop_q5_k: call(pdrop_q5_k); break; \
    case pdrop_q6_k: call(pdrop_q6_k); break; \
    default: break;                           \
  }

static void group_scales(pdrop_block_type type, const void *group, size_t inputs, float *scales) {
#define CALL(type) group_scales_of(type, group, inputs, scales)
  FOR_TYPES(CALL)
#undef CALL
}

static void round_to_s8(pdrop_block_type type, const void *group, size_t inputs, int count, const float *scales,
                        int8_t *values, int32_t *sums) {
#define CALL(type) round_to_s8_of(type, group, inputs, count, scales, values, sums)
  FOR_TYPES(CALL)
#undef CALL
}

static void round_to_bf16(pdrop_block_type type, const void *group, size_t inputs, int count, uint16_t *values) {
#define CALL(type) round_to_bf16_of(type, group, inputs, count, values)
  FOR_TYPES(CALL)
#undef CALL
}
