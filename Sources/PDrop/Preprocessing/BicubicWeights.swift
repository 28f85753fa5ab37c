/// The fixed-point weights of an antialiased bicubic resize along one axis, for the wanted outputs only.
///
/// The axis may be longer than the picture on it: inputs outside `covered` are background, and only the sums of their
/// weights are kept.
///
/// Source: `precompute_coeffs` and `normalize_coeffs_8bpc` in Pillow's `src/libImaging/Resample.c`.
struct BicubicWeights {
  /// The number of fraction bits of a weight.
  static let precision: Int32 = 22

  /// What is added before the fraction is cut off.
  static let half: Int32 = 1 << 21

  /// Per output, the inputs that it reads, counted from the start of `covered`; both bounds never decrease.
  private(set) var inputs: [Range<Int>] = []

  /// Per output, the sum of the weights of inputs outside `covered`.
  private(set) var outsideWeights: [Int32] = []

  /// Per output, the sum of all its weights.
  private(set) var totalWeights: [Int32] = []

  /// The outputs that read any input of `covered`, counted from the first wanted one.
  private(set) var touched = 0..<0

  /// The weights of all outputs, one after the other.
  private(set) var values: [Int32] = []

  /// Where each output's weights start in `values`.
  private(set) var starts: [Int] = []

  /// - Parameters:
  ///   - inputCount: The length of the axis before.
  ///   - outputCount: The length of the axis after.
  ///   - wanted: The outputs to compute, inside `0..<outputCount`.
  ///   - covered: The inputs that can differ from the background.
  ///
  /// An axis that keeps its length gets weights of exactly 1 on the diagonal, so it needs no case of its own.
  init(from inputCount: Int, to outputCount: Int, wanted: Range<Int>, covered: Range<Int>) {
    let scale = Double(inputCount) / Double(outputCount)
    let filterScale = max(scale, 1)
    let support = 2 * filterScale
    for x in wanted {
      let center = (Double(x) + 0.5) * scale
      let low = max(0, Int(center - support + 0.5))
      let high = min(inputCount, Int(center + support + 0.5))
      let step = 1 / filterScale
      var sum = 0.0
      for i in low..<high { sum += Self.cubic((Double(i) - center + 0.5) * step) }
      var outside: Int32 = 0
      var total: Int32 = 0
      let clamped = low.clamped(to: covered)..<high.clamped(to: covered)
      starts.append(values.count)
      for i in low..<high {
        let weight = Self.fixedPoint(Self.cubic((Double(i) - center + 0.5) * step) / (sum == 0 ? 1 : sum))
        total += weight
        if clamped.contains(i) { values.append(weight) } else { outside += weight }
      }
      if !clamped.isEmpty { touched = (touched.isEmpty ? inputs.count : touched.lowerBound)..<inputs.count + 1 }
      outsideWeights.append(outside)
      totalWeights.append(total)
      inputs.append(clamped.lowerBound - covered.lowerBound..<clamped.upperBound - covered.lowerBound)
    }
  }

  /// The cubic convolution kernel with a = -0.5.
  private static func cubic(_ x: Double) -> Double {
    let a = -0.5
    let x = abs(x)
    if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
    return 0
  }

  private static func fixedPoint(_ weight: Double) -> Int32 {
    let scaled = weight * Double(1 << precision)
    return Int32(scaled < 0 ? scaled - 0.5 : scaled + 0.5)
  }

  /// The sample that a sum of weighted samples stands for.
  static func sample(_ sum: Int32) -> UInt8 { UInt8(clamping: sum >> precision) }
}

extension Int {
  fileprivate func clamped(to range: Range<Int>) -> Int {
    Swift.min(Swift.max(self, range.lowerBound), range.upperBound)
  }
}
