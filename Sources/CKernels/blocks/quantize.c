// Quantization to stored blocks.
//
// Sixteen sub-blocks are processed side by side, one per lane: 16 blocks of Q4_0 or Q8_0, two blocks of Q4_K or Q5_K,
// one block of Q6_K. For each sub-block, several ranges are tried. The codes of a range determine the scale, and the
// minimum, of least squared error in closed form. Scales of scales are then rounded, their neighbours tried, and the
// scale of the block is fitted again. The result is never worse than scales from the largest and smallest weight.

#include "../processors.h"
#include "layout.h"

// Every function with vectors is inlined, so their calling convention does not matter.
#pragma clang diagnostic ignored "-Wpsabi"
// Every processor gives the same blocks.
#pragma STDC FP_CONTRACT OFF

#define LANES 16

#include "../simd.h"

#include "fits.h"

/// The nearest f16, ties to even; the largest finite one instead of infinity.
static inline uint16_t narrow_f16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
  if (magnitude >= 0x477FF000) return (uint16_t)(sign | 0x7BFF);
  if (magnitude < 0x38800000) {
    // Subnormal: a unit in the last place is 2^-24, so adding 0.5 rounds to it.
    float shifted;
    memcpy(&shifted, &magnitude, sizeof shifted);
    shifted += 0.5f;
    memcpy(&bits, &shifted, sizeof bits);
    return (uint16_t)(sign | (bits - 0x3F000000));
  }
  return (uint16_t)(sign | ((magnitude + 0xFFF + (magnitude >> 13 & 1)) - 0x38000000) >> 13);
}

static inline float rounded_f16(float x) { return widen_f16(narrow_f16(x)); }

// MARK: - Batches

/// Gathers up to 16 sub-blocks, `per_block` to a block; missing ones are zero.
INLINE void gather(batch *b, const float *values, const float *importance, int count, int sub_blocks, int per_block) {
  b->count = count;
  for (int i = 0; i < count; i++) b->x[i] = splat(0), b->importance[i] = splat(1);
  for (int l = 0; l < sub_blocks; l++)
    for (int i = 0; i < count; i++) b->x[i][l] = values[l * count + i];
  if (!importance) return;
  const int size = per_block * count;
  for (int first = 0; first < sub_blocks; first += per_block, importance += size) {
    float total = 0;
    for (int i = 0; i < size; i++) total += importance[i];
    if (!(total > 0)) continue;
    // Relative to their mean; a little more than 0, so that no sum of them is.
    for (int l = 0; l < per_block; l++)
      for (int i = 0; i < count; i++)
        b->importance[i][first + l] = importance[l * count + i] / total * (float)size + 1e-4f;
  }
}

/// The sum of lanes first to first + count - 1.
static inline double sum_lanes(vec_f32 x, int first, int count) {
  double sum = 0;
  for (int l = first; l < first + count; l++) sum += (double)x[l];
  return sum;
}

/// The largest of these lanes in magnitude, with its sign.
static inline float extreme_lane(vec_f32 x, int first, int count) {
  float extreme = 0;
  for (int l = first; l < first + count; l++)
    if ((x[l] < 0 ? -x[l] : x[l]) > (extreme < 0 ? -extreme : extreme)) extreme = x[l];
  return extreme;
}

/// The codes with a scale and a minimum, [column][lane].
INLINE void final_codes(const batch *b, vec_f32 scale, vec_f32 minimum, float low, float high, int offset,
                        uint8_t (*codes)[LANES]) {
  const vec_f32 inverse = ratio(splat(1), scale);
  for (int i = 0; i < b->count; i++) {
    const vec_i32 code = __builtin_convertvector(code_of(b->x[i], inverse, minimum, low, high), vec_i32) + offset;
    for (int l = 0; l < LANES; l++) codes[i][l] = (uint8_t)code[l];
  }
}

// MARK: - Q4_0 and Q8_0

INLINE vec_f32 round_lanes_to_f16(vec_f32 x) {
  for (int l = 0; l < LANES; l++) x[l] = rounded_f16(x[l]);
  return x;
}

