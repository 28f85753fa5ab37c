// The loops of a small product, included once for each pair of number formats and each level of the processor.
//
// The includer defines LEVEL, a suffix, and ROW_TILE, how many activation rows have their sums in registers at a time.
// For each product it also defines, and this file undefines:
//   NAME          the product
//   X_BYTES       bytes of an activation; 64 / X_BYTES of them make a chunk of the packed rows
//   W_BYTES       bytes of a weight
//   STEP          inputs that one vector step takes, a divisor of the chunk
//   VECTOR        a vector of partial sums
//   LOAD_X(p)     STEP activations
//   LOAD_W(p)     STEP weights, from any address
//   ADD(s, x, w)  s + x * w, lane by lane
//   RESULT        type of a result
//   TOTAL(s)      the sum of the lanes, in a fixed order
//
// A tile is 4 weight rows by ROW_TILE activation rows. Every pair of rows has one vector of sums, which walks along the inputs
// from first to last whatever the tile, the block and the number of rows are: these change no bit.

#define PASTE_(a, b, c) a##_##b##_##c
#define PASTE(a, b, c) PASTE_(a, b, c)
#define LOCAL(part) PASTE(NAME, LEVEL, part)
#define CHUNK (64 / X_BYTES)
// Inputs of one pass over all rows: 2 KiB of each packed row, so that 16 rows and the tile's weights stay near the core.
#define BLOCK (2048 / X_BYTES)

