#include "isa.h"

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

/// Whether the process may use the tiles of AMX, which Linux grants on request.
///
/// Source: `Documentation/arch/x86/xstate.rst` of Linux.
static bool has_tiles(void) {
  const long request_permission = 0x1023, tile_data = 18;
  return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
         __builtin_cpu_supports("amx-int8") && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
#elif defined(__x86_64__)
static bool has_tiles(void) { return false; }
#endif

pdrop_isa pdrop_detect_isa(void) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c"))
    return pdrop_isa_portable;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return pdrop_isa_avx2;
  if (!__builtin_cpu_supports("avx512vnni")) return pdrop_isa_avx512;
  if (!__builtin_cpu_supports("avx512bf16")) return pdrop_isa_avx512_vnni;
  return has_tiles() ? pdrop_isa_avx512_amx : pdrop_isa_avx512_bf16;
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
