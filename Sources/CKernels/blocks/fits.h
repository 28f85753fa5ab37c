#pragma once

// Least-squares fits of scales and minima to sixteen sub-blocks, one per lane.
//
// The including file includes simd.h with LANES 16 and turns FP contraction off.

#include <float.h>

#define SUB_BLOCK 32

/// Sixteen sub-blocks of `count` weights, and the weights of their squared errors.
typedef struct {
  int count;
  vec_f32 x[SUB_BLOCK], importance[SUB_BLOCK];
} batch;

INLINE vec_f32 vmin(vec_f32 a, vec_f32 b) { return blend(a < b, a, b); }

INLINE vec_f32 clamp(vec_f32 x, float low, float high) { return vmin(vmax(x, splat(low)), splat(high)); }

/// Rounds to the nearest integer and clamps; the bounds are integers, and |x| may be anything. `low` for NaN.
INLINE vec_f32 round_clamped(vec_f32 x, float low, float high) {
  return clamp(x, low, high) + 12582912.0f - 12582912.0f;
}

/// a / b, or 0 where b is 0.
INLINE vec_f32 ratio(vec_f32 a, vec_f32 b) { return blend(b == 0, splat(0), a / blend(b == 0, splat(1), b)); }

// MARK: - Fits of a sub-block

/// The codes of x = scale · code - minimum.
INLINE vec_f32 code_of(vec_f32 x, vec_f32 inverse, vec_f32 minimum, float low, float high) {
  return round_clamped((x + minimum) * inverse, low, high);
}

/// The squared error with the best codes for a scale and a minimum.
INLINE vec_f32 squared_error(const batch *b, vec_f32 scale, vec_f32 minimum, float low, float high) {
  const vec_f32 inverse = ratio(splat(1), scale);
  vec_f32 error = {};
  for (int i = 0; i < b->count; i++) {
    const vec_f32 difference = scale * code_of(b->x[i], inverse, minimum, low, high) - minimum - b->x[i];
    error += b->importance[i] * difference * difference;
  }
  return error;
}

typedef struct {
  vec_f32 scale, minimum, error;
} fit;

INLINE void keep_better(fit *best, fit other) {
  const vec_i32 better = other.error < best->error;
  best->scale = blend(better, other.scale, best->scale);
  best->minimum = blend(better, other.minimum, best->minimum);
  best->error = blend(better, other.error, best->error);
}

/// Sums over a sub-block that do not depend on its codes.
typedef struct {
  vec_f32 importance, x, xx, low, high;
} moments;

INLINE moments moments_of(const batch *b) {
  moments m = {};
  for (int i = 0; i < b->count; i++) {
    const vec_f32 x = b->x[i], w = b->importance[i];
    m.importance += w, m.x += w * x, m.xx += w * x * x;
    m.low = vmin(m.low, x), m.high = vmax(m.high, x);
  }
  return m;
}

/// The least-squares fit for the codes 0 to `high` that a scale and a minimum give; the fitted minimum is at least 0.
INLINE fit affine_fit(const batch *b, const moments *m, vec_f32 inverse, vec_f32 minimum, float high) {
  vec_f32 q = {}, qq = {}, xq = {};
  for (int i = 0; i < b->count; i++) {
    const vec_f32 code = code_of(b->x[i], inverse, minimum, 0, high), weighted = b->importance[i] * code;
    q += weighted, qq += weighted * code, xq += weighted * b->x[i];
  }
  const vec_f32 determinant = m->importance * qq - q * q;
  vec_f32 scale = ratio(m->importance * xq - m->x * q, determinant);
  vec_f32 offset = ratio(m->x * qq - q * xq, determinant);
  // Without a minimum, or where all codes are equal.
  const vec_i32 without = (offset > 0) | (determinant <= 0) | (scale <= 0);
  scale = blend(without, ratio(xq, qq), scale), offset = blend(without, splat(0), offset);
  return (fit){scale, -offset, m->xx - scale * xq - offset * m->x};
}

/// Searches for scale and minimum with codes from 0 to `high`.
INLINE fit search_affine(const batch *b, const moments *m, float high) {
  const vec_f32 range = m->high - m->low;
  fit best = {range / high, -m->low, splat(FLT_MAX)};
  // Ranges that clip parts of both ends, or exceed them a little.
  const int steps = high > 15 ? 4 : 6;
  const float step = high > 15 ? 0.02f : 0.03f;
  for (int i = -1; i < steps; i++)
    for (int j = -1; j < steps; j++) {
      const vec_f32 low_end = m->low * (1 - step * (float)i * 1.5f), high_end = m->high * (1 - step * (float)j * 1.5f);
      keep_better(&best, affine_fit(b, m, ratio(splat(high), high_end - low_end), -low_end, high));
    }
  for (int i = 0; i < 3; i++) keep_better(&best, affine_fit(b, m, ratio(splat(1), best.scale), best.minimum, high));
  return best;
}

/// The least-squares scale for the codes from `low` to `high` that an inverse scale gives.
INLINE fit symmetric_fit(const batch *b, const moments *m, vec_f32 inverse, float low, float high) {
  vec_f32 qq = {}, xq = {};
  for (int i = 0; i < b->count; i++) {
    const vec_f32 code = code_of(b->x[i], inverse, splat(0), low, high), weighted = b->importance[i] * code;
    qq += weighted * code, xq += weighted * b->x[i];
  }
  const vec_f32 scale = ratio(xq, qq);
  return (fit){scale, splat(0), m->xx - scale * xq};
}

/// Searches for a scale, of either sign, with codes from `low` to `high`.
INLINE fit search_symmetric(const batch *b, const moments *m, float low, float high, int steps, float step) {
  // The weight of largest magnitude takes the lowest code, there being one more below 0 than above.
  const vec_f32 extreme = blend(m->high > -m->low, m->high, m->low);
  fit best = {extreme / low, splat(0), splat(FLT_MAX)};
  for (int i = -steps; i <= steps; i++) {
    keep_better(&best, symmetric_fit(b, m, ratio(splat(low + step * (float)i), extreme), low, high));
    keep_better(&best, symmetric_fit(b, m, ratio(splat(high + step * (float)i), extreme), low, high));
  }
  for (int i = 0; i < 2; i++) keep_better(&best, symmetric_fit(b, m, ratio(splat(1), best.scale), low, high));
  return best;
}
