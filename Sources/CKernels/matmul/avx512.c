// Small-M GEMM with AVX-512: the F, BW, DQ and VL subsets for all types, VNNI for int8 and BF16 for bf16.

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "kernels.h"

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,evex512"))), apply_to = function)

#define ISA avx512
#define LANES 16
#define ROW_TILE 4

#include "../simd.h"

INLINE vec_f32 load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }

INLINE __m512i load_u8(const void *p) { return _mm512_cvtepu8_epi16(_mm256_loadu_si256(p)); }

INLINE __m512i load_s8(const void *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256(p)); }

INLINE __m512i load_bytes(const void *p) { return _mm512_loadu_si512(p); }

#define MULTIPLY_ADD(s, x, w) _mm512_fmadd_ps(x, w, s)
#define TOTAL_F32 _mm512_reduce_add_ps
#include "float_gemms.h"

// Multiplies in 16 bits, two products per lane, exactly.
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
#include "small_m_gemm.h"

#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,evex512"))), \
                             apply_to = function)
#undef ISA
#define ISA avx512_vnni

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
#include "small_m_gemm.h"

#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,evex512"))), \
                             apply_to = function)
#undef ISA
#define ISA avx512_bf16

#define NAME bf16_bf16
#define X_BYTES 2
#define W_BYTES 2
#define STEP 32
#define VECTOR vec_f32
#define LOAD_X load_bytes
#define LOAD_W load_bytes
#define ADD(s, x, w) _mm512_dpbf16_ps(s, (__m512bh)(x), (__m512bh)(w))
#define RESULT float
#define TOTAL _mm512_reduce_add_ps
#include "small_m_gemm.h"

#pragma clang attribute pop

const pdrop_gemms pdrop_gemms_avx512 = {
    f32_f32_avx512_gemm, f32_f16_avx512_gemm, f32_bf16_avx512_gemm, bf16_bf16_avx512_gemm, u8_s8_avx512_gemm,
};

const pdrop_gemms pdrop_gemms_avx512_vnni = {
    f32_f32_avx512_gemm, f32_f16_avx512_gemm, f32_bf16_avx512_gemm, bf16_bf16_avx512_gemm, u8_s8_avx512_vnni_gemm,
};

const pdrop_gemms pdrop_gemms_avx512_bf16 = {
    f32_f32_avx512_gemm, f32_f16_avx512_gemm, f32_bf16_avx512_gemm, bf16_bf16_avx512_bf16_gemm, u8_s8_avx512_vnni_gemm,
};

#endif
