#if defined(__x86_64__)
#pragma clang attribute push(                                                                                     \
    __attribute__((                                                                                               \
        target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,amx-tile,amx-bf16,amx-int8"))), \
    apply_to = function)
#define ATTENTION pdrop_attention_avx512_amx
#define LANES 16
#define HAS_AVX512
#define TILE_ROWS 32
#define TILE_VECTORS 2
#define OPERANDS "operands_amx.h"
#define PRODUCTS "products_amx.h"
#define INT8_SCORES "int8_scores_amx.h"
#include "kernel.h"
#pragma clang attribute pop
#endif
