#if canImport(Glibc)
  import Glibc
#else
  import Darwin
#endif

/// Rotary position embedding: cosines and sines by position, made when a position is first needed.
///
/// Dimension `i` of a head turns with dimension `i + d/2` by `position · theta^(-2i/d)`, or less where the model stretches
/// its frequencies. As in the reference, the frequency
/// and the angle are rounded to `Float` before cosine and sine are taken.
///
/// Source: Su et al. 2021, RoFormer; the split-half pairing of Hugging Face's Llama.
package struct RotaryTable: ~Copyable {
  package let headDimension: Int
  private let frequencies: [Float]
  /// `[position, d]`: the cosines of a position, then its sines.
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

  /// A table that turns back what this one turns.
  package var reversed: RotaryTable { RotaryTable(headDimension: headDimension, frequencies.map { -$0 }) }

  /// Makes the entries of all positions below `count`.
  package mutating func prepare(positions count: Int) {
    let known = angles.rows
    guard count > known else { return }
    angles.reserve(rows: max(count, 2 * known))
    angles.resize(rows: count)
    let (columns, half, frequencies) = (headDimension, headDimension / 2, self.frequencies)
    var values = angles.mutableSpan
    for position in known..<count {
      var row = values.row(position, columns: columns)
      for i in 0..<half {
        let angle = Double(Float(position) * frequencies[i])
        row[i] = Float(cos(angle))
        row[half + i] = Float(sin(angle))
      }
    }
  }

  /// The cosines and sines of all prepared positions, `[position, d]`.
  fileprivate var span: Span<Float> {
    @_lifetime(borrow self)
    get { angles.span }
  }
}

extension ComputeContext {
  /// Turns every head of every row to the row's position, in parallel.
  ///
  /// - Parameters:
  ///   - x: Queries or keys, `[T, heads · d]`.
  ///   - positions: One per row.
  ///   - table: Grown here to the largest position.
  package func rotate(_ x: inout Matrix, to positions: [Int], _ table: inout RotaryTable) {
    precondition(
      positions.count == x.rows && x.columns.isMultiple(of: table.headDimension),
      "rotate: \(positions.count) positions, \(x.rows)×\(x.columns), d \(table.headDimension)")
    table.prepare(positions: (positions.max() ?? -1) + 1)
    let (angles, dimension, columns) = (table.span, table.headDimension, x.columns)
    let half = dimension / 2
    workers.forEachBlock(of: &x) { first, count, block in
      for t in 0..<count {
        let angle = angles.row(positions[first + t], columns: dimension)
        let (cosines, sines) = (angle.extracting(0..<half), angle.extracting(half..<dimension))
        var row = block.row(t, columns: columns)
        for head in 0..<columns / dimension {
          var x = row.row(head, columns: dimension)
          for i in 0..<half {
            let (a, b) = (x[i], x[half + i])
            x[i] = a * cosines[i] - b * sines[i]
            x[half + i] = b * cosines[i] + a * sines[i]
          }
        }
      }
    }
  }
}

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
