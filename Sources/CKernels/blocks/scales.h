// The scales of Q4_K and Q5_K. Included once per instruction set.

INLINE vec_u32 load_tile(const uint8_t *from) {
  vec_u32 tile;
  memcpy(&tile, from, sizeof tile);
  return tile;
}

/// The scales and minima of eight sub-blocks, 6 bits each: sub-block j is in byte j % 4 of vector j / 4.
typedef struct {
  vec_u32 scales[2], minima[2];
} k_scales;

/// Unpacks three tiles of scale words.
INLINE k_scales unpack_k_scales(const uint8_t *words) {
  const vec_u32 a = load_tile(words), b = load_tile(words + TILE), c = load_tile(words + 2 * TILE);
  return (k_scales){
      .scales = {a & 0x3F3F3F3F, (c & 0x0F0F0F0F) | (a >> 2 & 0x30303030)},
      .minima = {b & 0x3F3F3F3F, (c >> 4 & 0x0F0F0F0F) | (b >> 2 & 0x30303030)},
  };
}

/// The minima of two sub-blocks that stand in one word of `input_row.sums`, as 16-bit integers; `pair` is below 4.
INLINE vec_u32 pair_of_minima(const k_scales *s, int pair) {
  return s->minima[pair / 2] >> 8 * (pair % 2) & 0x00FF00FF;
}
