// The small-M GEMMs with f32 accumulators of one instruction set: f32_f32, f32_f16, f32_bf16 and bf16_bf16.
//
// Besides ISA, ROW_TILE and simd.h, the including file defines
//   load_f16(p)              LANES f16 values, widened exactly
//   MULTIPLY_ADD(s, x, w)    s + x · w per lane
//   TOTAL_F32(s)             the sum of the lanes, in a fixed order

#define NAME f32_f32
#define X_BYTES 4
#define W_BYTES 4
#define STEP LANES
#define VECTOR vec_f32
#define LOAD_X load_f32
#define LOAD_W load_f32
#define ADD MULTIPLY_ADD
#define RESULT float
#define TOTAL TOTAL_F32
#include "small_m_gemm.h"

#define NAME f32_f16
#define X_BYTES 4
#define W_BYTES 2
#define STEP LANES
#define VECTOR vec_f32
#define LOAD_X load_f32
#define LOAD_W load_f16
#define ADD MULTIPLY_ADD
#define RESULT float
#define TOTAL TOTAL_F32
#include "small_m_gemm.h"

#define NAME f32_bf16
#define X_BYTES 4
#define W_BYTES 2
#define STEP LANES
#define VECTOR vec_f32
#define LOAD_X load_f32
#define LOAD_W load_bf16
#define ADD MULTIPLY_ADD
#define RESULT float
#define TOTAL TOTAL_F32
#include "small_m_gemm.h"

#define NAME bf16_bf16
#define X_BYTES 2
#define W_BYTES 2
#define STEP LANES
#define VECTOR vec_f32
#define LOAD_X load_bf16
#define LOAD_W load_bf16
#define ADD MULTIPLY_ADD
#define RESULT float
#define TOTAL TOTAL_F32
#include "small_m_gemm.h"
