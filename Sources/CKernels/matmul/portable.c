// Small-M GEMM for any processor, in 16-byte vectors.

#include <string.h>

#include "kernels.h"

#define ISA portable
#define LANES 4
#define ROW_TILE 2

#include "../simd.h"

typedef int8_t vec_s8 __attribute__((vector_size(LANES)));
typedef uint8_t vec_u8 __attribute__((vector_size(LANES)));

/// Shifts exponent and mantissa to their places in an f32, whose exponent is then too small by 112. One exact
/// multiplication corrects it, subnormals included. An exponent of all ones is set separately.
static inline vec_f32 load_f16(const void *p) {
  const vec_u32 bits = extend_u16(load_u16(p)), magnitude = (bits & 0x7FFF) << 13;
  const vec_u32 scaled = (vec_u32)((vec_f32)magnitude * 0x1p112f);
  const vec_u32 special = (vec_u32)(magnitude >= 0x0F800000) & 0x7F800000;
  return (vec_f32)(scaled | special | (bits & 0x8000) << 16);
}

static inline vec_i32 load_s8(const void *p) {
  vec_s8 v;
  memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, vec_i32);
}

static inline vec_i32 load_u8(const void *p) {
  vec_u8 v;
  memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, vec_i32);
}

#define SUM_OF_LANES(s) (((s)[0] + (s)[2]) + ((s)[1] + (s)[3]))

#define MULTIPLY_ADD(s, x, w) ((s) + (x) * (w))
#define TOTAL_F32 SUM_OF_LANES
#include "float_gemms.h"

#define NAME u8_s8
#define X_BYTES 1
#define W_BYTES 1
#define STEP LANES
#define VECTOR vec_i32
#define LOAD_X load_u8
#define LOAD_W load_s8
#define ADD MULTIPLY_ADD
#define RESULT int32_t
#define TOTAL SUM_OF_LANES
#include "small_m_gemm.h"

const pdrop_gemms pdrop_gemms_portable = {
    f32_f32_portable_gemm, f32_f16_portable_gemm, f32_bf16_portable_gemm, bf16_bf16_portable_gemm, u8_s8_portable_gemm,
};
