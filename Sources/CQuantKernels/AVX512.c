// Small products with AVX-512: as every such processor has it, with VNNI for bytes, and with BF16 for brain floats.

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "Levels.h"

#define INLINE static inline __attribute__((always_inline))
#define ROW_TILE 4

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,evex512"))), apply_to = function)

INLINE __m512 load_f32(const void *p) { return _mm512_loadu_ps(p); }

INLINE __m512 load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }

INLINE __m512 load_bf16(const void *p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

INLINE __m512i load_u8(const void *p) { return _mm512_cvtepu8_epi16(_mm256_loadu_si256(p)); }

INLINE __m512i load_s8(const void *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256(p)); }

INLINE __m512i load_bytes(const void *p) { return _mm512_loadu_si512(p); }

#define LEVEL avx512

#define NAME f32_f32
#define X_BYTES 4
#define W_BYTES 4
#define STEP 16
#define VECTOR __m512
#define LOAD_X load_f32
#define LOAD_W load_f32
#define ADD(s, x, w) _mm512_fmadd_ps(x, w, s)
#define RESULT float
#define TOTAL _mm512_reduce_add_ps
#include "SmallProduct.h"

#define NAME f32_f16
#define X_BYTES 4
#define W_BYTES 2
#define STEP 16
#define VECTOR __m512
#define LOAD_X load_f32
#define LOAD_W load_f16
#define ADD(s, x, w) _mm512_fmadd_ps(x, w, s)
#define RESULT float
#define TOTAL _mm512_reduce_add_ps
#include "SmallProduct.h"

#define NAME f32_bf16
#define X_BYTES 4
#define W_BYTES 2
#define STEP 16
#define VECTOR __m512
#define LOAD_X load_f32
#define LOAD_W load_bf16
#define ADD(s, x, w) _mm512_fmadd_ps(x, w, s)
#define RESULT float
#define TOTAL _mm512_reduce_add_ps
#include "SmallProduct.h"

#define NAME bf16_bf16
#define X_BYTES 2
#define W_BYTES 2
#define STEP 16
#define VECTOR __m512
#define LOAD_X load_bf16
#define LOAD_W load_bf16
#define ADD(s, x, w) _mm512_fmadd_ps(x, w, s)
#define RESULT float
#define TOTAL _mm512_reduce_add_ps
#include "SmallProduct.h"

#define NAME u8_s8
#define X_BYTES 1
#define W_BYTES 1
#define STEP 32
#define VECTOR __m512i
#define LOAD_X load_u8
#define LOAD_W load_s8
#define ADD(s, x, w) _mm512_add_epi32(s, _mm512_madd_epi16(x, w))
#define RESULT int32_t
#define TOTAL _mm512_reduce_add_epi32
#include "SmallProduct.h"

#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,evex512"))), \
                             apply_to = function)
#undef LEVEL
#define LEVEL avx512_vnni

#define NAME u8_s8
#define X_BYTES 1
#define W_BYTES 1
#define STEP 64
#define VECTOR __m512i
#define LOAD_X load_bytes
#define LOAD_W load_bytes
#define ADD(s, x, w) _mm512_dpbusd_epi32(s, x, w)
#define RESULT int32_t
#define TOTAL _mm512_reduce_add_epi32
#include "SmallProduct.h"

#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,evex512"))), \
                             apply_to = function)
#undef LEVEL
#define LEVEL avx512_bf16

#define NAME bf16_bf16
#define X_BYTES 2
#define W_BYTES 2
#define STEP 32
#define VECTOR __m512
#define LOAD_X load_bytes
#define LOAD_W load_bytes
#define ADD(s, x, w) _mm512_dpbf16_ps(s, (__m512bh)(x), (__m512bh)(w))
#define RESULT float
#define TOTAL _mm512_reduce_add_ps
#include "SmallProduct.h"

#pragma clang attribute pop

const struct pdrop_products pdrop_products_avx512 = {f32_f32_avx512_product, f32_f16_avx512_product,
                                                     f32_bf16_avx512_product, bf16_bf16_avx512_product,
                                                     u8_s8_avx512_product};
const struct pdrop_products pdrop_products_avx512_vnni = {f32_f32_avx512_product, f32_f16_avx512_product,
                                                          f32_bf16_avx512_product, bf16_bf16_avx512_product,
                                                          u8_s8_avx512_vnni_product};
const struct pdrop_products pdrop_products_avx512_bf16 = {f32_f32_avx512_product, f32_f16_avx512_product,
                                                          f32_bf16_avx512_product, bf16_bf16_avx512_bf16_product,
                                                          u8_s8_avx512_vnni_product};

#endif
