#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "isa.h"
#include "matmul.h"

// Block-quantized weights, as GGUF files store them: blocks of 32 or 256 consecutive weights of a row that share scales.
// A row is a run of blocks; a block may start at any address. No function keeps a pointer or starts a thread.

/// A type of block; the values are the tensor types of GGUF.
typedef enum {
  pdrop_q4_0 = 2,
  pdrop_q4_1 = 3,
  pdrop_q5_0 = 6,
  pdrop_q5_1 = 7,
  pdrop_q8_0 = 8,
  pdrop_q2_k = 10,
  pdrop_q3_k = 11,
  pdrop_q4_k = 12,
  pdrop_q5_k = 13,
  pdrop_q6_k = 14,
  pdrop_iq4_nl = 20,
  pdrop_iq4_xs = 23,
} pdrop_block_type;

// MARK: - Stored blocks

/// Weights per block.
int pdrop_block_values(pdrop_block_type type);

/// Bytes per block.
size_t pdrop_block_bytes(pdrop_block_type type);

/// The weights of stored blocks in f32, as the format defines them: each product and sum is rounded, none is fused.
///
/// - count: The number of weights, a multiple of `pdrop_block_values`.
void pdrop_dequantize_blocks(pdrop_block_type type, const void *blocks, size_t count, float *values);

/// Quantizes weights to Q4_0, Q4_K, Q5_K, Q6_K or Q8_0. Scales are searched for the least squared error.
///
/// - importance: The factor of each weight's squared error, [count]; NULL for the default of the type.
/// - count: The number of weights, a multiple of `pdrop_block_values`.
void pdrop_quantize_blocks(pdrop_block_type type, const float *values, const float *importance, size_t count,
                           void *blocks);

/// Converts stored blocks of any type to Q8_0, which can be packed. Exact for Q4_0, Q5_0 and IQ4_NL, and for blocks of
/// Q3_K in which no code times its scale is 128; otherwise rounded to 8 bits.
///
/// - count: The number of weights, a multiple of `pdrop_block_values`.
void pdrop_convert_blocks_to_q8_0(pdrop_block_type type, const void *blocks, size_t count, void *q8_0);

// MARK: - Packed rows
//
// The kernels read groups of 16 rows in an interleaved layout, which exists for Q4_0, Q4_K, Q5_K, Q6_K and Q8_0.

/// Rows per group.
#define PDROP_GROUP_ROWS 16

/// The size in bytes of one group with `inputs` columns, a multiple of 64.
size_t pdrop_group_bytes(pdrop_block_type type, size_t inputs);

/// Packs up to `PDROP_GROUP_ROWS` stored rows into a group; missing rows become zero. No weight changes.
///
/// - rows: The first of `count` rows; rows are `row_bytes` apart.
/// - group: `pdrop_group_bytes` bytes, aligned to 64.
void pdrop_pack_group(pdrop_block_type type, const void *rows, size_t row_bytes, int count, size_t inputs, void *group);

/// The reverse of `pdrop_pack_group`: the stored rows, bit for bit.
void pdrop_unpack_group(pdrop_block_type type, const void *group, int count, size_t inputs, void *rows,
                        size_t row_bytes);

// MARK: - Matmul

/// The size in bytes of `rows` quantized activation rows.
size_t pdrop_block_input_bytes(int rows, size_t inputs);

/// Quantizes activation rows to int8, with one scale for the values that meet a block of weights: 32 or 256. Sums of values
/// are stored beside them, for the minima of blocks and for codes with an offset.
///
/// - type: The type of the weights, one that can be packed.
/// - x: [rows, inputs]; rows are `stride` floats apart.
/// - input: The place of these rows and columns in `pdrop_block_input_bytes` bytes for `input_rows` rows, aligned to 64.
///   For each 256 columns there, the rows follow each other. Each row's values depend on that row alone.
void pdrop_quantize_block_input(pdrop_isa isa, pdrop_block_type type, const float *x, size_t stride, int rows,
                                size_t inputs, void *input, int input_rows);

/// The size in bytes of the working memory of `pdrop_gemm_blocks`; may be 0.
size_t pdrop_block_scratch_bytes(pdrop_isa isa, int rows, size_t outputs);

/// `y = x · wᵀ`, or `y += x · wᵀ` with `add`: int8 activations, packed block weights.
///
/// - input: From `pdrop_quantize_block_input` with the same `type` and `inputs`, and `rows` rows in all.
/// - groups: Consecutive packed groups of `outputs` rows; the last group may have fewer than 16.
/// - y: The result, [rows, outputs]; rows are `stride` floats apart.
/// - scratch: `pdrop_block_scratch_bytes` bytes, aligned to 64.
///
/// Sums within a block are exact integers, and blocks are added in f32 in a fixed order. The bits of a result depend
/// neither on the other rows nor on the range of outputs.
void pdrop_gemm_blocks(pdrop_isa isa, pdrop_block_type type, const void *input, int rows, const void *groups,
                       size_t inputs, size_t outputs, float *y, size_t stride, bool add, void *scratch);