INLINE void quantize_0(pdrop_block_type type, const float *values, const float *importance, int blocks, uint8_t *to) {
  const bool wide = type == pdrop_q8_0;
  const float low = wide ? -127 : -8, high = wide ? 127 : 7;
  batch b;
  gather(&b, values, importance, 32, blocks, 1);
  const moments m = moments_of(&b);
  const vec_f32 extreme = blend(m.high > -m.low, m.high, m.low);
  fit best = {round_lanes_to_f16(extreme / low), splat(0), {}};
  best.error = squared_error(&b, best.scale, splat(0), low, high);
  const fit found = search_symmetric(&b, &m, low, high, wide ? 4 : 6, wide ? 0.3f : 0.25f);
  fit rounded = {round_lanes_to_f16(found.scale), splat(0), {}};
  rounded.error = squared_error(&b, rounded.scale, splat(0), low, high);
  keep_better(&best, rounded);
  uint8_t codes[SUB_BLOCK][LANES];
  final_codes(&b, best.scale, splat(0), low, high, wide ? 0 : 8, codes);
  for (int l = 0; l < blocks; l++) {
    const uint16_t d = narrow_f16(best.scale[l]);
    memcpy(to, &d, 2);
    if (wide)
      for (int i = 0; i < 32; i++) to[2 + i] = codes[i][l];
    else
      for (int i = 0; i < 16; i++) to[2 + i] = (uint8_t)(codes[i][l] | codes[16 + i][l] << 4);
    to += wide ? 34 : 18;
  }
}

// MARK: - Q4_K and Q5_K

/// Rounded scales and minima of two blocks: the factors of 6 bits per sub-block, and d and dmin of its block.
typedef struct {
  vec_f32 d, dmin, scale, minimum, error;
} rounded_k;

INLINE void evaluate_k(const batch *b, rounded_k *k, float high) {
  k->error = squared_error(b, k->d * k->scale, k->dmin * k->minimum, 0, high);
}

INLINE rounded_k round_k(const batch *b, vec_f32 scale, vec_f32 minimum, float high) {
  rounded_k k;
  for (int first = 0; first < LANES; first += 8) {
    const float d = rounded_f16(extreme_lane(scale, first, 8) / 63);
    const float dmin = rounded_f16(extreme_lane(minimum, first, 8) / 63);
    for (int l = first; l < first + 8; l++) k.d[l] = d, k.dmin[l] = dmin;
  }
  k.scale = round_clamped(ratio(scale, k.d), 0, 63), k.minimum = round_clamped(ratio(minimum, k.dmin), 0, 63);
  evaluate_k(b, &k, high);
  return k;
}

/// Tries the neighbours of the factors of each sub-block.
INLINE void improve_factors(const batch *b, rounded_k *k, float high) {
  const vec_f32 scale = k->scale, minimum = k->minimum;
  for (int i = -1; i <= 1; i++)
    for (int j = -2; j <= 2; j++) {
      rounded_k other = *k;
      other.scale = clamp(scale + (float)i, 0, 63), other.minimum = clamp(minimum + (float)j, 0, 63);
      evaluate_k(b, &other, high);
      const vec_i32 better = other.error < k->error;
      k->scale = blend(better, other.scale, k->scale), k->minimum = blend(better, other.minimum, k->minimum);
      k->error = blend(better, other.error, k->error);
    }
}

/// Fits d and dmin of each block to the codes and factors.
INLINE void fit_blocks(const batch *b, rounded_k *k, float high) {
  const vec_f32 inverse = ratio(splat(1), k->d * k->scale), offset = k->dmin * k->minimum;
  vec_f32 aa = {}, ab = {}, bb = {}, xa = {}, xb = {};
  for (int i = 0; i < b->count; i++) {
    const vec_f32 w = b->importance[i], a = k->scale * code_of(b->x[i], inverse, offset, 0, high);
    aa += w * a * a, ab += w * a * k->minimum, bb += w * k->minimum * k->minimum;
    xa += w * a * b->x[i], xb += w * k->minimum * b->x[i];
  }
  for (int first = 0; first < LANES; first += 8) {
    const double saa = sum_lanes(aa, first, 8), sab = sum_lanes(ab, first, 8), sbb = sum_lanes(bb, first, 8),
                 sxa = sum_lanes(xa, first, 8), sxb = sum_lanes(xb, first, 8), determinant = saa * sbb - sab * sab;
    double d = saa > 0 ? sxa / saa : 0, dmin = 0;
    if (determinant > 1e-9 * saa * sbb)
      d = (sxa * sbb - sxb * sab) / determinant, dmin = (sxa * sab - sxb * saa) / determinant;
    if (!(d > 0 && dmin >= 0)) continue;
    const float rounded = rounded_f16((float)d), rounded_min = rounded_f16((float)dmin);
    for (int l = first; l < first + 8; l++) k->d[l] = rounded, k->dmin[l] = rounded_min;
  }
  evaluate_k(b, k, high);
}

