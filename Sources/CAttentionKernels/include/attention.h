#pragma once
#include <stdbool.h>
#include <stddef.h>

// Softmax attention of one head for a block of queries, in one pass over the keys.
//
// Keys are taken some at a time. Of each query the largest score so far, the sum of powers and the weighted sum of values are
// kept, and rescaled when a larger score turns up: memory does not grow with the number of keys.
// Source: Milakov and Gimelshein 2018, Online normalizer calculation for softmax; Dao et al. 2022, FlashAttention.

/// The most queries of a block.
#define ATTENTION_ROWS 64

/// The same computation in the instructions of different processors; the last bits differ.
typedef enum {
  attention_portable,
  attention_avx2,
  attention_avx512,
  /// Factors of both products are rounded to bfloat16; scores, powers and sums are not.
  attention_avx512_bf16,
} attention_variant;

/// One head's queries, keys and values as rows, and where its result goes.
typedef struct {
  /// `[rows, dimension]`, of which each row starts `query_stride` floats behind the one before.
  const float *queries;
  /// As the queries.
  float *result;
  size_t query_stride;
  /// 1 to `ATTENTION_ROWS`.
  size_t rows;
  size_t dimension;
  /// `[keys, dimension]`, floats or bfloat16, of which each row starts `key_stride` numbers behind the one before.
  const void *keys;
  /// As the keys.
  const void *values;
  size_t key_stride;
  bool keys_are_bf16;
  /// How many keys, from the first, the first query sees; at least 1.
  size_t visible;
  /// Whether each query sees one key more than the query before, and not just as many.
  bool is_causal;
  /// Whether each query is done by itself, where a panel of them would be mostly empty; the last bits differ.
  bool one_by_one;
  /// `attention_scratch(dimension)` floats on a 64-byte boundary.
  float *scratch;
} attention_block;

/// How many floats of scratch a block needs, for any number of keys.
size_t attention_scratch(size_t dimension);

/// Whether the processor has the instructions of a variant.
bool attention_has(attention_variant variant);

/// Writes the attention of a block to its result; the processor must have the variant.
void attention_run(attention_variant variant, const attention_block *block);
