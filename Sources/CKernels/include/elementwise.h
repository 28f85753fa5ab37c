#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Functions of rows outside of matmuls and attention. The bits of a result are the same on every processor.

/// The function between two linear layers.
typedef enum {
  pdrop_no_activation,
  /// `x · sigmoid(1.702 x)`, CLIP's approximation of GELU.
  pdrop_quick_gelu,
  /// `x · Φ(x)` with the normal distribution function Φ.
  pdrop_gelu,
  /// `x · (1 + tanh(√(2 / π) · (x + 0.044715 x³))) / 2`, an approximation of GELU.
  pdrop_tanh_gelu,
  /// `x · sigmoid(x)`.
  pdrop_silu,
} pdrop_activation;

/// A range of columns of the results of a matmul, and what is left to do with them.
typedef struct {
  /// [rows, count].
  float *y;
  /// Floats between consecutive rows of y.
  size_t stride;
  size_t rows, count;
  /// Whether the matmul adds to the values in y.
  bool adds;
  /// [count]; NULL for none.
  const float *bias;
  pdrop_activation activation;
} pdrop_results;

/// The exact sums of an int8 matmul over activations with the zero point 128, and their scales.
typedef struct {
  /// [rows, count].
  const int32_t *values;
  /// Integers between consecutive rows of values.
  size_t stride;
  /// The sum of each weight row, [count]; removes the zero point.
  const int32_t *weight_sums;
  /// The scale of each weight row, [count].
  const float *scales;
  /// The scale of each activation row, [rows].
  const float *row_scales;
} pdrop_int8_sums;

/// Adds the bias to the results of a matmul, then applies the activation.
void pdrop_finish(const pdrop_results *results);

/// Scales the sums of an int8 matmul, `(values - 128 · weight_sums) · (row_scales · scales)`, writes or adds them to the
/// results, and finishes these, in one pass.
void pdrop_finish_int8(const pdrop_results *results, const pdrop_int8_sums *sums);

/// `gate = silu(gate) · up`.
///
/// - gate, up: [count]; they do not overlap.
void pdrop_gated_silu(float *gate, const float *up, size_t count);

/// RMSNorm of each row: `y = x / sqrt(mean(x²) + epsilon) · weight`.
///
/// - y, x: [rows, columns]; they do not overlap.
/// - weight: [columns].
void pdrop_rms_norm(float *y, const float *x, size_t rows, size_t columns, const float *weight, float epsilon);

/// LayerNorm of each row: `y = (x - mean) / sqrt(variance + epsilon) · weight + bias`.
///
/// - y, x: [rows, columns]; they do not overlap.
/// - weight, bias: [columns].
void pdrop_layer_norm(float *y, const float *x, size_t rows, size_t columns, const float *weight, const float *bias,
                      float epsilon);

/// Rotates the pairs (i, i + dimension / 2) of each head of a row.
///
/// - x: [heads, dimension], changed in place.
/// - angles: The cosines, then the sines of all pairs, [dimension].
void pdrop_rotate(float *x, size_t heads, size_t dimension, const float *angles);

/// `x = e^(x - origin)` with a relative error of at most 2e-7 for differences of -87 to 88; they are clamped to that range.
///
/// - x: [count], changed in place.
void pdrop_exponentials(float *x, size_t count, float origin);
