import CKernels

#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Table of cosines and sines for rotary position embedding (RoPE), extended on demand.
///
/// Dimensions `i` and `i + d/2` of a head are rotated together by the angle `position · theta^(-2i/d)`, or by a smaller
/// angle with frequency scaling. As in the reference, frequency and angle are rounded to `Float` before cosine and sine
/// are computed.
///
/// Source: Su et al. 2021, RoFormer; the split-half pairing of Hugging Face's Llama.
package struct RotaryTable: ~Copyable {
  package let headDimension: Int
  private let frequencies: [Float]
  /// The cosines, then the sines of each position, `[positions, d]`.
  private var angles: Matrix

  /// - Precondition: `headDimension` is even and positive.
  package init(headDimension: Int, theta: Double, scaling: RotaryScaling = .none) {
    precondition(headDimension > 0 && headDimension.isMultiple(of: 2), "RotaryTable: head dimension \(headDimension)")
    self.init(headDimension: headDimension, scaling.frequencies(headDimension: headDimension, theta: theta))
  }

  private init(headDimension: Int, _ frequencies: [Float]) {
    self.headDimension = headDimension
    self.frequencies = frequencies
    angles = Matrix(rows: 0, columns: headDimension)
  }

  /// The table of the inverse rotation.
  package var reversed: RotaryTable { RotaryTable(headDimension: headDimension, frequencies.map { -$0 }) }

  /// Computes the entries of all positions below `count`.
  package mutating func prepare(positions count: Int) {
    let prepared = angles.rows
    guard count > prepared else { return }
    angles.reserve(rows: max(count, 2 * prepared))
    angles.resize(rows: count)
    let (columns, half, frequencies) = (headDimension, headDimension / 2, self.frequencies)
    var values = angles.mutableSpan
    for position in prepared..<count {
      var row = values.row(position, columns: columns)
      for i in 0..<half {
        let angle = Double(Float(position) * frequencies[i])
        row[i] = Float(cos(angle))
        row[half + i] = Float(sin(angle))
      }
    }
  }

  /// The cosines and sines of all prepared positions, `[positions, d]`.
  fileprivate var base: UnsafePointer<Float> { unsafe UnsafePointer(angles.base) }
}

extension ComputeContext {
  /// Applies RoPE to every head of every row, in parallel.
  ///
  /// - Parameters:
  ///   - x: Queries or keys, `[T, heads · d]`.
  ///   - positions: The position of each row, `[T]`.
  ///   - table: Extended to the largest position.
  package func rotate(_ x: inout Matrix, to positions: [Int], _ table: inout RotaryTable) {
    precondition(
      positions.count == x.rows && positions.allSatisfy { $0 >= 0 } && x.columns.isMultiple(of: table.headDimension),
      "rotate: \(positions.count) positions, \(x.rows)×\(x.columns), d \(table.headDimension)")
    table.prepare(positions: (positions.max() ?? -1) + 1)
    let context = unsafe (angles: table.base, dimension: table.headDimension, columns: x.columns, positions: positions)
    unsafe workers.forEachBlock(of: &x, context) { context, first, count, block in
      let (dimension, columns) = unsafe (context.dimension, context.columns)
      unsafe block.withUnsafeMutableBufferPointer { block in
        guard let base = block.baseAddress else { return }
        for t in 0..<count {
          let angles = unsafe context.angles + context.positions[first + t] * dimension
          unsafe pdrop_rotate(base + t * columns, columns / dimension, dimension, angles)
        }
      }
    }
  }
}

/// Scaling of RoPE frequencies, for sequences longer than those of the first training.
package enum RotaryScaling: Sendable, Equatable {
  case none

  /// All frequencies are divided by a factor.
  case linear(factor: Double)

  /// Low frequencies are divided by a factor, high ones are unchanged, and those between are interpolated.
  ///
  /// A frequency is low if its wavelength exceeds `originalContextLength / lowFrequencyFactor`, and high if its
  /// wavelength is below `originalContextLength / highFrequencyFactor`.
  ///
  /// - Parameter originalContextLength: The context length of the first training.
  case llama3(
    factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double, originalContextLength: Double)

  /// Each frequency is divided by its own factor, `[d / 2]`, as GGUF files of Llama 3 store the scaling.
  case divided(by: [Float])

  /// The scaled frequencies `theta^(-2i/d)` of a head's pairs of dimensions, `[d / 2]`, in radians per position.
  ///
  /// Every step is rounded to `Float` in the order of the reference, because at large positions the last bit of a
  /// frequency changes scores.
  ///
  /// Source: `_compute_default_rope_parameters` and related functions in transformers' `modeling_rope_utils.py`.
  package func frequencies(headDimension: Int, theta: Double) -> [Float] {
    let plain = (0..<headDimension / 2).map { i in
      1 / Float(pow(theta, Double(Float(2 * i) / Float(headDimension))))
    }
    switch self {
    case .none: return plain
    case .linear(let factor): return plain.map { $0 / Float(factor) }
    case .divided(let factors):
      precondition(factors.count == plain.count, "frequencies: \(factors.count) factors, d \(headDimension)")
      return zip(plain, factors).map { $0 / $1 }
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
