#include "attention.h"

#include "kernels.h"

size_t pdrop_attention_scratch(size_t panels, size_t dimension) {
  // A block of scores, keys and values, then queries, sums, factors and softmax of each panel, as f32: no format needs more.
  const size_t padded = (dimension + 31) / 32 * 32;
  return KEY_BLOCK * (PDROP_ATTENTION_PANEL + 2 * padded) + panels * PDROP_ATTENTION_PANEL * (2 * padded + 4);
}

void pdrop_attention(pdrop_isa isa, const pdrop_attention_block *block) {
  switch (isa) {
#if defined(__x86_64__)
    case pdrop_isa_avx2: return pdrop_attention_avx2(block);
    case pdrop_isa_avx512: return pdrop_attention_avx512(block);
    case pdrop_isa_avx512_vnni: return pdrop_attention_avx512_vnni(block);
    case pdrop_isa_avx512_bf16: return pdrop_attention_avx512_bf16(block);
    case pdrop_isa_avx512_amx: return pdrop_attention_avx512_amx(block);
#endif
    default: return pdrop_attention_portable(block);
  }
}
