// Which kernels a processor can run, and the way to them.

#include <string.h>

#include "Levels.h"

int pdrop_best_level(void) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c"))
    return pdrop_level_portable;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512vl"))
    return pdrop_level_avx2;
  if (!__builtin_cpu_supports("avx512vnni")) return pdrop_level_avx512;
  return __builtin_cpu_supports("avx512bf16") ? pdrop_level_avx512_bf16 : pdrop_level_avx512_vnni;
#else
  return pdrop_level_portable;
#endif
}

int pdrop_is_zen4(void) {
#if defined(__x86_64__)
  return __builtin_cpu_is("znver4") != 0;
#else
  return 0;
#endif
}

static const struct pdrop_products *products(int level) {
  switch (level) {
#if defined(__x86_64__)
    case pdrop_level_avx2: return &pdrop_products_avx2;
    case pdrop_level_avx512: return &pdrop_products_avx512;
    case pdrop_level_avx512_vnni: return &pdrop_products_avx512_vnni;
    case pdrop_level_avx512_bf16: return &pdrop_products_avx512_bf16;
#endif
    default: return &pdrop_products_portable;
  }
}

size_t pdrop_packed_bytes(int rows, size_t row_bytes) { return (row_bytes + 63) / 64 * 64 * (size_t)rows; }

void pdrop_pack_rows(const void *x, size_t stride, int rows, size_t row_bytes, void *packed) {
  for (int r = 0; r < rows; r++) {
    const unsigned char *from = (const unsigned char *)x + (size_t)r * stride;
    unsigned char *to = (unsigned char *)packed + 64 * (size_t)r;
    size_t k = 0;
    for (; k + 64 <= row_bytes; k += 64, to += 64 * (size_t)rows) memcpy(to, from + k, 64);
    if (k == row_bytes) continue;
    memset(to, 0, 64);
    memcpy(to, from + k, row_bytes - k);
  }
}

void pdrop_product_f32_f32(int level, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                           size_t stride, int add) {
  products(level)->f32_f32(x, rows, w, inputs, outputs, y, stride, add);
}

void pdrop_product_f32_f16(int level, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                           size_t stride, int add) {
  products(level)->f32_f16(x, rows, w, inputs, outputs, y, stride, add);
}

void pdrop_product_f32_bf16(int level, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                            size_t stride, int add) {
  products(level)->f32_bf16(x, rows, w, inputs, outputs, y, stride, add);
}

void pdrop_product_bf16_bf16(int level, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                             size_t stride, int add) {
  products(level)->bf16_bf16(x, rows, w, inputs, outputs, y, stride, add);
}

void pdrop_product_u8_s8(int level, const void *x, int rows, const void *w, size_t inputs, size_t outputs, int32_t *y,
                         size_t stride) {
  products(level)->u8_s8(x, rows, w, inputs, outputs, y, stride, 0);
}
