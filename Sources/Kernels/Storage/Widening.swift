/// Widens IEEE half-precision numbers exactly; infinities stay infinite, NaN stays NaN.
func widenHalf(_ source: UnsafeRawPointer, into destination: UnsafeMutablePointer<Float>, count: Int) {
  for i in 0..<count {
    unsafe destination[i] = widenedHalf(source.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self))
  }
}

/// Widens bfloat16 numbers exactly: they are the upper half of a `Float`.
func widenBrain(_ source: UnsafeRawPointer, into destination: UnsafeMutablePointer<Float>, count: Int) {
  for i in 0..<count {
    let bits = unsafe source.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)
    unsafe destination[i] = Float(bitPattern: UInt32(bits) << 16)
  }
}

/// The half-precision number with the given bits, in integer steps that the compiler vectorises on any CPU.
///
/// Exponent and fraction are moved to their places in a `Float`, whose exponent is then too small by 112: one exact product
/// mends it, subnormals included. An exponent of all ones is carried over as such.
@inline(__always)
func widenedHalf(_ bits: UInt16) -> Float {
  let magnitude = UInt32(bits & 0x7FFF) << 13
  let scaled = (Float(bitPattern: magnitude) * 0x1p112).bitPattern
  let special: UInt32 = magnitude >= 0x0F80_0000 ? 0x7F80_0000 : 0
  return Float(bitPattern: scaled | special | UInt32(bits & 0x8000) << 16)
}
