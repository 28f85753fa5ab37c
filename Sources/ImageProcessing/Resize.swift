import Foundation
package import ModelFormats

/// A rectangle of a canvas after a resize, bit for bit as if the whole canvas were resized and then cropped.
///
/// The two axes are resized one after the other with 8-bit samples in between, antialiased when shrinking. The result
/// equals `resize` of Pillow 13 bit for bit. Pillow 13 resizes the columns first if they lose more than twice as many
/// samples as the rows, otherwise the rows (earlier versions always resized the rows first).
///
/// - Parameters:
///   - canvas: The canvas to resize.
///   - width: The number of columns of the whole result.
///   - height: The number of rows of the whole result.
///   - columns: The columns to compute, not empty, inside `0..<width`.
///   - rows: The rows to compute, not empty, inside `0..<height`.
///   - filter: The filter of the resize.
/// - Returns: The samples, `[rows.count, columns.count, 3]`.
///
/// Cost: per image row `3 * columns.count` times the horizontal taps, plus `3 * columns.count` for each computed row
/// that reads it. Source: `ImagingResample` in Pillow's `src/libImaging/Resample.c`, whose order of passes was
/// measured.
package func resampled(
  _ canvas: Canvas, width: Int, height: Int, columns: Range<Int>, rows: Range<Int>, filter: ResampleFilter = .bicubic
) -> [UInt8] {
  precondition(
    !columns.isEmpty && !rows.isEmpty && columns.lowerBound >= 0 && columns.upperBound <= width
      && rows.lowerBound >= 0 && rows.upperBound <= height,
    "resampled: columns \(columns) of \(width), rows \(rows) of \(height)")
  let horizontal = ResampleWeights(
    filter, from: canvas.width, to: width, requested: columns, covered: canvas.columns)
  let vertical = ResampleWeights(filter, from: canvas.height, to: height, requested: rows, covered: canvas.rows)
  guard canvas.height - height > max(0, 2 * (canvas.width - width)) else {
    return resizedRowsFirst(canvas, horizontal, vertical, rows: rows)
  }
  return resizedColumnsFirst(canvas, horizontal, vertical, columns: columns, rows: rows)
}

/// The resize with rows first, then columns.
///
/// Only the requested outputs are computed, and the rows of the image are processed one by one. Memory therefore grows
/// with the result and the image, not with the canvas or the uncropped result.
private func resizedRowsFirst(
  _ canvas: Canvas, _ horizontal: ResampleWeights, _ vertical: ResampleWeights, rows: Range<Int>
) -> [UInt8] {
  // The rows above and below the image are constant background: every sum starts with their contribution. Columns with
  // background only are filled in at the end, so that a narrow image costs no more than its pixels.
  let background = backgroundRow(horizontal, fill: canvas.fill)
  let touched = 3 * horizontal.touched.lowerBound..<3 * horizontal.touched.upperBound
  var sums = vertical.outsideWeights.map { outside in
    background[touched].map { ResampleWeights.half + Int32($0) * outside }
  }
  var row = [UInt8](repeating: 0, count: touched.count)

  var first = 0
  for y in 0..<canvas.image.height {
    while first < rows.count && vertical.inputs[first].upperBound <= y { first += 1 }
    guard first < rows.count else { break }
    guard vertical.inputs[first].lowerBound <= y else { continue }
    let pixels = canvas.image.pixels.span
    let source = pixels.extracting(y * canvas.image.width * 3..<(y + 1) * canvas.image.width * 3)
    resizeRow(&row, source, horizontal, fill: canvas.fill)
    for output in first..<rows.count {
      guard vertical.inputs[output].lowerBound <= y else { break }
      let weight = vertical.values[vertical.starts[output] + y - vertical.inputs[output].lowerBound]
      var sum = sums[output].mutableSpan
      addScaled(&sum, row.span, by: weight)
    }
  }

  var result: [UInt8] = []
  result.reserveCapacity(rows.count * background.count)
  for (output, weight) in vertical.totalWeights.enumerated() {
    let plain = background.map { ResampleWeights.sample(ResampleWeights.half + Int32($0) * weight) }
    result += plain[..<touched.lowerBound]
    for sum in sums[output] { result.append(ResampleWeights.sample(sum)) }
    result += plain[touched.upperBound...]
  }
  return result
}

