#if 1
#define RUN run_portable
#define LANES 4
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define FACTORS "factors_f32.h"
#include "variant.h"
#endif
