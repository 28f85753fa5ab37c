// The loops of one small-M GEMM. Included once per pair of element types and instruction set.
//
// The including file includes simd.h and defines ISA, a name suffix, and ROW_TILE, the number of activation rows whose
// sums stay in registers. Per GEMM it also defines the following; this file undefines them:
//   NAME          the activation and weight types
//   X_BYTES       bytes per activation; a chunk of the packed rows holds 64 / X_BYTES of them
//   W_BYTES       bytes per weight
//   STEP          inputs per vector step, a divisor of the chunk
//   VECTOR        a vector of partial sums
//   LOAD_X(p)     loads STEP activations
//   LOAD_W(p)     loads STEP weights, from any address
//   ADD(s, x, w)  s + x · w per lane
//   RESULT        the element type of the result
//   TOTAL(s)      the sum of the lanes, in a fixed order
//
// A tile is 4 weight rows by ROW_TILE activation rows. Each pair of rows has one vector of sums, which runs over the
// inputs from first to last. Tile size, block size and the number of rows therefore do not change a bit.

#define PASTE_(a, b, c) a##_##b##_##c
#define PASTE(a, b, c) PASTE_(a, b, c)
#define KERNEL(part) PASTE(NAME, ISA, part)
#define CHUNK (64 / X_BYTES)
// Inputs per pass over all rows: 2 KiB of each packed row keep 16 rows and the weights of a tile in cache.
#define BLOCK (2048 / X_BYTES)

/// One block of one tile.
///
/// - x: The first of the tile's rows in the first chunk; chunks are `chunk_bytes` apart.
/// - prefetch_offset: Distance in bytes from the weights of this block to those of the next block or tile.
/// - first_prefetched, prefetch_rows: The weight rows to prefetch there.
INLINE void KERNEL(tile)(VECTOR *sums, const int rows, const unsigned char *const *w, const unsigned char *x,
                         size_t chunk_bytes, size_t count, ptrdiff_t prefetch_offset, int first_prefetched,
                         const int prefetch_rows) {
  VECTOR s[ROW_TILE][4];
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < 4; i++) s[r][i] = sums[4 * r + i];
  const unsigned char *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
  uintptr_t prefetched[4];
  for (int i = 0; i < prefetch_rows; i++)
    prefetched[i] = (uintptr_t)w[first_prefetched + i] + (uintptr_t)prefetch_offset;
  for (size_t c = 0; c < count; c += CHUNK) {
    for (int i = 0; i < prefetch_rows; i++) __builtin_prefetch((const void *)(prefetched[i] + c * W_BYTES));
    for (int k = 0; k < CHUNK; k += STEP) {
      const size_t at = (c + k) * W_BYTES;
      const __typeof__(LOAD_W(w0)) v0 = LOAD_W(w0 + at), v1 = LOAD_W(w1 + at), v2 = LOAD_W(w2 + at),
                                   v3 = LOAD_W(w3 + at);
      for (int r = 0; r < rows; r++) {
        const __typeof__(LOAD_X(x)) u = LOAD_X(x + 64 * r + k * X_BYTES);
        s[r][0] = ADD(s[r][0], u, v0);
        s[r][1] = ADD(s[r][1], u, v1);
        s[r][2] = ADD(s[r][2], u, v2);
        s[r][3] = ADD(s[r][3], u, v3);
      }
    }
    x += chunk_bytes;
  }
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < 4; i++) sums[4 * r + i] = s[r][i];
}

/// The tile with its sizes as compile-time constants.
INLINE void KERNEL(tile_of)(VECTOR *sums, int rows, const unsigned char *const *w, const unsigned char *x,
                            size_t chunk_bytes, size_t count, ptrdiff_t prefetch_offset, int first_prefetched,
                            int prefetch_rows) {
#define TILE(rows, prefetch_rows) \
  KERNEL(tile)(sums, rows, w, x, chunk_bytes, count, prefetch_offset, first_prefetched, prefetch_rows)
#define TILES(rows) (prefetch_rows == 4 ? TILE(rows, 4) : prefetch_rows == 2 ? TILE(rows, 2) : TILE(rows, 1))
  switch (rows) {
    case 1: TILES(1); break;
    case 2: TILES(2); break;
#if ROW_TILE > 2
    case 3: TILES(3); break;
    case 4: TILES(4); break;
#endif
  }
#undef TILES
#undef TILE
}

/// Copies the last inputs of 4 weight rows, less than a chunk, and pads them with zeros like the packed activations.
INLINE void KERNEL(pad)(unsigned char (*last)[CHUNK * W_BYTES], const unsigned char *const *w, size_t full,
                        size_t inputs) {
  memset(last, 0, 4 * sizeof *last);
  for (int i = 0; i < 4; i++) memcpy(last[i], w[i] + full * W_BYTES, (inputs - full) * W_BYTES);
}

