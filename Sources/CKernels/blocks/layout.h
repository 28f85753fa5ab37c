#pragma once

#include <string.h>

#include "blocks.h"

// The layout of packed groups and of quantized activations.
//
// A tile of codes is 64 bytes: 4 consecutive columns of 16 rows, one 32-bit word per row. Where two codes share a byte,
// the tile holds 4 columns in the low halves and 4 others in the high halves, as the stored byte does. So most stored
// fields are packed by transposing their 32-bit words, and a word of codes times 4 activations is a partial sum of one
// row: no sum crosses lanes.
//
// A span is 256 columns of a group. Spans follow each other; the last one of Q4_0 and Q8_0 may be shorter.
//
//   Q4_0   d f16 [blocks][16], tiles [blocks][4]
//   Q8_0   d f16 [blocks][16], tiles [blocks][8] of codes + 128
//   Q4_K   d f16 [16], dmin f16 [16], scale words [3][16], tiles [32]
//   Q5_K   d f16 [16], dmin f16 [16], scale words [3][16], high bits [8], tiles [32]
//   Q6_K   scales i8 [16][16], two halves of high bits [8], tiles [16]; d f16 [spans][16] before the first span
//
// This is the order in which the kernels read, so that processors prefetch what follows.

#define ROWS PDROP_GROUP_ROWS

/// Columns per span.
#define SPAN 256

/// Bytes of a tile.
#define TILE 64

/// Expands X(name) for each type that can be packed.
#define PACKED_TYPES(X) X(q4_0) X(q8_0) X(q4_k) X(q5_k) X(q6_k)

/// Bytes of the codes of one block of Q4_0 or Q8_0 in all rows.
static inline size_t tile_bytes(pdrop_block_type type) { return type == pdrop_q8_0 ? 8 * TILE : 4 * TILE; }

/// Bytes of the scales of a span of Q4_0 or Q8_0, a multiple of a tile.
static inline size_t scale_bytes(size_t blocks) { return (blocks + 1) / 2 * TILE; }

/// The place of the first span in a group.
static inline size_t first_span(pdrop_block_type type, size_t inputs) {
  return type == pdrop_q6_k ? (inputs / SPAN * 2 * ROWS + TILE - 1) / TILE * TILE : 0;
}

/// Bytes of a full span.
static inline size_t span_bytes(pdrop_block_type type) {
  switch (type) {
    case pdrop_q4_0: return 8 * (4 * TILE + 2 * ROWS);
    case pdrop_q8_0: return 8 * (8 * TILE + 2 * ROWS);
    case pdrop_q4_k: return (1 + 3 + 32) * TILE;
    case pdrop_q5_k: return (1 + 3 + 8 + 32) * TILE;
    default: return (4 + 16 + 32) * TILE;
  }
}

/// One row of a span of activations.
typedef struct {
  int8_t values[SPAN];
  /// -32 times the sum of each 16 values: what the offset of 32 in the codes of Q6_K adds.
  int32_t sums_32[SPAN / 16];
  /// -8 and -128 times the sum of each 32 values.
  int32_t sums_8[SPAN / 32], sums_128[SPAN / 32];
  /// The sums of each 32 values, in the order 0 2, 1 3, 4 6, 5 7: pairs for the minima of Q4_K and Q5_K.
  int16_t sums[SPAN / 32];
  /// The scale of each block of weights: of 32 values, or of all of them in the first place.
  float scales[SPAN / 32];
  int32_t unused[4];
} input_row;

_Static_assert(sizeof(input_row) == 7 * 64, "rows are aligned to 64");

/// The value of an f16, exact.
///
/// Exponent and mantissa are shifted to their places in an f32, whose exponent is then too small by 112. One exact
/// multiplication corrects it, subnormals included. An exponent of all ones is set separately.
static inline float widen_f16(uint16_t x) {
  const uint32_t magnitude = (uint32_t)(x & 0x7FFF) << 13;
  float value;
  memcpy(&value, &magnitude, sizeof value);
  value *= 0x1p112f;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  bits |= (magnitude >= 0x0F800000 ? 0x7F800000 : 0) | (uint32_t)(x & 0x8000) << 16;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline float load_scale(const void *from) {
  uint16_t x;
  memcpy(&x, from, sizeof x);
  return widen_f16(x);
}
