// Packing of activation rows, and dispatch to the kernels of an instruction set.

#include "matmul.h"

#include <string.h>

#include "kernels.h"

static const pdrop_gemms *gemms(pdrop_isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case pdrop_isa_avx2: return &pdrop_gemms_avx2;
    case pdrop_isa_avx512: return &pdrop_gemms_avx512;
    case pdrop_isa_avx512_vnni: return &pdrop_gemms_avx512_vnni;
    case pdrop_isa_avx512_bf16:
    case pdrop_isa_avx512_amx: return &pdrop_gemms_avx512_bf16;
#endif
    default: return &pdrop_gemms_portable;
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

void pdrop_gemm_f32_f32(pdrop_isa isa, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                        size_t stride, bool add) {
  gemms(isa)->f32_f32(x, rows, w, inputs, outputs, y, stride, add);
}

void pdrop_gemm_f32_f16(pdrop_isa isa, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                        size_t stride, bool add) {
  gemms(isa)->f32_f16(x, rows, w, inputs, outputs, y, stride, add);
}

void pdrop_gemm_f32_bf16(pdrop_isa isa, const void *x, int rows, const void *w, size_t inputs, size_t outputs, float *y,
                         size_t stride, bool add) {
  gemms(isa)->f32_bf16(x, rows, w, inputs, outputs, y, stride, add);
}

void pdrop_gemm_bf16_bf16(pdrop_isa isa, const void *x, int rows, const void *w, size_t inputs, size_t outputs,
                          float *y, size_t stride, bool add) {
  gemms(isa)->bf16_bf16(x, rows, w, inputs, outputs, y, stride, add);
}

void pdrop_gemm_u8_s8(pdrop_isa isa, const void *x, int rows, const void *w, size_t inputs, size_t outputs, int32_t *y,
                      size_t stride) {
  gemms(isa)->u8_s8(x, rows, w, inputs, outputs, y, stride, false);
}
