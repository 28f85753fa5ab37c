#pragma once

#include <stdint.h>

// The tiles of AMX: eight registers of up to 16 rows of 64 bytes.

/// What `_tile_loadconfig` reads: the rows of each tile, and the bytes of each row.
typedef struct {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} tile_configuration;

/// All tiles with 16 rows of 64 bytes.
static inline tile_configuration whole_tiles(void) {
  tile_configuration configuration = {.palette = 1};
  for (int t = 0; t < 8; t++) configuration.rows[t] = 16, configuration.row_bytes[t] = 64;
  return configuration;
}