/// Keeps the better of two for each block.
INLINE void keep_better_blocks(rounded_k *best, const rounded_k *other) {
  for (int first = 0; first < LANES; first += 8)
    if (sum_lanes(other->error, first, 8) < sum_lanes(best->error, first, 8))
      for (int l = first; l < first + 8; l++) {
        best->d[l] = other->d[l], best->dmin[l] = other->dmin[l];
        best->scale[l] = other->scale[l], best->minimum[l] = other->minimum[l], best->error[l] = other->error[l];
      }
}

INLINE void quantize_k(pdrop_block_type type, const float *values, const float *importance, int blocks, uint8_t *to) {
  const bool five = type == pdrop_q5_k;
  const float high = five ? 31 : 15;
  batch b;
  gather(&b, values, importance, 32, 8 * blocks, 8);
  const moments m = moments_of(&b);
  rounded_k best = round_k(&b, (m.high - m.low) / high, -m.low, high);
  const fit found = search_affine(&b, &m, high);
  rounded_k other = round_k(&b, found.scale, found.minimum, high);
  for (int i = 0; i < 2; i++) {
    improve_factors(&b, &other, high);
    keep_better_blocks(&best, &other);
    fit_blocks(&b, &other, high);
    keep_better_blocks(&best, &other);
  }
  uint8_t codes[SUB_BLOCK][LANES];
  final_codes(&b, best.d * best.scale, best.dmin * best.minimum, 0, high, 0, codes);
  for (int block = 0; block < blocks; block++) {
    const int first = 8 * block;
    memset(to, 0, five ? 176 : 144);
    const uint16_t d = narrow_f16(best.d[first]), dmin = narrow_f16(best.dmin[first]);
    memcpy(to, &d, 2), memcpy(to + 2, &dmin, 2);
    for (int j = 0; j < 4; j++) {
      const int scale = (int)best.scale[first + j], minimum = (int)best.minimum[first + j],
                scale_4 = (int)best.scale[first + 4 + j], minimum_4 = (int)best.minimum[first + 4 + j];
      to[4 + j] = (uint8_t)(scale | scale_4 >> 4 << 6), to[8 + j] = (uint8_t)(minimum | minimum_4 >> 4 << 6);
      to[12 + j] = (uint8_t)((scale_4 & 15) | (minimum_4 & 15) << 4);
    }
    uint8_t *const high_bits = to + 16, *const low_bits = to + (five ? 48 : 16);
    for (int j = 0; j < 8; j++)
      for (int i = 0; i < 32; i++) {
        const int code = codes[i][first + j];
        low_bits[32 * (j / 2) + i] |= (uint8_t)((code & 15) << 4 * (j % 2));
        if (five) high_bits[i] |= (uint8_t)(code >> 4 << j);
      }
    to += five ? 176 : 144;
  }
}

// MARK: - Q6_K

