#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Rounding to bf16 and quantization to int8. All processors give the same bits.

/// Rounds f32 to bf16, to nearest, ties to even; infinities stay infinite, NaN stays NaN.
void pdrop_round_f32_to_bf16(const float *x, size_t count, uint16_t *y);

/// Symmetric quantization of one row to signed int8; returns the scale.
///
/// scale = largest magnitude / 127 and y = round(x / scale), ties to even, so |x - scale · y| <= scale / 2. A row of
/// zeros, or of values below 2^-119, has scale 0. A row with an infinity or a NaN has scale infinity or NaN, which then
/// appears in every result computed from that row.
///
/// - sum: Set to the sum of the row's y.
float pdrop_quantize_s8(const float *x, size_t count, int8_t *y, int32_t *sum);

/// Symmetric quantization of one row to unsigned int8 with zero point 128, as `pdrop_gemm_u8_s8` expects; returns the
/// scale.
float pdrop_quantize_u8(const float *x, size_t count, uint8_t *y);