/// The resize with columns first, then rows.
///
/// Each result row sums the rows of the image that it reads, and is then resized. The image is read row by row, about
/// four times, and never transposed.
private func resizedColumnsFirst(
  _ canvas: Canvas, _ horizontal: ResampleWeights, _ vertical: ResampleWeights, columns: Range<Int>, rows: Range<Int>
) -> [UInt8] {
  let rowCount = 3 * canvas.image.width
  var sums = [Int32](repeating: 0, count: rowCount)
  var samples = [UInt8](repeating: 0, count: rowCount)
  var touched = [UInt8](repeating: 0, count: 3 * horizontal.touched.count)
  var result: [UInt8] = []
  result.reserveCapacity(3 * rows.count * columns.count)
  for output in 0..<rows.count {
    // The background beside the image, after its columns were resized.
    let fill = canvas.fill.map {
      ResampleWeights.sample(ResampleWeights.half + Int32($0) * vertical.totalWeights[output])
    }
    let background = backgroundRow(horizontal, fill: fill)
    guard vertical.touched.contains(output), !horizontal.touched.isEmpty else {
      result += background
      continue
    }
    let outside = canvas.fill.map { ResampleWeights.half + Int32($0) * vertical.outsideWeights[output] }
    for x in 0..<canvas.image.width {
      for channel in 0..<3 { sums[3 * x + channel] = outside[channel] }
    }
    for (i, y) in vertical.inputs[output].enumerated() {
      var sum = sums.mutableSpan
      let source = canvas.image.pixels.span.extracting(y * rowCount..<(y + 1) * rowCount)
      addScaled(&sum, source, by: vertical.values[vertical.starts[output] + i])
    }
    for i in 0..<rowCount { samples[i] = ResampleWeights.sample(sums[i]) }
    resizeRow(&touched, samples.span, horizontal, fill: fill)
    result += background[..<(3 * horizontal.touched.lowerBound)]
    result += touched
    result += background[(3 * horizontal.touched.upperBound)...]
  }
  return result
}

/// One resized row of the canvas without any part of the image, `[W, 3]`.
private func backgroundRow(_ horizontal: ResampleWeights, fill: [UInt8]) -> [UInt8] {
  horizontal.totalWeights.flatMap { weight in
    fill.map { ResampleWeights.sample(ResampleWeights.half + Int32($0) * weight) }
  }
}

/// Resizes one row of the image, `[w, 3]`, to the touched part of a row of the canvas, `[W, 3]`.
private func resizeRow(_ row: inout [UInt8], _ source: Span<UInt8>, _ horizontal: ResampleWeights, fill: [UInt8]) {
  let values = horizontal.values.span
  var out = row.mutableSpan
  let (red, green, blue) = (Int32(fill[0]), Int32(fill[1]), Int32(fill[2]))
  for x in horizontal.touched {
    let inputs = horizontal.inputs[x]
    let weights = values.extracting(horizontal.starts[x]..<horizontal.starts[x] + inputs.count)
    let samples = source.extracting(3 * inputs.lowerBound..<3 * inputs.upperBound)
    let outside = horizontal.outsideWeights[x]
    var r = ResampleWeights.half + outside * red
    var g = ResampleWeights.half + outside * green
    var b = ResampleWeights.half + outside * blue
    for i in weights.indices {
      r &+= weights[i] &* Int32(samples[3 &* i])
      g &+= weights[i] &* Int32(samples[3 &* i &+ 1])
      b &+= weights[i] &* Int32(samples[3 &* i &+ 2])
    }
    let target = 3 * (x - horizontal.touched.lowerBound)
    out[target] = ResampleWeights.sample(r)
    out[target + 1] = ResampleWeights.sample(g)
    out[target + 2] = ResampleWeights.sample(b)
  }
}

/// Adds a weighted row to a row of sums.
private func addScaled(_ sums: inout MutableSpan<Int32>, _ row: Span<UInt8>, by weight: Int32) {
  precondition(sums.count == row.count, "addScaled: sums \(sums.count), row \(row.count)")
  for i in row.indices { sums[i] &+= weight &* Int32(row[i]) }
}

/// The fixed-point weights of an antialiased resize along one axis, for the requested outputs only.
///
/// The axis may be longer than the image on it: inputs outside `covered` are background, and only the sums of their
/// weights are stored.
///
/// Source: `precompute_coeffs` and `normalize_coeffs_8bpc` in Pillow's `src/libImaging/Resample.c`.
struct ResampleWeights {
  /// The number of fraction bits of a weight.
  static let precision: Int32 = 22

  /// The rounding term, added before the fraction is truncated.
  static let half: Int32 = 1 << 21

  /// The inputs of each output, counted from the start of `covered`; both bounds never decrease.
  private(set) var inputs: [Range<Int>] = []

  /// The sum of the weights outside `covered` of each output.
  private(set) var outsideWeights: [Int32] = []

