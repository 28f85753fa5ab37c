#if canImport(Glibc)
  internal import Glibc
#else
  internal import Darwin
#endif

/// How rotary frequencies are stretched so that a model reads longer sequences than it was first trained on.
package enum RotaryScaling: Sendable, Equatable {
  case none

  /// All frequencies are divided by a factor.
  case linear(factor: Double)

  /// Low frequencies are divided by a factor, high ones stay, and those between go over smoothly.
  ///
  /// - Parameter originalContextLength: The positions of the first training, of which a low frequency's wave is more than
  ///   one part in `lowFrequencyFactor` and a high one's less than one in `highFrequencyFactor`.
  case llama3(
    factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalContextLength: Double)

  /// The frequencies of a head's `d / 2` pairs of dimensions, `theta^(-2i/d)` stretched, in radians per position.
  ///
  /// Every step is rounded to `Float` in the reference's order, as scores feel a frequency's last bit at far positions.
  ///
  /// Source: `_compute_default_rope_parameters` and its siblings in transformers' `modeling_rope_utils.py`.
  package func frequencies(headDimension: Int, theta: Double) -> [Float] {
    let plain = (0..<headDimension / 2).map { i in
      1 / Float(pow(theta, Double(Float(2 * i) / Float(headDimension))))
    }
    switch self {
    case .none: return plain
    case .linear(let factor): return plain.map { $0 / Float(factor) }
    case .llama3(let factor, let low, let high, let length):
      return plain.map { frequency in
        let wavelength = (1 / frequency) * Float(2 * Double.pi)
        if wavelength > Float(length / low) { return frequency / Float(factor) }
        if wavelength < Float(length / high) { return frequency }
        let blend = ((1 / wavelength) * Float(length) - Float(low)) / Float(high - low)
        return (1 - blend) * frequency / Float(factor) + blend * frequency
      }
    }
  }
}
