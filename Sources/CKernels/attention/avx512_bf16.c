#if defined(__x86_64__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16"))), apply_to = function)
#define ATTENTION pdrop_attention_avx512_bf16
#define LANES 16
#define HAS_AVX512
#define TILE_ROWS 8
#define TILE_VECTORS 2
#define OPERANDS "operands_bf16.h"
#define PRODUCTS "products_registers.h"
#define INT8_SCORES "int8_scores_vnni.h"
#include "kernel.h"
#pragma clang attribute pop
#endif
