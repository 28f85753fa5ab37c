#pragma once

#include <stddef.h>
#include <stdint.h>
#ifdef HAS_AVX512
#include <immintrin.h>
#endif

// LANES-wide vectors (Clang/GCC vector extensions), shared by attention and matmul.
//
// The including file defines LANES, the number of floats per vector, and enables its instruction set first; it may define
// HAS_AVX512, with AVX-512 F and DQ and LANES 16. Values
// have their natural alignment; loads and stores accept any address.

#define INLINE static inline __attribute__((always_inline))

typedef float vec_f32 __attribute__((vector_size(4 * LANES)));
typedef int32_t vec_i32 __attribute__((vector_size(4 * LANES)));
typedef uint32_t vec_u32 __attribute__((vector_size(4 * LANES)));
typedef uint16_t vec_u16 __attribute__((vector_size(2 * LANES)));

// MARK: - Loads and stores

INLINE vec_f32 load_f32(const void *from) {
  vec_f32 x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}

INLINE void store_f32(void *to, vec_f32 x) { __builtin_memcpy(to, &x, sizeof x); }

INLINE vec_u16 load_u16(const void *from) {
  vec_u16 x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}

/// Zero-extends 16-bit words to 32 bits.
INLINE vec_u32 extend_u16(vec_u16 x) { return __builtin_convertvector(x, vec_u32); }

/// Loads LANES bf16 values, widened exactly: bf16 is the upper half of an f32.
INLINE vec_f32 load_bf16(const void *from) { return (vec_f32)(extend_u16(load_u16(from)) << 16); }

/// One bf16 value, widened exactly.
INLINE float widen_bf16(uint16_t x) {
  union {
    uint32_t bits;
    float value;
  } wide = {.bits = (uint32_t)x << 16};
  return wide.value;
}

// MARK: - Arithmetic

INLINE vec_f32 splat(float x) { return x - (vec_f32){}; }

/// `a` in the lanes where `mask` is set, `b` in the others.
INLINE vec_f32 blend(vec_i32 mask, vec_f32 a, vec_f32 b) {
  return (vec_f32)(((vec_u32)mask & (vec_u32)a) | (~(vec_u32)mask & (vec_u32)b));
}

/// The maximum per lane; `b` if either is NaN.
INLINE vec_f32 vmax(vec_f32 a, vec_f32 b) { return blend(a > b, a, b); }

/// The sum of all lanes; the upper half is added to the lower half until one lane is left.
INLINE float sum_of_lanes(vec_f32 x) {
  float lanes[LANES];
  store_f32(lanes, x);
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
  return lanes[0];
}

/// 2^r for |r| <= 1/2: the Taylor series, with coefficients ln(2)^n / n! adjusted to level the error.
INLINE vec_f32 exp2_of_fraction(vec_f32 r) {
  vec_f32 p = splat(1.535336188319500e-4f);
  p = p * r + 1.339887440266574e-3f;
  p = p * r + 9.618437357674640e-3f;
  p = p * r + 5.550332471162809e-2f;
  p = p * r + 2.402264791363012e-1f;
  p = p * r + 6.931472028550421e-1f;
  return p * r + 1.0f;
}

/// 2^x for x <= 0, with a relative error below 2e-7. Results below 2^-126 are 0 or subnormal; NaN stays NaN.
#ifdef HAS_AVX512
INLINE vec_f32 vexp2(vec_f32 x) {
  // The difference from the nearest integer; 0 for infinity.
  const vec_f32 r = (vec_f32)_mm512_reduce_ps((__m512)x, 0);
  return (vec_f32)_mm512_scalef_ps((__m512)exp2_of_fraction(r), (__m512)(x - r));
}
#else
INLINE vec_f32 vexp2(vec_f32 x) {
  vec_f32 clamped = blend(x < -126.0f, splat(-126), x);
  // Adding 1.5 * 2^23 rounds to an integer, which then occupies the low mantissa bits.
  vec_f32 shifted = clamped + 12582912.0f;
  vec_f32 p = exp2_of_fraction(clamped - (shifted - 12582912.0f));
  vec_f32 power = (vec_f32)((vec_u32)p + (((vec_u32)shifted - 0x4B400000u) << 23));
  return blend(x < -126.0f, splat(0), power);
}
#endif

// MARK: - Transposition

typedef float vec4 __attribute__((vector_size(16)));

INLINE vec4 load_vec4(const float *from) {
  vec4 x;
  __builtin_memcpy(&x, from, sizeof x);
  return x;
}

INLINE void store_vec4(float *to, vec4 x) { __builtin_memcpy(to, &x, sizeof x); }

/// Transposes 32-bit elements of any type: `to[c][r] = from[r][c]`.
INLINE void transpose(float *to, size_t to_stride, const float *from, size_t from_stride, size_t rows, size_t columns) {
  size_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    size_t column = 0;
    for (; column + 4 <= columns; column += 4) {
      vec4 a[4], b[4];
      for (int i = 0; i < 4; i++) a[i] = load_vec4(from + (row + i) * from_stride + column);
      b[0] = __builtin_shufflevector(a[0], a[1], 0, 4, 1, 5), b[1] = __builtin_shufflevector(a[2], a[3], 0, 4, 1, 5);
      b[2] = __builtin_shufflevector(a[0], a[1], 2, 6, 3, 7), b[3] = __builtin_shufflevector(a[2], a[3], 2, 6, 3, 7);
      for (int i = 0; i < 2; i++) {
        float *target = to + (column + 2 * i) * to_stride + row;
        store_vec4(target, __builtin_shufflevector(b[2 * i], b[2 * i + 1], 0, 1, 4, 5));
        store_vec4(target + to_stride, __builtin_shufflevector(b[2 * i], b[2 * i + 1], 2, 3, 6, 7));
      }
    }
    for (; column < columns; column++)
      for (size_t i = row; i < row + 4; i++) to[column * to_stride + i] = from[i * from_stride + column];
  }
  for (; row < rows; row++)
    for (size_t column = 0; column < columns; column++) to[column * to_stride + row] = from[row * from_stride + column];
}
