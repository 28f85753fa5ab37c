#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define ATTENTION pdrop_attention_avx2
#define LANES 8
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define OPERANDS "operands_f32.h"
#define PRODUCTS "products_registers.h"
#include "kernel.h"
#pragma clang attribute pop
#endif
