#pragma once

#include <stddef.h>

// Functions of single elements. The bits of a result are the same on every processor.

/// The function between two linear layers.
typedef enum {
  pdrop_no_activation,
  /// `x · sigmoid(1.702 x)`, CLIP's approximation of GELU.
  pdrop_quick_gelu,
  /// `x · Φ(x)` with the normal distribution function Φ.
  pdrop_gelu,
  /// `x · sigmoid(x)`.
  pdrop_silu,
} pdrop_activation;

/// Adds a bias to a row, then applies an activation.
///
/// - y: [count], changed in place.
/// - bias: [count]; NULL for none.
void pdrop_finish_row(float *y, size_t count, const float *bias, pdrop_activation activation);

/// `gate = silu(gate) · up`.
///
/// - gate, up: [count]; they do not overlap.
void pdrop_gated_silu(float *gate, const float *up, size_t count);