/// GEMV, the case of a single row, which is bound by memory bandwidth.
///
/// This plain loop reads weights fastest; with blocks and prefetches it was a fifth slower (Zen 5).
static void KERNEL(gemv)(const unsigned char *x, const unsigned char *w, size_t inputs, size_t outputs, RESULT *y,
                         bool add) {
  const size_t row_bytes = inputs * W_BYTES, full = inputs - inputs % CHUNK;
  unsigned char last[4][CHUNK * W_BYTES];
  for (size_t n = 0; n < outputs; n += 4) {
    // Out-of-range columns reuse the last weight row; their sums are discarded.
    const int columns = outputs - n < 4 ? (int)(outputs - n) : 4;
    const unsigned char *rows[4];
    for (int i = 0; i < 4; i++) rows[i] = w + (n + (i < columns ? i : columns - 1)) * row_bytes;
    const unsigned char *w0 = rows[0], *w1 = rows[1], *w2 = rows[2], *w3 = rows[3];
    VECTOR s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
#define ADD_STEP(from_x, at)                        \
  do {                                              \
    const __typeof__(LOAD_X(x)) u = LOAD_X(from_x); \
    s0 = ADD(s0, u, LOAD_W(w0 + (at)));             \
    s1 = ADD(s1, u, LOAD_W(w1 + (at)));             \
    s2 = ADD(s2, u, LOAD_W(w2 + (at)));             \
    s3 = ADD(s3, u, LOAD_W(w3 + (at)));             \
  } while (0)
    for (size_t k = 0; k < full; k += STEP) ADD_STEP(x + k * X_BYTES, k * W_BYTES);
    if (full < inputs) {
      KERNEL(pad)(last, rows, full, inputs);
      w0 = last[0], w1 = last[1], w2 = last[2], w3 = last[3];
      for (size_t k = 0; k < CHUNK; k += STEP) ADD_STEP(x + (full + k) * X_BYTES, k * W_BYTES);
    }
#undef ADD_STEP
    const RESULT totals[4] = {TOTAL(s0), TOTAL(s1), TOTAL(s2), TOTAL(s3)};
    for (int i = 0; i < columns; i++) y[n + i] = add ? y[n + i] + totals[i] : totals[i];
  }
}

static void KERNEL(gemm)(const unsigned char *x, int rows, const unsigned char *w, size_t inputs, size_t outputs,
                         RESULT *y, size_t stride, bool add) {
  if (rows == 1) {
    KERNEL(gemv)(x, w, inputs, outputs, y, add);
    return;
  }
  const size_t chunk_bytes = 64 * (size_t)rows, row_bytes = inputs * W_BYTES;
  const size_t full = inputs - inputs % CHUNK;
  // Together, the passes over a block prefetch the 4 weight rows of the next block.
  const int groups = (rows + ROW_TILE - 1) / ROW_TILE, prefetch_rows = groups == 1 ? 4 : groups <= 3 ? 2 : 1;
  unsigned char last[4][CHUNK * W_BYTES];
  VECTOR sums[4 * PDROP_MAX_SMALL_ROWS];
  for (size_t n = 0; n < outputs; n += 4) {
    // Out-of-range columns reuse the last weight row; their sums are discarded.
    const int columns = outputs - n < 4 ? (int)(outputs - n) : 4;
    const unsigned char *tile_rows[4];
    for (int i = 0; i < 4; i++) tile_rows[i] = w + (n + (i < columns ? i : columns - 1)) * row_bytes;
    memset(sums, 0, 4 * (size_t)rows * sizeof sums[0]);
    for (size_t k = 0; k < inputs; k += BLOCK) {
      size_t count = inputs - k < BLOCK ? inputs - k : BLOCK;
      const unsigned char *block_rows[4];
      for (int i = 0; i < 4; i++) block_rows[i] = tile_rows[i] + k * W_BYTES;
      const ptrdiff_t offset = (ptrdiff_t)(k + count < inputs ? count * W_BYTES : 4 * row_bytes - k * W_BYTES);
      count -= count % CHUNK;
      const unsigned char *block = x + k / CHUNK * chunk_bytes;
      for (int g = 0; count > 0 && g < groups; g++) {
        const int r = g * ROW_TILE, height = rows - r < ROW_TILE ? rows - r : ROW_TILE;
        const unsigned char *first = block + 64 * r;
        const int next = g * prefetch_rows % 4;
        KERNEL(tile_of)(sums + 4 * r, height, block_rows, first, chunk_bytes, count, offset, next, prefetch_rows);
      }
    }
    if (full < inputs) {
      KERNEL(pad)(last, tile_rows, full, inputs);
      const unsigned char *const last_rows[4] = {last[0], last[1], last[2], last[3]};
      const unsigned char *block = x + full / CHUNK * chunk_bytes;
      for (int r = 0; r < rows; r += ROW_TILE) {
        const int height = rows - r < ROW_TILE ? rows - r : ROW_TILE;
        KERNEL(tile_of)(sums + 4 * r, height, last_rows, block + 64 * r, chunk_bytes, CHUNK, 0, 0, 1);
      }
    }
    for (int r = 0; r < rows; r++)
      for (int i = 0; i < columns; i++) {
        RESULT *const to = y + (size_t)r * stride + n + i;
        const RESULT total = TOTAL(sums[4 * r + i]);
        *to = add ? *to + total : total;
      }
  }
}

#undef CHUNK
#undef BLOCK
#undef KERNEL
#undef PASTE
#undef PASTE_
#undef NAME
#undef X_BYTES
#undef W_BYTES
#undef STEP
#undef VECTOR
#undef LOAD_X
#undef LOAD_W
#undef ADD
#undef RESULT
#undef TOTAL
