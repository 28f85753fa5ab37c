// Stored rows to interleaved groups and back.

#include "layout.h"

size_t pdrop_group_bytes(pdrop_block_type type, size_t inputs) {
  const size_t spans = inputs / SPAN, rest = inputs % SPAN / 32;
  return first_span(type, inputs) + spans * span_bytes(type) + rest * tile_bytes(type) + scale_bytes(rest);
}

/// A block of zeros, for missing rows.
static const uint8_t zeros[210];

/// Copies 32-bit words of one block of each row into words of 16 rows.
static inline uint8_t *pack_words(uint8_t *to, const uint8_t *const *from, size_t at, int words, uint32_t flip) {
  for (int w = 0; w < words; w++)
    for (int r = 0; r < ROWS; r++, to += 4) {
      uint32_t word;
      memcpy(&word, from[r] + at + 4 * (size_t)w, 4);
      word ^= flip;
      memcpy(to, &word, 4);
    }
  return to;
}

static inline uint8_t *pack_f16(uint8_t *to, const uint8_t *const *from, size_t at) {
  for (int r = 0; r < ROWS; r++, to += 2) memcpy(to, from[r] + at, 2);
  return to;
}

static inline const uint8_t *unpack_words(const uint8_t *from, uint8_t *const *to, size_t at, int words, int count,
                                          uint32_t flip) {
  for (int w = 0; w < words; w++, from += 4 * ROWS)
    for (int r = 0; r < count; r++) {
      uint32_t word;
      memcpy(&word, from + 4 * r, 4);
      word ^= flip;
      memcpy(to[r] + at + 4 * (size_t)w, &word, 4);
    }
  return from;
}

static inline const uint8_t *unpack_f16(const uint8_t *from, uint8_t *const *to, size_t at, int count) {
  for (int r = 0; r < count; r++) memcpy(to[r] + at, from + 2 * r, 2);
  return from + 2 * ROWS;
}

void pdrop_pack_group(pdrop_block_type type, const void *rows, size_t row_bytes, int count, size_t inputs,
                      void *group) {
  const size_t size = (size_t)pdrop_block_values(type), bytes = pdrop_block_bytes(type), blocks = inputs / size;
  uint8_t *d = group, *to = d + first_span(type, inputs);
  // Scales may end in padding.
  memset(d, 0, first_span(type, inputs));
  for (size_t b = 0; b < blocks; b++) {
    const uint8_t *from[ROWS];
    for (int r = 0; r < ROWS; r++)
      from[r] = r < count ? (const uint8_t *)rows + (size_t)r * row_bytes + b * bytes : zeros;
    switch (type) {
      case pdrop_q4_0:
      case pdrop_q8_0: {
        const size_t in_span = b % 8, span_blocks = blocks - b + in_span < 8 ? blocks - b + in_span : 8;
        uint8_t *span = (uint8_t *)group + b / 8 * span_bytes(type), *codes = span + scale_bytes(span_blocks);
        if (in_span == 0) memset(span, 0, scale_bytes(span_blocks));
        if (type == pdrop_q4_0)
          pack_words(codes + in_span * 4 * TILE, from, 2, 4, 0);
        else
          pack_words(codes + in_span * 8 * TILE, from, 2, 8, 0x80808080);
        pack_f16(span + in_span * 2 * ROWS, from, 0);
        break;
      }
      case pdrop_q6_k:
        for (int j = 0; j < 16; j++)
          for (int r = 0; r < ROWS; r++) *to++ = from[r][192 + j];
        for (int half = 0; half < 2; half++) {
          to = pack_words(to, from, 128 + 32 * half, 8, 0);
          to = pack_words(to, from, 64 * half, 16, 0);
        }
        d = pack_f16(d, from, 208);
        break;
      default:
        to = pack_f16(to, from, 0);
        to = pack_f16(to, from, 2);
        to = pack_words(to, from, 4, (int)(bytes - 4) / 4, 0);
    }
  }
}

void pdrop_unpack_group(pdrop_block_type type, const void *group, int count, size_t inputs, void *rows,
                        size_t row_bytes) {
  const size_t size = (size_t)pdrop_block_values(type), bytes = pdrop_block_bytes(type), blocks = inputs / size;
  const uint8_t *d = group, *from = d + first_span(type, inputs);
  for (size_t b = 0; b < blocks; b++) {
    uint8_t *to[ROWS];
    for (int r = 0; r < count; r++) to[r] = (uint8_t *)rows + (size_t)r * row_bytes + b * bytes;
    switch (type) {
      case pdrop_q4_0:
      case pdrop_q8_0: {
        const size_t in_span = b % 8, span_blocks = blocks - b + in_span < 8 ? blocks - b + in_span : 8;
        const uint8_t *span = (const uint8_t *)group + b / 8 * span_bytes(type),
                      *codes = span + scale_bytes(span_blocks);
        if (type == pdrop_q4_0)
          unpack_words(codes + in_span * 4 * TILE, to, 2, 4, count, 0);
        else
          unpack_words(codes + in_span * 8 * TILE, to, 2, 8, count, 0x80808080);
        unpack_f16(span + in_span * 2 * ROWS, to, 0, count);
        break;
      }
      case pdrop_q6_k:
        for (int j = 0; j < 16; j++, from += ROWS)
          for (int r = 0; r < count; r++) to[r][192 + j] = from[r];
        for (int half = 0; half < 2; half++) {
          from = unpack_words(from, to, 128 + 32 * half, 8, count, 0);
          from = unpack_words(from, to, 64 * half, 16, count, 0);
        }
        d = unpack_f16(d, to, 208, count);
        break;
      default:
        from = unpack_f16(from, to, 0, count);
        from = unpack_f16(from, to, 2, count);
        from = unpack_words(from, to, 4, (int)(bytes - 4) / 4, count, 0);
    }
  }
}
