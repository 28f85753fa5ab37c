#pragma once

#include "CQuantKernels.h"

// The small products of one level of the processor.
struct pdrop_products {
  void (*f32_f32)(const unsigned char *, int, const unsigned char *, size_t, size_t, float *, size_t, int);
  void (*f32_f16)(const unsigned char *, int, const unsigned char *, size_t, size_t, float *, size_t, int);
  void (*f32_bf16)(const unsigned char *, int, const unsigned char *, size_t, size_t, float *, size_t, int);
  void (*bf16_bf16)(const unsigned char *, int, const unsigned char *, size_t, size_t, float *, size_t, int);
  void (*u8_s8)(const unsigned char *, int, const unsigned char *, size_t, size_t, int32_t *, size_t, int);
};

extern const struct pdrop_products pdrop_products_portable;
#if defined(__x86_64__)
extern const struct pdrop_products pdrop_products_avx2;
extern const struct pdrop_products pdrop_products_avx512;
extern const struct pdrop_products pdrop_products_avx512_vnni;
extern const struct pdrop_products pdrop_products_avx512_bf16;
#endif
