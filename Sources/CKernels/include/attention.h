#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "isa.h"

// Softmax attention of one head for a block of queries, in one pass over the keys.
//
// Keys are processed in blocks with an online softmax. Each query keeps its running maximum score, the sum of its
// probabilities and the weighted sum of the values. All three are rescaled when the maximum grows, so memory does not
// grow with the number of keys.
// Source: Milakov and Gimelshein 2018, Online normalizer calculation for softmax; Dao et al. 2022, FlashAttention.

/// The maximum number of queries in a block.
#define PDROP_ATTENTION_ROWS 64

/// Queries, keys and values of one head as rows, and the address of the result.
typedef struct {
  /// `[rows, dimension]`; consecutive rows are `query_stride` floats apart.
  const float *queries;
  /// `[rows, dimension]`, with the stride of the queries.
  float *result;
  size_t query_stride;
  /// 1 to `PDROP_ATTENTION_ROWS`.
  size_t rows;
  size_t dimension;
  /// `[keys, dimension]`, f32 or bf16; consecutive rows are `key_stride` elements apart.
  const void *keys;
  /// `[keys, dimension]`, with the type and the stride of the keys.
  const void *values;
  size_t key_stride;
  /// Whether keys and values are bf16; f32 otherwise.
  bool keys_are_bf16;
  /// The number of keys visible to the first query, counted from key 0; at least 1.
  size_t visible;
  /// Whether each query sees one key more than the query before it; otherwise all see the same keys.
  bool is_causal;
  /// Whether queries are computed one at a time, for blocks that would leave a panel mostly empty. The last bits of the
  /// result differ.
  bool one_by_one;
  /// `pdrop_attention_scratch(dimension)` floats, 64-byte aligned.
  float *scratch;
} pdrop_attention_block;

/// The number of scratch floats a block needs, for any number of keys.
size_t pdrop_attention_scratch(size_t dimension);

/// Writes the attention of a block to its result.
///
/// The last bits of the result depend on the instruction set. With `pdrop_isa_avx512_bf16`, the operands of both
/// matmuls are rounded to bf16, unless `one_by_one` is set; scores and sums stay in f32.
///
/// `isa` must not exceed `pdrop_detect_isa()`.
void pdrop_attention(pdrop_isa isa, const pdrop_attention_block *block);
