// Stored blocks: sizes, and weights in f32 as plain loops that the compiler vectorizes. FP contraction is off, so every
// processor gives the same bits.

#include "../processors.h"
#include "layout.h"

#pragma STDC FP_CONTRACT OFF

int pdrop_block_values(pdrop_block_type type) {
  switch (type) {
    case pdrop_q4_0:
    case pdrop_q4_1:
    case pdrop_q5_0:
    case pdrop_q5_1:
    case pdrop_q8_0:
    case pdrop_iq4_nl: return 32;
    default: return 256;
  }
}

size_t pdrop_block_bytes(pdrop_block_type type) {
  switch (type) {
    case pdrop_q4_0: return 18;
    case pdrop_q4_1: return 20;
    case pdrop_q5_0: return 22;
    case pdrop_q5_1: return 24;
    case pdrop_q8_0: return 34;
    case pdrop_q2_k: return 84;
    case pdrop_q3_k: return 110;
    case pdrop_q4_k: return 144;
    case pdrop_q5_k: return 176;
    case pdrop_q6_k: return 210;
    case pdrop_iq4_nl: return 18;
    case pdrop_iq4_xs: return 136;
  }
  return 0;
}

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static inline void decode_q4_0(const uint8_t *restrict b, float *restrict y) {
  const float d = load_scale(b);
  for (int i = 0; i < 16; i++) {
    y[i] = d * (float)((b[2 + i] & 15) - 8);
    y[16 + i] = d * (float)((b[2 + i] >> 4) - 8);
  }
}

static inline void decode_q4_1(const uint8_t *restrict b, float *restrict y) {
  const float d = load_scale(b), m = load_scale(b + 2);
  for (int i = 0; i < 16; i++) {
    y[i] = d * (float)(b[4 + i] & 15) + m;
    y[16 + i] = d * (float)(b[4 + i] >> 4) + m;
  }
}

/// The fifth bits of a block of 32, at the place of 16.
static inline void fifth_bits(const uint8_t *from, int *bits) {
  uint32_t h;
  memcpy(&h, from, sizeof h);
  for (int i = 0; i < 32; i++) bits[i] = (int)(h >> i & 1) << 4;
}

static inline void decode_q5_0(const uint8_t *restrict b, float *restrict y) {
  const float d = load_scale(b);
  int high[32];
  fifth_bits(b + 2, high);
  for (int i = 0; i < 16; i++) {
    y[i] = d * (float)(((b[6 + i] & 15) | high[i]) - 16);
    y[16 + i] = d * (float)((b[6 + i] >> 4 | high[16 + i]) - 16);
  }
}

static inline void decode_q5_1(const uint8_t *restrict b, float *restrict y) {
  const float d = load_scale(b), m = load_scale(b + 2);
  int high[32];
  fifth_bits(b + 4, high);
  for (int i = 0; i < 16; i++) {
    y[i] = d * (float)((b[8 + i] & 15) | high[i]) + m;
    y[16 + i] = d * (float)(b[8 + i] >> 4 | high[16 + i]) + m;
  }
}

static inline void decode_q8_0(const uint8_t *restrict b, float *restrict y) {
  const float d = load_scale(b);
  for (int i = 0; i < 32; i++) y[i] = d * (float)(int8_t)b[2 + i];
}

static inline void decode_q2_k(const uint8_t *restrict b, float *restrict y) {
  const float d = load_scale(b + 80), dmin = load_scale(b + 82);
  for (int j = 0; j < 16; j++) {
    const float scale = d * (float)(b[j] & 15), minimum = dmin * (float)(b[j] >> 4);
    const uint8_t *q = b + 16 + 32 * (j / 8) + 16 * (j % 2);
    const int shift = 2 * (j / 2 % 4);
    for (int i = 0; i < 16; i++) y[16 * j + i] = scale * (float)(q[i] >> shift & 3) - minimum;
  }
}

static inline void decode_q3_k(const uint8_t *restrict b, float *restrict y) {
  const float d = load_scale(b + 108);
  const uint8_t *s = b + 96;
  for (int j = 0; j < 16; j++) {
    const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4, high = s[8 + j % 4] >> 2 * (j / 4) & 3;
    const float scale = d * (float)((low | high << 4) - 32);
    const uint8_t *q = b + 32 + 32 * (j / 8) + 16 * (j % 2), *h = b + 16 * (j % 2);
    const int shift = 2 * (j / 2 % 4), bit = j / 2;
    for (int i = 0; i < 16; i++) y[16 * j + i] = scale * (float)((q[i] >> shift & 3) - 4 + (h[i] >> bit & 1) * 4);
  }
}

