// Biases and activations as plain loops that the compiler vectorizes. Each loop is compiled for several processors; the
// loader selects one. FP contraction is off, so every processor gives the same bits.

#include "elementwise.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "processors.h"

#pragma STDC FP_CONTRACT OFF

#define INLINE static inline __attribute__((always_inline))

/// e^x with a relative error of at most 2e-7 for x in -87...88; x is clamped to that range.
///
/// Splits x = n · ln 2 + r with an integer n, evaluates a polynomial for e^r, and adds n to the exponent.
/// Source: the coefficients of `expf` in the Cephes library.
INLINE float exponential(float x) {
  const float low = x < -87 ? -87 : x, clamped = low > 88 ? 88 : low;
  // Adding 1.5 * 2^23 rounds to an integer, which then occupies the low mantissa bits.
  const float shifted = clamped * 1.442695041f + 12582912;
  const float n = shifted - 12582912;
  const float r = clamped - n * 0.693359375f - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1;
  uint32_t bits, power;
  memcpy(&bits, &p, sizeof bits);
  memcpy(&power, &shifted, sizeof power);
  bits += (power - 0x4B400000) << 23;
  memcpy(&p, &bits, sizeof p);
  return p;
}

INLINE float sigmoid(float x) { return 1 / (1 + exponential(-x)); }

FOR_EACH_PROCESSOR
static void add(float *restrict y, const float *restrict bias, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] += bias[i];
}

FOR_EACH_PROCESSOR
static void quick_gelu(float *y, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] = y[i] * sigmoid(1.702f * y[i]);
}

FOR_EACH_PROCESSOR
static void silu(float *y, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] = y[i] * sigmoid(y[i]);
}

void pdrop_finish_row(float *y, size_t count, const float *bias, pdrop_activation activation) {
  if (bias) add(y, bias, count);
  switch (activation) {
    case pdrop_no_activation: break;
    case pdrop_quick_gelu: quick_gelu(y, count); break;
    case pdrop_silu: silu(y, count); break;
    // Source: Hendrycks and Gimpel 2016, Gaussian Error Linear Units.
    case pdrop_gelu:
      for (size_t i = 0; i < count; i++) y[i] = 0.5f * y[i] * (1 + erff(y[i] * 0.70710678f));
      break;
  }
}

FOR_EACH_PROCESSOR
void pdrop_gated_silu(float *restrict gate, const float *restrict up, size_t count) {
  for (size_t i = 0; i < count; i++) gate[i] = gate[i] * sigmoid(gate[i]) * up[i];
}
