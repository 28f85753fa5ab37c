#pragma once
#include <stdint.h>

// Vectors of LANES floats, in the compiler's own notation.

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
typedef uint32_t bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

INLINE vec all(float x) { return x - (vec){}; }
INLINE vec choose(mask m, vec a, vec b) { return (vec)(((bits)m & (bits)a) | (~(bits)m & (bits)b)); }
INLINE vec larger(vec a, vec b) { return choose(a > b, a, b); }
INLINE vec load(const float *from) { return *(const vec *)from; }
INLINE void store(float *to, vec x) { *(vec *)to = x; }
/// bfloat16 numbers as floats, of which they are the upper half.
INLINE vec widen(halves x) { return (vec)(__builtin_convertvector(x, bits) << 16); }

INLINE float widen_one(uint16_t x) {
  union { uint32_t bits; float value; } wide = {.bits = (uint32_t)x << 16};
  return wide.value;
}

INLINE float sum_of_lanes(vec x) {
  float lanes[LANES];
  store(lanes, x);
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int l = 0; l < width; l++) lanes[l] += lanes[l + width];
  return lanes[0];
}

/// 2 to the power x for x of at most 0, within 2e-7, relative; 0 where that is below 2^-126; NaN stays NaN.
INLINE vec power_of_two(vec x) {
  vec clamped = choose(x < -126.0f, all(-126), x);
  // Adding 1.5·2^23 rounds to a whole number, whose value then stands in the low bits.
  vec shifted = clamped + 12582912.0f;
  vec r = clamped - (shifted - 12582912.0f);
  // The Taylor series of 2^r, its coefficients ln(2)^n / n! shifted a little to level the error over |r| <= 1/2.
  vec p = all(1.535336188319500e-4f);
  p = p * r + 1.339887440266574e-3f;
  p = p * r + 9.618437357674640e-3f;
  p = p * r + 5.550332471162809e-2f;
  p = p * r + 2.402264791363012e-1f;
  p = p * r + 6.931472028550421e-1f;
  p = p * r + 1.0f;
  vec power = (vec)((bits)p + (((bits)shifted - 0x4B400000u) << 23));
  return choose(x < -126.0f, all(0), power);
}

typedef float four __attribute__((vector_size(16), aligned(4), may_alias));

/// Turns rows into columns: to[c][r] = from[r][c]. The words may be anything of 32 bits.
INLINE void turn(float *to, size_t to_stride, const float *from, size_t from_stride, size_t rows, size_t columns) {
  size_t row = 0;
  for (; row + 4 <= rows; row += 4) {
    size_t column = 0;
    for (; column + 4 <= columns; column += 4) {
      four a[4], b[4];
      for (int i = 0; i < 4; i++) a[i] = *(const four *)(from + (row + i) * from_stride + column);
      b[0] = __builtin_shufflevector(a[0], a[1], 0, 4, 1, 5), b[1] = __builtin_shufflevector(a[2], a[3], 0, 4, 1, 5);
      b[2] = __builtin_shufflevector(a[0], a[1], 2, 6, 3, 7), b[3] = __builtin_shufflevector(a[2], a[3], 2, 6, 3, 7);
      for (int i = 0; i < 2; i++) {
        float *target = to + (column + 2 * i) * to_stride + row;
        *(four *)target = __builtin_shufflevector(b[2 * i], b[2 * i + 1], 0, 1, 4, 5);
        *(four *)(target + to_stride) = __builtin_shufflevector(b[2 * i], b[2 * i + 1], 2, 3, 6, 7);
      }
    }
    for (; column < columns; column++)
      for (size_t i = row; i < row + 4; i++) to[column * to_stride + i] = from[i * from_stride + column];
  }
  for (; row < rows; row++)
    for (size_t column = 0; column < columns; column++) to[column * to_stride + row] = from[row * from_stride + column];
}
