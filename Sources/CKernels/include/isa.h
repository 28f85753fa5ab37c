#pragma once

#include <stdbool.h>

/// Instruction sets that the kernels are compiled for; each includes those before it.
typedef enum {
  /// The target of the build, without intrinsics.
  pdrop_isa_portable,
  /// AVX2, FMA and F16C.
  pdrop_isa_avx2,
  /// AVX-512 F, BW, DQ and VL.
  pdrop_isa_avx512,
  /// AVX-512 with VNNI.
  pdrop_isa_avx512_vnni,
  /// AVX-512 with VNNI and BF16.
  pdrop_isa_avx512_bf16,
  /// AVX-512 with VNNI and BF16, and AMX with int8 and BF16.
  pdrop_isa_avx512_amx,
} pdrop_isa;

/// The highest instruction set that the processor and the operating system support.
pdrop_isa pdrop_detect_isa(void);

/// Whether the processor is an AMD Zen 4, whose AVX-512 units are 256 bits wide.
bool pdrop_is_zen4(void);
