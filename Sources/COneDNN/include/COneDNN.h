#pragma once

#include <stddef.h>

// Matrix products of the oneDNN library, where it is there: compiled against the headers of version 2.6 or 3.x, loaded when
// first asked for, never linked. Without headers, or without the library, nothing is available.

// The library's version as major * 10000 + minor * 100 + patch, or 0 if there is none to use.
int pdrop_onednn_version(void);

// Whether the library may use the instructions that make brain floats, and bytes without saturation, worth while.
int pdrop_onednn_has_bf16(void);
int pdrop_onednn_has_int8(void);

enum pdrop_onednn_type {
  pdrop_onednn_f32,    // f32 x f32 -> f32
  pdrop_onednn_bf16,   // bf16 x bf16 -> f32
  pdrop_onednn_u8_s8,  // u8 x s8 -> s32
};

// y = x * transpose(w), or y += with `add`: x [rows, inputs], w [outputs, inputs], y [rows, outputs], all row-major, rows of y
// `stride` values apart. On the calling thread alone; any number of threads may call at the same time.
//
// Returns 0, or -1 when the library refuses; whether it does depends on the sizes alone, and y is then as it was.
int pdrop_onednn_product(enum pdrop_onednn_type type, const void *x, size_t rows, const void *w, size_t inputs,
                         size_t outputs, void *y, size_t stride, int add);