  /// The sum of all weights of each output.
  private(set) var totalWeights: [Int32] = []

  /// The outputs with an input in `covered`, counted from the first requested one.
  private(set) var touched = 0..<0

  /// The weights of all outputs, concatenated.
  private(set) var values: [Int32] = []

  /// The start of the weights of each output in `values`.
  private(set) var starts: [Int] = []

  /// - Parameters:
  ///   - filter: The filter of the resize.
  ///   - inputCount: The length of the axis before the resize.
  ///   - outputCount: The length of the axis after the resize.
  ///   - requested: The outputs to compute, inside `0..<outputCount`.
  ///   - covered: The inputs that can differ from the background.
  ///
  /// An axis that keeps its length has weights of exactly 1 on the diagonal, so it needs no special case.
  init(_ filter: ResampleFilter, from inputCount: Int, to outputCount: Int, requested: Range<Int>, covered: Range<Int>)
  {
    let scale = Double(inputCount) / Double(outputCount)
    let filterScale = max(scale, 1)
    let support = filter.support * filterScale
    for x in requested {
      let center = (Double(x) + 0.5) * scale
      let low = max(0, Int(center - support + 0.5))
      let high = min(inputCount, Int(center + support + 0.5))
      let step = 1 / filterScale
      var sum = 0.0
      for i in low..<high { sum += filter.value(at: (Double(i) - center + 0.5) * step) }
      var outside: Int32 = 0
      var total: Int32 = 0
      let clamped = low.clamped(to: covered)..<high.clamped(to: covered)
      starts.append(values.count)
      for i in low..<high {
        let weight = Self.fixedPoint(filter.value(at: (Double(i) - center + 0.5) * step) / (sum == 0 ? 1 : sum))
        total += weight
        if clamped.contains(i) { values.append(weight) } else { outside += weight }
      }
      if !clamped.isEmpty { touched = (touched.isEmpty ? inputs.count : touched.lowerBound)..<inputs.count + 1 }
      outsideWeights.append(outside)
      totalWeights.append(total)
      inputs.append(clamped.lowerBound - covered.lowerBound..<clamped.upperBound - covered.lowerBound)
    }
  }

  private static func fixedPoint(_ weight: Double) -> Int32 {
    let scaled = weight * Double(1 << precision)
    return Int32(scaled < 0 ? scaled - 0.5 : scaled + 0.5)
  }

  /// The 8-bit sample of a fixed-point sum.
  static func sample(_ sum: Int32) -> UInt8 { UInt8(clamping: sum >> precision) }
}

extension ResampleFilter {
  /// The distance from the center at which the filter ends.
  fileprivate var support: Double {
    switch self {
    case .bicubic: 2
    case .lanczos: 3
    }
  }

  /// The filter at a distance from its center.
  ///
  /// Source: `bicubic_filter`, with a = -0.5, and `lanczos_filter` in Pillow's `src/libImaging/Resample.c`.
  fileprivate func value(at x: Double) -> Double {
    switch self {
    case .bicubic:
      let a = -0.5
      let x = abs(x)
      if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
      if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
      return 0
    case .lanczos:
      func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(x * .pi) / (x * .pi) }
      return -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0
    }
  }
}

extension Int {
  fileprivate func clamped(to range: Range<Int>) -> Int {
    Swift.min(Swift.max(self, range.lowerBound), range.upperBound)
  }
}

/// An image on a larger, plain background, stored as the image, its position and the colour only.
package struct Canvas {
  package let image: Image
  package let width: Int
  package let height: Int

  /// The columns of the canvas that the image covers.
  package let columns: Range<Int>

  /// The rows of the canvas that the image covers.
  package let rows: Range<Int>

  /// The colour of the background.
  package let fill: [UInt8]

  /// The image alone.
  package init(_ image: Image) {
    self.image = image
    width = image.width
    height = image.height
    columns = 0..<image.width
    rows = 0..<image.height
    fill = [0, 0, 0]
  }

  /// The image in the center of a square; with odd padding the extra pixel is on the right or at the bottom.
  ///
  /// Source: `expand2square` in LLaVA's `llava/mm_utils.py`.
  package init(squaring image: Image, fill: [UInt8]) {
    precondition(fill.count == 3, "Canvas: fill has \(fill.count) channels")
    let side = max(image.width, image.height)
    let left = (side - image.width) / 2
    let top = (side - image.height) / 2
    self.image = image
    width = side
    height = side
    columns = left..<left + image.width
    rows = top..<top + image.height
    self.fill = fill
  }
}
