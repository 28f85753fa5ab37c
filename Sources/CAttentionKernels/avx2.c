#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#define RUN run_avx2
#define LANES 8
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define FACTORS "factors_f32.h"
#include "variant.h"
#pragma clang attribute pop
#endif
