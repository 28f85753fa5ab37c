// Small products for any processor, in vectors of 16 bytes.

#include <string.h>

#include "Levels.h"

typedef float floats __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(16)));
typedef uint32_t words __attribute__((vector_size(16)));
typedef uint16_t halves __attribute__((vector_size(8)));
typedef int8_t signed_bytes __attribute__((vector_size(4)));
typedef uint8_t bytes __attribute__((vector_size(4)));

static inline floats load_f32(const void *p) {
  floats v;
  memcpy(&v, p, sizeof v);
  return v;
}

static inline words load_halves(const void *p) {
  halves v;
  memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, words);
}

static inline floats load_bf16(const void *p) { return (floats)(load_halves(p) << 16); }

// Exponent and fraction move to their places in a float, whose exponent is then too small by 112: one exact product mends
// it, subnormals included. An exponent of all ones is carried over as such.
static inline floats load_f16(const void *p) {
  const words bits = load_halves(p), magnitude = (bits & 0x7FFF) << 13;
  const words scaled = (words)((floats)magnitude * 0x1p112f);
  const words special = (words)(magnitude >= 0x0F800000) & 0x7F800000;
  return (floats)(scaled | special | (bits & 0x8000) << 16);
}

static inline ints load_s8(const void *p) {
  signed_bytes v;
  memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, ints);
}

static inline ints load_u8(const void *p) {
  bytes v;
  memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, ints);
}

#define LEVEL portable
#define ROW_TILE 2
#define SUM_OF_LANES(s) (((s)[0] + (s)[2]) + ((s)[1] + (s)[3]))

#define NAME f32_f32
#define X_BYTES 4
#define W_BYTES 4
#define STEP 4
#define VECTOR floats
#define LOAD_X load_f32
#define LOAD_W load_f32
#define ADD(s, x, w) ((s) + (x) * (w))
#define RESULT float
#define TOTAL SUM_OF_LANES
#include "SmallProduct.h"

#define NAME f32_f16
#define X_BYTES 4
#define W_BYTES 2
#define STEP 4
#define VECTOR floats
#define LOAD_X load_f32
#define LOAD_W load_f16
#define ADD(s, x, w) ((s) + (x) * (w))
#define RESULT float
#define TOTAL SUM_OF_LANES
#include "SmallProduct.h"

#define NAME f32_bf16
#define X_BYTES 4
#define W_BYTES 2
#define STEP 4
#define VECTOR floats
#define LOAD_X load_f32
#define LOAD_W load_bf16
#define ADD(s, x, w) ((s) + (x) * (w))
#define RESULT float
#define TOTAL SUM_OF_LANES
#include "SmallProduct.h"

#define NAME bf16_bf16
#define X_BYTES 2
#define W_BYTES 2
#define STEP 4
#define VECTOR floats
#define LOAD_X load_bf16
#define LOAD_W load_bf16
#define ADD(s, x, w) ((s) + (x) * (w))
#define RESULT float
#define TOTAL SUM_OF_LANES
#include "SmallProduct.h"

#define NAME u8_s8
#define X_BYTES 1
#define W_BYTES 1
#define STEP 4
#define VECTOR ints
#define LOAD_X load_u8
#define LOAD_W load_s8
#define ADD(s, x, w) ((s) + (x) * (w))
#define RESULT int32_t
#define TOTAL SUM_OF_LANES
#include "SmallProduct.h"

const struct pdrop_products pdrop_products_portable = {
    f32_f32_portable_product, f32_f16_portable_product, f32_bf16_portable_product, bf16_bf16_portable_product,
    u8_s8_portable_product};