// One block of one tile. `x` is the first of its rows in the first chunk, chunks are `chunk_bytes` apart; of the weights
// `ahead` bytes further on, which the next block or tile reads, `fetched` rows from `first_fetched` on are called for.
static inline __attribute__((always_inline)) void LOCAL(tile)(VECTOR *sums, const int rows,
                                                               const unsigned char *const *w, const unsigned char *x,
                                                               size_t chunk_bytes, size_t count, ptrdiff_t ahead,
                                                               int first_fetched, const int fetched) {
  VECTOR s[ROW_TILE][4];
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < 4; i++) s[r][i] = sums[4 * r + i];
  const unsigned char *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
  uintptr_t coming[4];
  for (int i = 0; i < fetched; i++) coming[i] = (uintptr_t)w[first_fetched + i] + (uintptr_t)ahead;
  for (size_t c = 0; c < count; c += CHUNK) {
    for (int i = 0; i < fetched; i++) __builtin_prefetch((const void *)(coming[i] + c * W_BYTES));
    for (int k = 0; k < CHUNK; k += STEP) {
      const size_t at = (c + k) * W_BYTES;
      const __typeof__(LOAD_W(w0)) v0 = LOAD_W(w0 + at), v1 = LOAD_W(w1 + at), v2 = LOAD_W(w2 + at), v3 = LOAD_W(w3 + at);
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

// The tile with its sizes as constants.
static inline __attribute__((always_inline)) void LOCAL(tile_of)(VECTOR *sums, int rows, const unsigned char *const *w,
                                                                  const unsigned char *x, size_t chunk_bytes,
                                                                  size_t count, ptrdiff_t ahead, int first_fetched,
                                                                  int fetched) {
#define TILE(rows, fetched) LOCAL(tile)(sums, rows, w, x, chunk_bytes, count, ahead, first_fetched, fetched)
#define TILES(rows) (fetched == 4 ? TILE(rows, 4) : fetched == 2 ? TILE(rows, 2) : TILE(rows, 1))
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

// The last inputs of 4 weight rows, less than a chunk, with zeros behind them as there are behind the last activations.
static inline __attribute__((always_inline)) void LOCAL(pad)(unsigned char (*last)[CHUNK * W_BYTES],
                                                              const unsigned char *const *w, size_t whole,
                                                              size_t inputs) {
  memset(last, 0, 4 * sizeof *last);
  for (int i = 0; i < 4; i++) memcpy(last[i], w[i] + whole * W_BYTES, (inputs - whole) * W_BYTES);
}

// The product of a single row. All that counts is to read the weights as fast as the memory gives them, for which nothing is
// better than this loop: with blocks and calls for what comes next it was a fifth slower (Zen 5).
static void LOCAL(row_product)(const unsigned char *x, const unsigned char *w, size_t inputs, size_t outputs, RESULT *y,
                        int add) {
  const size_t row_bytes = inputs * W_BYTES, whole = inputs - inputs % CHUNK;
  unsigned char last[4][CHUNK * W_BYTES];
  for (size_t n = 0; n < outputs; n += 4) {
    // Beyond the last output the last row stands in; its sums are not stored.
    const int columns = outputs - n < 4 ? (int)(outputs - n) : 4;
    const unsigned char *rows[4];
    for (int i = 0; i < 4; i++) rows[i] = w + (n + (i < columns ? i : columns - 1)) * row_bytes;
    const unsigned char *w0 = rows[0], *w1 = rows[1], *w2 = rows[2], *w3 = rows[3];
    VECTOR s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
#define ADD_STEP(from_x, at)                  \
  do {                                        \
    const __typeof__(LOAD_X(x)) u = LOAD_X(from_x); \
    s0 = ADD(s0, u, LOAD_W(w0 + (at)));       \
    s1 = ADD(s1, u, LOAD_W(w1 + (at)));       \
    s2 = ADD(s2, u, LOAD_W(w2 + (at)));       \
    s3 = ADD(s3, u, LOAD_W(w3 + (at)));       \
  } while (0)
    for (size_t k = 0; k < whole; k += STEP) ADD_STEP(x + k * X_BYTES, k * W_BYTES);
    if (whole < inputs) {
      LOCAL(pad)(last, rows, whole, inputs);
      w0 = last[0], w1 = last[1], w2 = last[2], w3 = last[3];
      for (size_t k = 0; k < CHUNK; k += STEP) ADD_STEP(x + (whole + k) * X_BYTES, k * W_BYTES);
    }
#undef ADD_STEP
    const RESULT totals[4] = {TOTAL(s0), TOTAL(s1), TOTAL(s2), TOTAL(s3)};
    for (int i = 0; i < columns; i++) y[n + i] = add ? y[n + i] + totals[i] : totals[i];
  }
}

static void LOCAL(product)(const unsigned char *x, int rows, const unsigned char *w, size_t inputs, size_t outputs, RESULT *y,
                    size_t stride, int add) {
  if (rows == 1) {
    LOCAL(row_product)(x, w, inputs, outputs, y, add);
    return;
  }
  const size_t chunk_bytes = 64 * (size_t)rows, row_bytes = inputs * W_BYTES;
  const size_t whole = inputs - inputs % CHUNK;
  // All passes over a block together call for the 4 rows of the block that comes next.
  const int groups = (rows + ROW_TILE - 1) / ROW_TILE, fetched = groups == 1 ? 4 : groups <= 3 ? 2 : 1;
  unsigned char last[4][CHUNK * W_BYTES];
  VECTOR sums[4 * pdrop_small_rows];
  for (size_t n = 0; n < outputs; n += 4) {
    // Beyond the last output the last row stands in; its sums are not stored.
    const int columns = outputs - n < 4 ? (int)(outputs - n) : 4;
    const unsigned char *tile_rows[4];
    for (int i = 0; i < 4; i++) tile_rows[i] = w + (n + (i < columns ? i : columns - 1)) * row_bytes;
    memset(sums, 0, 4 * (size_t)rows * sizeof sums[0]);
    for (size_t k = 0; k < inputs; k += BLOCK) {
      size_t count = inputs - k < BLOCK ? inputs - k : BLOCK;
      const unsigned char *block_rows[4];
      for (int i = 0; i < 4; i++) block_rows[i] = tile_rows[i] + k * W_BYTES;
      const ptrdiff_t ahead =
          (ptrdiff_t)(k + count < inputs ? count * W_BYTES : 4 * row_bytes - k * W_BYTES);
      count -= count % CHUNK;
      const unsigned char *block = x + k / CHUNK * chunk_bytes;
      for (int g = 0; count > 0 && g < groups; g++) {
        const int r = g * ROW_TILE, height = rows - r < ROW_TILE ? rows - r : ROW_TILE;
        LOCAL(tile_of)(sums + 4 * r, height, block_rows, block + 64 * r, chunk_bytes, count, ahead, g * fetched % 4, fetched);
      }
    }
    if (whole < inputs) {
      LOCAL(pad)(last, tile_rows, whole, inputs);
      const unsigned char *const last_rows[4] = {last[0], last[1], last[2], last[3]};
      const unsigned char *block = x + whole / CHUNK * chunk_bytes;
      for (int r = 0; r < rows; r += ROW_TILE) {
        const int height = rows - r < ROW_TILE ? rows - r : ROW_TILE;
        LOCAL(tile_of)(sums + 4 * r, height, last_rows, block + 64 * r, chunk_bytes, CHUNK, 0, 0, 1);
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
#undef LOCAL
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
