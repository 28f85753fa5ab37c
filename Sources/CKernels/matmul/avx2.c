// Small-M GEMM with AVX2, FMA and F16C.

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "kernels.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#define ISA avx2
#define LANES 8
#define ROW_TILE 2

#include "../simd.h"

INLINE vec_f32 load_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }

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

#define MULTIPLY_ADD(s, x, w) _mm256_fmadd_ps(x, w, s)
#define TOTAL_F32 total_f32
#include "float_gemms.h"

// Multiplies in 16 bits, two products per lane: the instruction for bytes would saturate.
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
#include "small_m_gemm.h"

#pragma clang attribute pop

const pdrop_gemms pdrop_gemms_avx2 = {
    f32_f32_avx2_gemm, f32_f16_avx2_gemm, f32_bf16_avx2_gemm, bf16_bf16_avx2_gemm, u8_s8_avx2_gemm,
};

#endif
