// Small products with AVX2, FMA and F16C.

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "Levels.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#define INLINE static inline __attribute__((always_inline))

INLINE __m256 load_f32(const void *p) { return _mm256_loadu_ps(p); }

INLINE __m256 load_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }

INLINE __m256 load_bf16(const void *p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}

INLINE __m256i load_u8(const void *p) { return _mm256_cvtepu8_epi16(_mm_loadu_si128(p)); }

INLINE __m256i load_s8(const void *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128(p)); }

INLINE float total_f32(__m256 s) {
  __m128 t = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  t = _mm_add_ps(t, _mm_movehl_ps(t, t));
  return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}

INLINE int32_t total_s32(__m256i s) {
  __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
  t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4E));
  return _mm_cvtsi128_si32(_mm_add_epi32(t, _mm_shuffle_epi32(t, 0xB1)));
}

#define LEVEL avx2
#define ROW_TILE 2

#define NAME f32_f32
#define X_BYTES 4
#define W_BYTES 4
#define STEP 8
#define VECTOR __m256
#define LOAD_X load_f32
#define LOAD_W load_f32
#define ADD(s, x, w) _mm256_fmadd_ps(x, w, s)
#define RESULT float
#define TOTAL total_f32
#include "SmallProduct.h"

#define NAME f32_f16
#define X_BYTES 4
#define W_BYTES 2
#define STEP 8
#define VECTOR __m256
#define LOAD_X load_f32
#define LOAD_W load_f16
#define ADD(s, x, w) _mm256_fmadd_ps(x, w, s)
#define RESULT float
#define TOTAL total_f32
#include "SmallProduct.h"

#define NAME f32_bf16
#define X_BYTES 4
#define W_BYTES 2
#define STEP 8
#define VECTOR __m256
#define LOAD_X load_f32
#define LOAD_W load_bf16
#define ADD(s, x, w) _mm256_fmadd_ps(x, w, s)
#define RESULT float
#define TOTAL total_f32
#include "SmallProduct.h"

#define NAME bf16_bf16
#define X_BYTES 2
#define W_BYTES 2
#define STEP 8
#define VECTOR __m256
#define LOAD_X load_bf16
#define LOAD_W load_bf16
#define ADD(s, x, w) _mm256_fmadd_ps(x, w, s)
#define RESULT float
#define TOTAL total_f32
#include "SmallProduct.h"

// In 16 bits, two products a lane: no sum saturates, as it would with the instruction for bytes.
#define NAME u8_s8
#define X_BYTES 1
#define W_BYTES 1
#define STEP 16
#define VECTOR __m256i
#define LOAD_X load_u8
#define LOAD_W load_s8
#define ADD(s, x, w) _mm256_add_epi32(s, _mm256_madd_epi16(x, w))
#define RESULT int32_t
#define TOTAL total_s32
#include "SmallProduct.h"

#pragma clang attribute pop

const struct pdrop_products pdrop_products_avx2 = {f32_f32_avx2_product, f32_f16_avx2_product, f32_bf16_avx2_product,
                                                   bf16_bf16_avx2_product, u8_s8_avx2_product};

#endif
