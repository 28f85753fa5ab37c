// Functions of rows as plain loops that the compiler vectorizes. Each loop is compiled for several processors; the loader
// selects one. FP contraction is off and sums are folded in lanes, so every processor gives the same bits.

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

/// 2 √(2 / π).
#define TANH_GELU_SCALE 1.5957691216f

// MARK: - The end of a matmul

INLINE float activated(float x, pdrop_activation activation) {
  switch (activation) {
    case pdrop_no_activation: return x;
    case pdrop_quick_gelu: return x * sigmoid(1.702f * x);
    case pdrop_silu: return x * sigmoid(x);
    // Source: Hendrycks and Gimpel 2016, Gaussian Error Linear Units.
    case pdrop_gelu: return 0.5f * x * (1 + erff(x * 0.70710678f));
    // 1 + tanh(u) = 2 sigmoid(2 u).
    case pdrop_tanh_gelu: return x * sigmoid(TANH_GELU_SCALE * (x + 0.044715f * x * x * x));
  }
  return x;
}

/// Adds a bias, if there is one, and applies an activation. Inlined with constants for all but the data.
INLINE void finish(const pdrop_results *results, bool has_bias, pdrop_activation activation) {
  for (size_t row = 0; row < results->rows; row++) {
    float *restrict y = results->y + row * results->stride;
    const float *restrict bias = results->bias;
    for (size_t i = 0; i < results->count; i++) {
      const float x = has_bias ? y[i] + bias[i] : y[i];
      y[i] = activated(x, activation);
    }
  }
}

/// Scales the sums of an int8 matmul, then does as `finish`. Unsigned arithmetic avoids signed overflow for any sums,
/// which may come from a file.
INLINE void finish_sums(const pdrop_results *results, const pdrop_int8_sums *sums, bool adds, bool has_bias,
                        pdrop_activation activation) {
  for (size_t row = 0; row < results->rows; row++) {
    float *restrict y = results->y + row * results->stride;
    const float *restrict bias = results->bias;
    const int32_t *restrict s = sums->values + row * sums->stride;
    const int32_t *restrict weight_sums = sums->weight_sums;
    const float *restrict scales = sums->scales;
    const float row_scale = sums->row_scales[row];
    for (size_t i = 0; i < results->count; i++) {
      const int32_t sum = (int32_t)((uint32_t)s[i] - 128u * (uint32_t)weight_sums[i]);
      float x = (float)sum * (row_scale * scales[i]);
      if (adds) x = y[i] + x;
      if (has_bias) x = x + bias[i];
      y[i] = activated(x, activation);
    }
  }
}

#define FINISH(name, activation)                                                              \
  FOR_EACH_PROCESSOR                                                                          \
  static void finish_##name(const pdrop_results *results) {                                   \
    if (results->bias)                                                                        \
      finish(results, true, activation);                                                      \
    else                                                                                      \
      finish(results, false, activation);                                                     \
  }                                                                                           \
  FOR_EACH_PROCESSOR                                                                          \
  static void finish_sums_##name(const pdrop_results *results, const pdrop_int8_sums *sums) { \
    if (results->bias)                                                                        \
      results->adds ? finish_sums(results, sums, true, true, activation)                      \
                    : finish_sums(results, sums, false, true, activation);                    \
    else                                                                                      \
      results->adds ? finish_sums(results, sums, true, false, activation)                     \
                    : finish_sums(results, sums, false, false, activation);                   \
  }

FINISH(plain, pdrop_no_activation)
FINISH(quick_gelu, pdrop_quick_gelu)
FINISH(silu, pdrop_silu)
FINISH(gelu, pdrop_gelu)
FINISH(tanh_gelu, pdrop_tanh_gelu)

void pdrop_finish(const pdrop_results *results) {
  if (!results->bias && results->activation == pdrop_no_activation) return;
  switch (results->activation) {
    case pdrop_no_activation: return finish_plain(results);
    case pdrop_quick_gelu: return finish_quick_gelu(results);
    case pdrop_silu: return finish_silu(results);
    case pdrop_gelu: return finish_gelu(results);
    case pdrop_tanh_gelu: return finish_tanh_gelu(results);
  }
}

