#pragma once

#include <stddef.h>
#include <stdint.h>

// Products of a few rows with weights as stored, and the conversions between number formats that such products need.
//
// Matrices are row-major and may lie on any address. A weight is [outputs, inputs]. Half precision is IEEE binary16;
// brain floats are the upper half of a float. No function allocates, keeps a pointer or starts a thread.

// What a kernel may use of the processor; each level includes those before it.
enum {
  pdrop_level_portable,
  pdrop_level_avx2,         // AVX2, FMA, F16C
  pdrop_level_avx512,       // AVX-512 F, BW, DQ, VL
  pdrop_level_avx512_vnni,  // and VNNI
  pdrop_level_avx512_bf16,  // and BF16
};

// The highest level that this processor and system have.
int pdrop_best_level(void);

// Whether the processor is one of AMD's Zen 4, whose units for AVX-512 are 256 bits wide.
int pdrop_is_zen4(void);

// Most rows of one small product.
enum { pdrop_small_rows = 16 };

// Bytes of `rows` packed rows of `row_bytes` each.
size_t pdrop_packed_bytes(int rows, size_t row_bytes);

// Interleaves up to 16 rows in blocks of 64 bytes, block by block [block, row, 64], the last padded with zeros: what the
// small products read in one stream. `stride` is the distance of rows in bytes.
void pdrop_pack_rows(const void *x, size_t stride, int rows, size_t row_bytes, void *packed);

// y = x * transpose(w) for 1 to 16 packed rows x [rows, inputs], or y += with `add`; y [rows, outputs], rows `stride`
// values apart. Accumulates in f32. Each value's order of summation depends on `inputs` and `level` alone, so neither the
// other rows nor the slice of outputs changes a bit. Weights in f32, f16 and bf16 are widened exactly.
//
// `level` must not exceed pdrop_best_level().
void pdrop_product_f32_f32(int level, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                           size_t stride, int add);
void pdrop_product_f32_f16(int level, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                           size_t stride, int add);
void pdrop_product_f32_bf16(int level, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                            size_t stride, int add);

// The same with x in bf16. Products are exact; the level with BF16 takes subnormal numbers as zero.
void pdrop_product_bf16_bf16(int level, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                             size_t stride, int add);

// The same in whole numbers, x unsigned and w signed, exact as long as the sums fit 32 bits.
void pdrop_product_u8_s8(int level, const void *x, int rows, const void *w, size_t inputs, size_t outputs, int32_t *y,
                         size_t stride);

// Rounds to brain floats, to nearest, ties to even; infinities stay, NaN stays NaN.
void pdrop_round_f32_to_bf16(const float *x, size_t count, uint16_t *y);

// Symmetric quantisation of one row: scale = largest magnitude / 127, y = round(x / scale), ties to even, so that
// |x - scale * y| <= scale / 2. A row of zeros, or of numbers too small to divide by, has scale 0. A row with an infinity or
// NaN has scale infinity or NaN, which the products of the row then show.
// _s8 also returns the sum of the row's y; _u8 stores y + 128, as the products above want it.
float pdrop_quantize_s8(const float *x, size_t count, int8_t *y, int32_t *sum);
float pdrop_quantize_u8(const float *x, size_t count, uint8_t *y);

// y = (s - 128 * sums) * (row_scale * scales), or y += with `add`: one row of a product in whole numbers as floats.
void pdrop_scale_row(const int32_t *s, const int32_t *sums, const float *scales, float row_scale, size_t count, float *y,
                     int add);
