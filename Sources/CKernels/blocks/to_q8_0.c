// Conversion of stored blocks to Q8_0.
//
// A type whose weights are a scale times integers of 8 bits keeps the scale and stores the integers. They are the
// decoded weights of a block whose scale is replaced by 1.

#include "layout.h"

/// The place of the scale whose multiples all weights of a block are; -1 if there is none.
static int place_of_scale(pdrop_block_type type) {
  switch (type) {
    case pdrop_q4_0:
    case pdrop_q5_0:
    case pdrop_q8_0:
    case pdrop_iq4_nl: return 0;
    case pdrop_q3_k: return 108;
    default: return -1;
  }
}

void pdrop_convert_blocks_to_q8_0(pdrop_block_type type, const void *blocks, size_t count, void *q8_0) {
  const size_t size = (size_t)pdrop_block_values(type), bytes = pdrop_block_bytes(type);
  const int place = place_of_scale(type);
  const uint8_t *from = blocks;
  uint8_t *to = q8_0;
  for (size_t at = 0; at < count; at += size, from += bytes) {
    uint8_t block[256];
    float values[256];
    memcpy(block, from, bytes);
    bool exact = place >= 0;
    if (exact) {
      const uint16_t one = 0x3C00;
      memcpy(block + place, &one, sizeof one);
      pdrop_dequantize_blocks(type, block, size, values);
      for (size_t i = 0; i < size; i++) exact &= values[i] <= 127;
    }
    if (!exact) {
      pdrop_dequantize_blocks(type, from, size, values);
      pdrop_quantize_blocks(pdrop_q8_0, values, 0, size, to);
      to += size / 32 * 34;
      continue;
    }
    for (size_t first = 0; first < size; first += 32, to += 34) {
      memcpy(to, from + place, 2);
      for (int i = 0; i < 32; i++) to[2 + i] = (uint8_t)(int8_t)values[first + i];
    }
  }
}
