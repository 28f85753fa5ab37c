// Quantization of activations. Included once per instruction set; plain loops that the compiler vectorizes.

/// Quantizes values with one scale, which it returns; `count` is a multiple of 32.
INLINE float quantize_values(const float *x, int count, int8_t *values) {
  uint32_t largest_bits = 0;
  for (int i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7FFFFFFF;
    largest_bits = bits > largest_bits ? bits : largest_bits;
  }
  float largest;
  memcpy(&largest, &largest_bits, sizeof largest);
  // Infinity or NaN: so are all results.
  if (largest_bits >= 0x7F800000) return __builtin_nanf("");
  // Below, 127 / largest could overflow.
  if (largest < 0x1p-119f) return 0;
  const float inverse = 127 / largest;
  for (int i = 0; i < count; i++) {
    // Adding 1.5 * 2^23 rounds to an integer, which then occupies the low mantissa bits.
    const float scaled = x[i] * inverse;
    const float rounded = scaled + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    values[i] = (int8_t)(bits - 0x4B400000);
  }
  return largest / 127;
}

/// Quantizes one row of a span; `count` is a multiple of 32.
INLINE void quantize_row(const float *x, int count, const int per_scale, input_row *row) {
  memset(row, 0, sizeof *row);
  for (int j = 0; j < count; j += per_scale)
    row->scales[j / per_scale] = quantize_values(x + j, count - j < per_scale ? count - j : per_scale, row->values + j);
  int32_t sums[SPAN / 16];
  for (int j = 0; j < SPAN / 16; j++) {
    int32_t sum = 0;
    for (int i = 0; i < 16; i++) sum += row->values[16 * j + i];
    sums[j] = sum;
  }
  static const int8_t places[SPAN / 32] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (int j = 0; j < SPAN / 16; j++) row->sums_32[j] = -32 * sums[j];
  for (int j = 0; j < SPAN / 32; j++) {
    const int32_t sum = sums[2 * j] + sums[2 * j + 1];
    row->sums_8[j] = -8 * sum;
    row->sums_128[j] = -128 * sum;
    row->sums[places[j]] = (int16_t)sum;
  }
}

static void quantize_input(pdrop_block_type type, const float *x, size_t stride, int rows, size_t inputs, void *input,
                           int input_rows) {
  for (size_t k = 0; k < inputs; k += SPAN) {
    input_row *const to = (input_row *)input + k / SPAN * (size_t)input_rows;
    for (int r = 0; r < rows; r++) {
      const float *const from = x + (size_t)r * stride + k;
      const int count = inputs - k < SPAN ? (int)(inputs - k) : SPAN;
      // Constants, so that the loops over 32 values unroll.
      if (pdrop_block_values(type) == 32)
        quantize_row(from, count, 32, to + r);
      else
        quantize_row(from, count, SPAN, to + r);
    }
  }
}
