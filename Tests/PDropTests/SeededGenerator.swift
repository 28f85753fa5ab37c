import PDrop

/// A repeatable source of numbers (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }

  mutating func next(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }

  /// A picture of noise.
  mutating func image(width: Int, height: Int) throws -> Image {
    let pixels = (0..<width * height * 3).map { _ in UInt8.random(in: 0...255, using: &self) }
    return try Image(width: width, height: height, pixels: pixels)
  }
}
