// Rounding and quantization as plain loops that the compiler vectorizes. Each loop is compiled for several processors;
// the loader selects one. FP contraction is off, so every processor gives the same bits.

#include "convert.h"

#include <string.h>

#include "processors.h"

#pragma STDC FP_CONTRACT OFF

static inline uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

FOR_EACH_PROCESSOR
void pdrop_round_f32_to_bf16(const float *restrict x, size_t count, uint16_t *restrict y) {
  for (size_t i = 0; i < count; i++) {
    const uint32_t bits = bits_of(x[i]), up = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    // Rounding up could carry a NaN's mantissa into its sign, so NaN keeps its upper half, made quiet.
    y[i] = (uint16_t)((bits & 0x7FFFFFFF) > 0x7F800000 ? (bits >> 16 | 0x40) : up);
  }
}

/// The largest magnitude. NaN ranks above infinity, as its bit pattern does.
FOR_EACH_PROCESSOR
static float largest_magnitude(const float *x, size_t count) {
  uint32_t largest = 0;
  for (size_t i = 0; i < count; i++) {
    const uint32_t magnitude = bits_of(x[i]) & 0x7FFFFFFF;
    largest = magnitude > largest ? magnitude : largest;
  }
  return float_of(largest);
}

/// The smallest row maximum that is quantized; below it, 127 / largest overflows.
static const float smallest_row = 0x1p-119f;

/// Rounds to the nearest integer, ties to even, clamped to ±127; 127 for NaN.
///
/// Adding 1.5 * 2^23 rounds to an integer, which then occupies the low mantissa bits.
static inline int32_t round_clamped(float x) {
  const float low = x > -127 ? x : -127, clamped = x != x ? 127 : low < 127 ? low : 127;
  return (int32_t)(bits_of(clamped + 12582912) - 0x4B400000);
}

FOR_EACH_PROCESSOR
static int32_t quantize(const float *restrict x, size_t count, float inverse, int8_t *restrict y, int32_t zero_point) {
  int32_t sum = 0;
  for (size_t i = 0; i < count; i++) {
    const int32_t q = round_clamped(x[i] * inverse);
    y[i] = (int8_t)(q + zero_point);
    sum += q;
  }
  return sum;
}

float pdrop_quantize_s8(const float *x, size_t count, int8_t *y, int32_t *sum) {
  const float largest = largest_magnitude(x, count);
  *sum = 0;
  if (largest < smallest_row) {
    memset(y, 0, count);
    return 0;
  }
  *sum = quantize(x, count, 127 / largest, y, 0);
  return largest / 127;
}

float pdrop_quantize_u8(const float *x, size_t count, uint8_t *y) {
  const float largest = largest_magnitude(x, count);
  if (largest < smallest_row) {
    memset(y, 128, count);
    return 0;
  }
  quantize(x, count, 127 / largest, (int8_t *)y, 128);
  return largest / 127;
}
