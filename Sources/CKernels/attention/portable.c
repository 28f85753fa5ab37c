#define ATTENTION pdrop_attention_portable
#define LANES 4
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define OPERANDS "operands_f32.h"
#define PRODUCTS "products_registers.h"
#include "kernel.h"
