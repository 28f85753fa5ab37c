extension Tensor {
  /// Random numbers of nearly normal distribution, the same for a seed whatever the number of threads.
  ///
  /// A number depends on the seed and on its place alone: in bf16 it is the one that f32 has, rounded.
  ///
  /// - Precondition: `element` is `f32` or `bf16`.
  /// - Parameters:
  ///   - shape: Of any number of dimensions.
  ///   - mean: Of all numbers.
  ///   - deviation: Their standard deviation; none is further than 3.47 of it from the mean.
  ///   - element: How they are stored.
  ///   - workers: Make them in parallel.
  ///
  /// Source: sums of four evenly distributed numbers, which Irwin and Hall described in 1927, of SplitMix's bits.
  package init(
    randomShape shape: [Int], mean: Float = 0, deviation: Float, element: ElementType, seed: UInt64, workers: Workers
  ) {
    precondition(element != .f16, "Tensor: random numbers in f16")
    let count = shape.reduce(1, *)
    let width = element.byteCount
    let blockSize = 65_536
    // Four numbers of 16 bits have the mean 2 · 65535 and the variance 4 · 65536² / 12, but for a part in four billion.
    let scale = deviation / (65_536 / Float(3).squareRoot())
    let bytes = unsafe SharedBytes(count: count * width) { target in
      workers.run(tasks: (count + blockSize - 1) / blockSize) { block, _ in
        for i in block * blockSize..<min((block + 1) * blockSize, count) {
          let bits = SplitMix64.mixed(seed &+ UInt64(truncatingIfNeeded: i) &* SplitMix64.increment)
          let sum = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + bits >> 48
          let value = mean + (Float(Int32(truncatingIfNeeded: sum)) - 131_070) * scale
          switch element {
          case .f32: unsafe target.storeBytes(of: value, toByteOffset: i * width, as: Float.self)
          default: unsafe target.storeBytes(of: roundedBrain(value), toByteOffset: i * width, as: UInt16.self)
          }
        }
      }
    }
    self.init(bytes, shape: shape, element: element)
  }
}

/// The bits of the bfloat16 nearest to a finite number, of two equally near ones of the even one.
@inline(__always)
private func roundedBrain(_ x: Float) -> UInt16 {
  UInt16(truncatingIfNeeded: (x.bitPattern &+ 0x7FFF &+ (x.bitPattern >> 16) & 1) >> 16)
}
