#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw"))), apply_to = function)
#define RUN run_avx512
#define LANES 16
#define TILE_ROWS 8
#define TILE_VECTORS 2
#define FACTORS "factors_f32.h"
#include "variant.h"
#pragma clang attribute pop
#endif
