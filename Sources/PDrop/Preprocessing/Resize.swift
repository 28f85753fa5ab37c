/// A rectangle of a canvas after a bicubic resize, exactly as if the whole were resized and then cut.
///
/// One axis is resized after the other with 8-bit samples between, antialiased where it shrinks. Equals the `resize` of
/// Pillow 13 bit for bit, which takes the columns first when they lose more than twice as many samples as the rows do,
/// and else the rows (earlier versions always took the rows first).
///
/// - Parameters:
///   - canvas: What to resize.
///   - width: The number of columns of the whole result.
///   - height: The number of rows of the whole result.
///   - columns: The wanted columns, not empty, inside `0..<width`.
///   - rows: The wanted rows, not empty, inside `0..<height`.
/// - Returns: The samples, `[rows.count, columns.count, 3]`.
///
/// Cost: for each picture row `3 * columns.count` times the taps across, plus as much again for each wanted row it
/// reaches. Source: `ImagingResample` in Pillow's `src/libImaging/Resample.c`, whose order of passes was measured.
package func resizedBicubic(_ canvas: Canvas, width: Int, height: Int, columns: Range<Int>, rows: Range<Int>) -> [UInt8]
{
  precondition(
    !columns.isEmpty && !rows.isEmpty && columns.lowerBound >= 0 && columns.upperBound <= width
      && rows.lowerBound >= 0 && rows.upperBound <= height,
    "resizedBicubic: columns \(columns) of \(width), rows \(rows) of \(height)")
  guard canvas.height - height > max(0, 2 * (canvas.width - width)) else {
    return resizedRowsFirst(canvas, width: width, height: height, columns: columns, rows: rows)
  }
  let turned = resizedRowsFirst(
    canvas.transposed, width: height, height: width, columns: rows, rows: columns)
  return transposed(turned, width: rows.count, height: columns.count)
}

/// The resize with rows first, then columns.
///
/// Only wanted outputs are computed and rows of the picture are used up one by one, so memory grows with the result and
/// the picture, never with the canvas or the uncut result.
private func resizedRowsFirst(
  _ canvas: Canvas, width: Int, height: Int, columns: Range<Int>, rows: Range<Int>
) -> [UInt8] {
  let across = BicubicWeights(from: canvas.width, to: width, wanted: columns, covered: canvas.columns)
  let down = BicubicWeights(from: canvas.height, to: height, wanted: rows, covered: canvas.rows)

  // Above and below the picture rows are background, the same each time: start every sum with their share. Columns
  // that only see background are left to the end, so that a narrow strip costs no more than its pixels.
  let background = backgroundRow(across, fill: canvas.fill)
  let touched = 3 * across.touched.lowerBound..<3 * across.touched.upperBound
  var sums = down.outsideWeights.map { outside in
    background[touched].map { BicubicWeights.half + Int32($0) * outside }
  }
  var row = [UInt8](repeating: 0, count: touched.count)

  var first = 0
  for y in 0..<canvas.image.height {
    while first < rows.count && down.inputs[first].upperBound <= y { first += 1 }
    guard first < rows.count else { break }
    guard down.inputs[first].lowerBound <= y else { continue }
    let pixels = canvas.image.pixels.span
    let source = pixels.extracting(y * canvas.image.width * 3..<(y + 1) * canvas.image.width * 3)
    resizeRow(&row, source, across, fill: canvas.fill)
    for output in first..<rows.count {
      guard down.inputs[output].lowerBound <= y else { break }
      let weight = down.values[down.starts[output] + y - down.inputs[output].lowerBound]
      var sum = sums[output].mutableSpan
      addScaled(&sum, row.span, by: weight)
    }
  }

  var result: [UInt8] = []
  result.reserveCapacity(rows.count * background.count)
  for (output, weight) in down.totalWeights.enumerated() {
    let plain = background.map { BicubicWeights.sample(BicubicWeights.half + Int32($0) * weight) }
    result += plain[..<touched.lowerBound]
    for sum in sums[output] { result.append(BicubicWeights.sample(sum)) }
    result += plain[touched.upperBound...]
  }
  return result
}

/// One row of the canvas that holds no part of the picture, `[W, 3]`.
private func backgroundRow(_ across: BicubicWeights, fill: [UInt8]) -> [UInt8] {
  across.totalWeights.flatMap { weight in
    fill.map { BicubicWeights.sample(BicubicWeights.half + Int32($0) * weight) }
  }
}

/// The touched part of one row of the canvas, `[W, 3]`, from the picture's row, `[w, 3]`.
private func resizeRow(_ row: inout [UInt8], _ source: Span<UInt8>, _ across: BicubicWeights, fill: [UInt8]) {
  let values = across.values.span
  var out = row.mutableSpan
  let (red, green, blue) = (Int32(fill[0]), Int32(fill[1]), Int32(fill[2]))
  for x in across.touched {
    let inputs = across.inputs[x]
    let weights = values.extracting(across.starts[x]..<across.starts[x] + inputs.count)
    let samples = source.extracting(3 * inputs.lowerBound..<3 * inputs.upperBound)
    let outside = across.outsideWeights[x]
    var r = BicubicWeights.half + outside * red
    var g = BicubicWeights.half + outside * green
    var b = BicubicWeights.half + outside * blue
    for i in weights.indices {
      r &+= weights[i] &* Int32(samples[3 &* i])
      g &+= weights[i] &* Int32(samples[3 &* i &+ 1])
      b &+= weights[i] &* Int32(samples[3 &* i &+ 2])
    }
    let target = 3 * (x - across.touched.lowerBound)
    out[target] = BicubicWeights.sample(r)
    out[target + 1] = BicubicWeights.sample(g)
    out[target + 2] = BicubicWeights.sample(b)
  }
}

/// Adds a weighted row to a row of sums.
private func addScaled(_ sums: inout MutableSpan<Int32>, _ row: Span<UInt8>, by weight: Int32) {
  precondition(sums.count == row.count, "addScaled: sums \(sums.count), row \(row.count)")
  for i in row.indices { sums[i] &+= weight &* Int32(row[i]) }
}