INLINE void quantize_q6_k(const float *values, const float *importance, uint8_t *to) {
  const float low = -32, high = 31;
  batch b;
  gather(&b, values, importance, 16, 16, 16);
  const moments m = moments_of(&b);
  const vec_f32 extreme = blend(m.high > -m.low, m.high, m.low);
  const vec_f32 starts[2] = {extreme / low, search_symmetric(&b, &m, low, high, 5, 0.4f).scale};
  float best_d = 0;
  vec_f32 best_scale = {};
  double best_error = DBL_MAX;
  for (int start = 0; start < 2; start++) {
    // The largest scale takes the factor -128, there being none of 128.
    float d = rounded_f16(extreme_lane(starts[start], 0, 16) / -128);
    vec_f32 scale = round_clamped(ratio(starts[start], splat(d)), -128, 127);
    for (int round = 0; round < 3; round++) {
      vec_f32 error = squared_error(&b, d * scale, splat(0), low, high);
      if (start == 1) {
        const vec_f32 center = scale;
        for (int i = -1; i <= 1; i += 2) {
          const vec_f32 other = clamp(center + (float)i, -128, 127);
          const vec_f32 other_error = squared_error(&b, d * other, splat(0), low, high);
          scale = blend(other_error < error, other, scale), error = vmin(error, other_error);
        }
      }
      const double total = sum_lanes(error, 0, 16);
      if (total < best_error || best_error == DBL_MAX) best_error = total, best_d = d, best_scale = scale;
      if (start == 0) break;
      const vec_f32 inverse = ratio(splat(1), d * scale);
      vec_f32 aa = {}, xa = {};
      for (int i = 0; i < 16; i++) {
        const vec_f32 a = scale * code_of(b.x[i], inverse, splat(0), low, high), w = b.importance[i];
        aa += w * a * a, xa += w * a * b.x[i];
      }
      const double saa = sum_lanes(aa, 0, 16);
      d = rounded_f16(saa > 0 ? (float)(sum_lanes(xa, 0, 16) / saa) : 0);
    }
  }
  uint8_t codes[SUB_BLOCK][LANES];
  final_codes(&b, best_d * best_scale, splat(0), low, high, 32, codes);
  memset(to, 0, 210);
  for (int j = 0; j < 16; j++) {
    const int half = j / 8, k = j / 2 % 4, at = 16 * (j % 2);
    uint8_t *const q = to + 64 * half + 32 * (k % 2) + at, *const h = to + 128 + 32 * half + at;
    for (int i = 0; i < 16; i++) {
      q[i] |= (uint8_t)((codes[i][j] & 15) << 4 * (k / 2));
      h[i] |= (uint8_t)(codes[i][j] >> 4 << 2 * k);
    }
    to[192 + j] = (uint8_t)(int8_t)best_scale[j];
  }
  const uint16_t d = narrow_f16(best_d);
  memcpy(to + 208, &d, 2);
}

FOR_EACH_PROCESSOR
static void quantize(pdrop_block_type type, const float *values, const float *importance, size_t count, uint8_t *to) {
  const size_t size = (size_t)pdrop_block_values(type), bytes = pdrop_block_bytes(type);
  const size_t per_batch = size == 32 ? 16 : type == pdrop_q6_k ? 1 : 2;
  for (size_t left = count / size; left > 0;) {
    const size_t blocks = left < per_batch ? left : per_batch;
    switch (type) {
      case pdrop_q4_0: quantize_0(pdrop_q4_0, values, importance, (int)blocks, to); break;
      case pdrop_q8_0: quantize_0(pdrop_q8_0, values, importance, (int)blocks, to); break;
      case pdrop_q4_k: quantize_k(pdrop_q4_k, values, importance, (int)blocks, to); break;
      case pdrop_q5_k: quantize_k(pdrop_q5_k, values, importance, (int)blocks, to); break;
      case pdrop_q6_k: quantize_q6_k(values, importance, to); break;
      default: return;
    }
    values += blocks * size, to += blocks * bytes, left -= blocks;
    if (importance) importance += blocks * size;
  }
}

/// Whether all values are finite.
FOR_EACH_PROCESSOR
static bool are_finite(const float *values, size_t count) {
  bool result = true;
  for (size_t i = 0; i < count; i++) result &= values[i] - values[i] == 0;
  return result;
}

void pdrop_quantize_blocks(pdrop_block_type type, const float *values, const float *importance, size_t count,
                           void *blocks) {
  quantize(type, values, importance, count, blocks);
  // Codes of a block with infinite or missing values are arbitrary. Its scale becomes NaN, so that they are noticed.
  const uint16_t not_a_number = 0x7E00;
  const size_t size = (size_t)pdrop_block_values(type), bytes = pdrop_block_bytes(type);
  uint8_t *scale = (uint8_t *)blocks + (type == pdrop_q6_k ? 208 : 0);
  for (size_t first = 0; first + size <= count; first += size, scale += bytes)
    if (!are_finite(values + first, size)) memcpy(scale, &not_a_number, sizeof not_a_number);
}
