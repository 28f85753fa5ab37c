#include "attention.h"

#include "kernels.h"

size_t pdrop_attention_scratch(size_t dimension) {
  // Queries, accumulators and scores, then the gathered keys or values; an odd dimension is padded to whole pairs.
  return PDROP_ATTENTION_ROWS * (2 * dimension + KEY_BLOCK) + KEY_BLOCK * (dimension + 1);
}

void pdrop_attention(pdrop_isa isa, const pdrop_attention_block *block) {
  switch (isa) {
#if defined(__x86_64__)
    case pdrop_isa_avx2: return pdrop_attention_avx2(block);
    case pdrop_isa_avx512:
    case pdrop_isa_avx512_vnni: return pdrop_attention_avx512(block);
    case pdrop_isa_avx512_bf16: return pdrop_attention_avx512_bf16(block);
#endif
    default: return pdrop_attention_portable(block);
  }
}
