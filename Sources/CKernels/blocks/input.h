// Quantization of activations. Included once per instruction set; plain loops that the compiler vectorizes.

/// Quantizes one row of a span; `count` is a multiple of 32.
INLINE void quantize_row(const float *x, int count, input_row *row) {
  uint32_t largest_bits = 0;
  for (int i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, x + i, sizeof bits);
    bits &= 0x7FFFFFFF;
    largest_bits = bits > largest_bits ? bits : largest_bits;
  }
  float largest;
  memcpy(&largest, &largest_bits, sizeof largest);
  memset(row, 0, sizeof *row);
  if (largest_bits >= 0x7F800000) {
    // Infinity or NaN: so are all results.
    row->scale = __builtin_nanf("");
    return;
  }
  // Below, 127 / largest could overflow.
  if (largest < 0x1p-119f) return;
  row->scale = largest / 127;
  const float inverse = 127 / largest;
  for (int i = 0; i < count; i++) {
    // Adding 1.5 * 2^23 rounds to an integer, which then occupies the low mantissa bits.
    const float scaled = x[i] * inverse;
    const float rounded = scaled + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    row->values[i] = (int8_t)(bits - 0x4B400000);
  }
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

static void quantize_input(const float *x, size_t stride, int rows, size_t inputs, void *input) {
  input_row *to = input;
  for (size_t k = 0; k < inputs; k += SPAN)
    for (int r = 0; r < rows; r++)
      quantize_row(x + (size_t)r * stride + k, inputs - k < SPAN ? (int)(inputs - k) : SPAN, to++);
}
