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

/// Queries are computed in panels of at most this many rows of one head.
#define PDROP_ATTENTION_PANEL 32

/// The maximum number of queries in a block, if the rows of each head are counted as whole panels. Keys and values are
/// packed once for all of them.
#define PDROP_ATTENTION_ROWS 512

/// The type of stored keys and values.
typedef enum {
  pdrop_kv_f32,
  pdrop_kv_bf16,
  /// Integers, times one scale per row and head.
  pdrop_kv_int8,
} pdrop_kv_type;

/// Queries, keys and values as rows, and the address of the result.
typedef struct {
  /// `[heads, rows, dimension]`; consecutive rows are `query_stride` floats apart, heads `dimension` floats.
  const float *queries;
  /// As the queries.
  float *result;
  size_t query_stride;
  /// Rows per head, at least 1.
  size_t rows;
  /// The heads of the queries, which share keys and values.
  size_t heads;
  size_t dimension;
  /// `[keys, dimension]`; consecutive rows are `key_stride` elements apart.
  const void *keys;
  /// `[keys, dimension]`, with the type and the stride of the keys.
  const void *values;
  size_t key_stride;
  pdrop_kv_type type;
  /// For int8: the scale of each key and value.
  const float *key_scales, *value_scales;
  /// The number of keys visible to the first query of a head, counted from key 0; at least 1.
  size_t visible;
  /// Whether each query sees one key more than the query before it; otherwise all see the same keys.
  bool is_causal;
  /// Whether queries are computed one at a time, for blocks that would leave a panel mostly empty. The last bits of the
  /// result differ.
  bool one_by_one;
  /// Whether scores are those of queries and keys in int8, with a scale for each row: those of an int8 cache as they are,
  /// others rounded. Without effect if `one_by_one` is set, or without VNNI.
  bool has_int8_scores;
  /// `pdrop_attention_scratch` floats, 64-byte aligned.
  float *scratch;
} pdrop_attention_block;

/// The number of scratch floats of a block, for any number of keys.
///
/// - panels: The panels of all heads.
size_t pdrop_attention_scratch(size_t panels, size_t dimension);

/// Writes the attention of a block to its result.
///
/// The last bits of the result depend on the instruction set. With `pdrop_isa_avx512_bf16` and `_amx`, the operands of both
/// matmuls are rounded to bf16, unless `one_by_one` is set; scores and sums stay in f32.
///
/// `isa` must not exceed `pdrop_detect_isa()`.
void pdrop_attention(pdrop_isa isa, const pdrop_attention_block *block);
