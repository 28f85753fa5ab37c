#include "isa.h"

pdrop_isa pdrop_detect_isa(void) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c"))
    return pdrop_isa_portable;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return pdrop_isa_avx2;
  if (!__builtin_cpu_supports("avx512vnni")) return pdrop_isa_avx512;
  return __builtin_cpu_supports("avx512bf16") ? pdrop_isa_avx512_bf16 : pdrop_isa_avx512_vnni;
#else
  return pdrop_isa_portable;
#endif
}

bool pdrop_is_zen4(void) {
#if defined(__x86_64__)
  return __builtin_cpu_is("znver4") != 0;
#else
  return false;
#endif
}
