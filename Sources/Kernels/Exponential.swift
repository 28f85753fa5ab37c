/// e to the power `x`, within 2e-7 of the true value, relative, for `x` in -87...88; clamped outside.
///
/// `x = n·ln 2 + r` with whole `n`, a polynomial for `e^r` on |r| <= ln 2 / 2, and `n` added to the exponent. The
/// coefficients are those of the Cephes library's `expf`.
/// Without branches, so that loops over it vectorise.
@inline(__always)
package func exponential(_ x: Float) -> Float {
  let low: Float = x < -87 ? -87 : x
  let clamped: Float = low > 88 ? 88 : low
  // Adding 1.5·2^23 rounds to a whole number, whose value then stands in the low bits.
  let shifted = clamped * 1.442695041 + 12_582_912
  let n = shifted - 12_582_912
  let r = clamped - n * 0.693359375 - n * -2.12194440e-4
  var p: Float = 1.9875691500e-4
  p = p * r + 1.3981999507e-3
  p = p * r + 8.3334519073e-3
  p = p * r + 4.1665795894e-2
  p = p * r + 1.6666665459e-1
  p = p * r + 5.0000001201e-1
  p = p * r * r + r + 1
  return Float(bitPattern: p.bitPattern &+ (shifted.bitPattern &- 0x4B40_0000) << 23)
}

/// The logistic function, 1 / (1 + e^-x).
@inline(__always)
func sigmoid(_ x: Float) -> Float { 1 / (1 + exponential(-x)) }
