#include "variants.h"

size_t attention_scratch(size_t dimension) {
  // Queries, sums, scores, and the keys or values in hand; an odd dimension is filled up to pairs.
  return ATTENTION_ROWS * (2 * dimension + KEY_BLOCK) + KEY_BLOCK * (dimension + 1);
}

bool attention_has(attention_variant variant) {
  switch (variant) {
  case attention_portable: return true;
#if defined(__x86_64__)
  case attention_avx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  case attention_avx512: return attention_has(attention_avx2) && __builtin_cpu_supports("avx512bw");
  case attention_avx512_bf16: return attention_has(attention_avx512) && __builtin_cpu_supports("avx512bf16");
#endif
  default: return false;
  }
}

void attention_run(attention_variant variant, const attention_block *block) {
  switch (variant) {
#if defined(__x86_64__)
  case attention_avx2: return run_avx2(block);
  case attention_avx512: return run_avx512(block);
  case attention_avx512_bf16: return run_avx512_bf16(block);
#endif
  default: return run_portable(block);
  }
}
