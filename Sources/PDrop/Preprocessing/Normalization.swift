internal import ModelFormats

/// From 8-bit samples to what the vision encoder takes: `(sample * rescale_factor - mean) / std` in single precision.
struct Normalization: Sendable, Equatable {
  /// The value of each sample, by channel, `[3, 256]`.
  private let values: [Float]

  init(_ configuration: PreprocessorConfiguration) {
    values = (0..<3).flatMap { channel in
      (0..<256).map { sample in
        var value = Float(sample)
        if configuration.rescales { value *= Float(configuration.rescaleFactor) }
        if configuration.normalizes {
          value = (value - Float(configuration.mean[channel])) / Float(configuration.standardDeviation[channel])
        }
        return value
      }
    }
  }

  /// The values of samples, `[views, 3, plane]`.
  func callAsFunction(_ samples: [UInt8], plane: Int) -> [Float] {
    var result: [Float] = []
    result.reserveCapacity(samples.count)
    for start in stride(from: 0, to: samples.count, by: plane) {
      let table = values[256 * (start / plane % 3)..<256 * (start / plane % 3 + 1)]
      for sample in samples[start..<start + plane] { result.append(table[table.startIndex + Int(sample)]) }
    }
    return result
  }
}