void pdrop_finish_int8(const pdrop_results *results, const pdrop_int8_sums *sums) {
  switch (results->activation) {
    case pdrop_no_activation: return finish_sums_plain(results, sums);
    case pdrop_quick_gelu: return finish_sums_quick_gelu(results, sums);
    case pdrop_silu: return finish_sums_silu(results, sums);
    case pdrop_gelu: return finish_sums_gelu(results, sums);
    case pdrop_tanh_gelu: return finish_sums_tanh_gelu(results, sums);
  }
}

// MARK: - Rows

FOR_EACH_PROCESSOR
void pdrop_gated_silu(float *restrict gate, const float *restrict up, size_t count) {
  for (size_t i = 0; i < count; i++) gate[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

enum { LANES = 32 };

/// The sum of all lanes.
INLINE float folded(float *lanes) {
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
  return lanes[0];
}

/// The sum of all values: by lanes, then the values after the last whole block one by one.
INLINE float sum(const float *x, size_t count) {
  float lanes[LANES] = {0};
  const size_t whole = count / LANES * LANES;
  for (size_t i = 0; i < whole; i += LANES)
    for (int l = 0; l < LANES; l++) lanes[l] += x[i + l];
  float result = folded(lanes);
  for (size_t i = whole; i < count; i++) result += x[i];
  return result;
}

/// The sum of all squares, in the order of `sum`.
INLINE float sum_of_squares(const float *x, size_t count) {
  float lanes[LANES] = {0};
  const size_t whole = count / LANES * LANES;
  for (size_t i = 0; i < whole; i += LANES)
    for (int l = 0; l < LANES; l++) lanes[l] += x[i + l] * x[i + l];
  float result = folded(lanes);
  for (size_t i = whole; i < count; i++) result += x[i] * x[i];
  return result;
}

FOR_EACH_PROCESSOR
void pdrop_rms_norm(float *restrict y, const float *restrict x, size_t rows, size_t columns,
                    const float *restrict weight, float epsilon) {
  for (size_t row = 0; row < rows; row++, y += columns, x += columns) {
    const float scale = 1 / sqrtf(sum_of_squares(x, columns) / (float)columns + epsilon);
    for (size_t i = 0; i < columns; i++) y[i] = x[i] * scale * weight[i];
  }
}

FOR_EACH_PROCESSOR
void pdrop_layer_norm(float *restrict y, const float *restrict x, size_t rows, size_t columns,
                      const float *restrict weight, const float *restrict bias, float epsilon) {
  for (size_t row = 0; row < rows; row++, y += columns, x += columns) {
    const float mean = sum(x, columns) / (float)columns;
    for (size_t i = 0; i < columns; i++) y[i] = x[i] - mean;
    const float scale = 1 / sqrtf(sum_of_squares(y, columns) / (float)columns + epsilon);
    for (size_t i = 0; i < columns; i++) y[i] = y[i] * scale * weight[i] + bias[i];
  }
}

FOR_EACH_PROCESSOR
void pdrop_rotate(float *restrict x, size_t heads, size_t dimension, const float *restrict angles) {
  const size_t half = dimension / 2;
  const float *restrict cosines = angles, *restrict sines = angles + half;
  for (size_t head = 0; head < heads; head++) {
    float *restrict first = x + head * dimension, *restrict second = first + half;
    for (size_t i = 0; i < half; i++) {
      const float a = first[i], b = second[i];
      first[i] = a * cosines[i] - b * sines[i];
      second[i] = b * cosines[i] + a * sines[i];
    }
  }
}

FOR_EACH_PROCESSOR
void pdrop_exponentials(float *x, size_t count, float origin) {
  for (size_t i = 0; i < count; i++) x[i] = exponential(x[i] - origin);
}