/// The scale and the minimum of sub-block `j` of Q4_K and Q5_K, 6 bits each.
static inline void scale_and_minimum(const uint8_t *s, int j, int *scale, int *minimum) {
  *scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
  *minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
}

static inline void decode_q4_k(const uint8_t *restrict b, float *restrict y) {
  const float d = load_scale(b), dmin = load_scale(b + 2);
  for (int j = 0; j < 8; j += 2) {
    int low, low_min, high, high_min;
    scale_and_minimum(b + 4, j, &low, &low_min);
    scale_and_minimum(b + 4, j + 1, &high, &high_min);
    const float scale = d * (float)low, minimum = dmin * (float)low_min;
    const float scale_2 = d * (float)high, minimum_2 = dmin * (float)high_min;
    const uint8_t *q = b + 16 + 16 * j;
    for (int i = 0; i < 32; i++) y[32 * j + i] = scale * (float)(q[i] & 15) - minimum;
    for (int i = 0; i < 32; i++) y[32 * j + 32 + i] = scale_2 * (float)(q[i] >> 4) - minimum_2;
  }
}

static inline void decode_q5_k(const uint8_t *restrict b, float *restrict y) {
  const float d = load_scale(b), dmin = load_scale(b + 2);
  for (int j = 0; j < 8; j++) {
    int sc, mn;
    scale_and_minimum(b + 4, j, &sc, &mn);
    const float scale = d * (float)sc, minimum = dmin * (float)mn;
    const uint8_t *h = b + 16, *q = b + 48 + 32 * (j / 2);
    const int shift = 4 * (j % 2);
    for (int i = 0; i < 32; i++) y[32 * j + i] = scale * (float)((q[i] >> shift & 15) | (h[i] >> j & 1) << 4) - minimum;
  }
}

static inline void decode_q6_k(const uint8_t *restrict b, float *restrict y) {
  const float d = load_scale(b + 208);
  for (int j = 0; j < 16; j++) {
    const float scale = d * (float)(int8_t)b[192 + j];
    // Within a half of 128, quarter k is in the low or high halves of one of two runs of 32 bytes.
    const int half = j / 8, k = j / 2 % 4, at = 16 * (j % 2);
    const uint8_t *q = b + 64 * half + 32 * (k % 2) + at, *h = b + 128 + 32 * half + at;
    const int shift = 4 * (k / 2), high_shift = 2 * k;
    for (int i = 0; i < 16; i++)
      y[16 * j + i] = scale * (float)(((q[i] >> shift & 15) | (h[i] >> high_shift & 3) << 4) - 32);
  }
}

static inline void decode_iq4_nl(const uint8_t *restrict b, float *restrict y) {
  const float d = load_scale(b);
  for (int i = 0; i < 16; i++) {
    y[i] = d * (float)iq4_values[b[2 + i] & 15];
    y[16 + i] = d * (float)iq4_values[b[2 + i] >> 4];
  }
}

static inline void decode_iq4_xs(const uint8_t *restrict b, float *restrict y) {
  const float d = load_scale(b);
  const int high = b[2] | b[3] << 8;
  for (int j = 0; j < 8; j++) {
    const int s = (b[4 + j / 2] >> 4 * (j % 2) & 15) | (high >> 2 * j & 3) << 4;
    const float scale = d * (float)(s - 32);
    const uint8_t *q = b + 8 + 16 * j;
    for (int i = 0; i < 16; i++) {
      y[32 * j + i] = scale * (float)iq4_values[q[i] & 15];
      y[32 * j + 16 + i] = scale * (float)iq4_values[q[i] >> 4];
    }
  }
}

FOR_EACH_PROCESSOR
void pdrop_dequantize_blocks(pdrop_block_type type, const void *blocks, size_t count, float *restrict values) {
  const uint8_t *b = blocks;
#define DECODE(name, size, bytes)                                                      \
  case pdrop_##name:                                                                   \
    for (size_t i = 0; i < count; i += size, b += bytes) decode_##name(b, values + i); \
    break
  switch (type) {
    DECODE(q4_0, 32, 18);
    DECODE(q4_1, 32, 20);
    DECODE(q5_0, 32, 22);
    DECODE(q5_1, 32, 24);
    DECODE(q8_0, 32, 34);
    DECODE(q2_k, 256, 84);
    DECODE(q3_k, 256, 110);
    DECODE(q4_k, 256, 144);
    DECODE(q5_k, 256, 176);
    DECODE(q6_k, 256, 210);
    DECODE(iq4_nl, 32, 18);
    DECODE(iq4_xs, 256, 136);
  }
#undef DECODE
}
