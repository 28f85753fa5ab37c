#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "elementwise.h"
#include "isa.h"

// Small-M (skinny) GEMM: a few activation rows times a weight matrix in its stored type.
//
// Matrices are row-major and may start at any address. A weight is [outputs, inputs]. f16 is IEEE binary16; bf16 is the
// upper half of an f32. No function allocates, keeps a pointer or starts a thread.

/// The maximum number of activation rows of one small-M GEMM.
#define PDROP_MAX_SMALL_ROWS 16

/// The size in bytes of `rows` packed rows of `row_bytes` each.
size_t pdrop_packed_bytes(int rows, size_t row_bytes);

/// Packs up to `PDROP_MAX_SMALL_ROWS` rows into the order in which the small-M GEMM reads them.
///
/// The packed layout is [chunk, row, 64 bytes]; the last chunk is padded with zeros. `stride` is the distance between
/// rows of `x` in bytes.
void pdrop_pack_rows(const void *x, size_t stride, int rows, size_t row_bytes, void *packed);

/// `y = x · wᵀ`, or `y += x · wᵀ` with `add`: f32 activations, f32 weights.
///
/// - isa: Must not exceed `pdrop_detect_isa()`.
/// - x: Packed rows, [rows, inputs]; 1 to `PDROP_MAX_SMALL_ROWS` rows.
/// - w: The weight, [outputs, inputs].
/// - y: The result, [rows, outputs]; rows are `stride` elements apart.
///
/// Accumulates in f32. The summation order of each value depends only on `inputs` and `isa`: neither the other rows nor
/// the slice of outputs changes a bit. f16 and bf16 weights are widened exactly.
void pdrop_gemm_f32_f32(pdrop_isa isa, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                        size_t stride, bool add);

/// The same with f16 weights.
void pdrop_gemm_f32_f16(pdrop_isa isa, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                        size_t stride, bool add);

/// The same with bf16 weights.
void pdrop_gemm_f32_bf16(pdrop_isa isa, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                         size_t stride, bool add);

/// The same with bf16 activations and bf16 weights.
///
/// Each multiplication is exact in f32. `pdrop_isa_avx512_bf16` flushes subnormals to zero.
void pdrop_gemm_bf16_bf16(pdrop_isa isa, const void *x, int rows, const void *w, size_t inputs, size_t outputs,
                          float *y, size_t stride, bool add);

/// `y = x · wᵀ` in int8: unsigned activations, signed weights, 32-bit sums that are exact unless they overflow.
void pdrop_gemm_u8_s8(pdrop_isa isa, const void *x, int rows, const void *w, size_t inputs, size_t outputs, int32_t *y,
                      size_t stride);

// GEMM in tiles, for any number of rows; it needs `pdrop_isa_avx512_amx`. The activations are stored in the order in which
// tiles are read: for two tiles of 16 rows all inputs, 64 bytes at a time.

/// The size in bytes of activations in tiles.
size_t pdrop_tile_bytes(size_t rows, size_t row_bytes);

/// Stores one of `rows` rows of activations, [row_bytes] bytes, in tiles.
void pdrop_store_row_in_tiles(const void *x, size_t row, size_t rows, size_t row_bytes, void *tiles);

/// The size in bytes of the working memory of a GEMM in tiles.
size_t pdrop_tiles_scratch_bytes(size_t rows, size_t row_bytes, size_t outputs);

/// `pdrop_finish_int8` of the sums of unsigned activations in tiles and a signed weight, [outputs, inputs].
///
/// - scales: Without `values` and `stride`, which are set here.
/// - scratch: `pdrop_tiles_scratch_bytes` bytes, aligned to 64.
void pdrop_gemm_u8_s8_tiles(const void *tiles, const void *w, size_t inputs, const pdrop_results *results,
                            const pdrop_int8_sums *scales, void *scratch);

/// The same in bf16: writes or adds the sums to the results, and finishes these as `pdrop_finish` does.
///
/// The summation order of each value depends only on `inputs`. Subnormals are flushed to zero.
void pdrop_gemm_bf16_tiles(const void *tiles, const void *w, size_t inputs, const pdrop_results *results,
                           void *scratch);
