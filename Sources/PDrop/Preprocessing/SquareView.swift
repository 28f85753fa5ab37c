/// A view under construction: a black square that pictures are pasted on.
struct SquareView {
  /// The side `S`.
  let size: Int

  /// The samples, `[3, S, S]`.
  private(set) var planes: [UInt8]

  init(size: Int) {
    self.size = size
    planes = [UInt8](repeating: 0, count: 3 * size * size)
  }

  /// Pastes the part of a picture that falls on the square.
  ///
  /// - Parameters:
  ///   - samples: The picture, `[rows, columns, 3]`.
  ///   - columns: How wide the picture is.
  ///   - left: The column of the square on which the picture's first column lies; negative when it lies outside.
  ///   - top: The row of the square on which the picture's first row lies; negative when it lies outside.
  mutating func paste(_ samples: [UInt8], columns: Int, left: Int, top: Int) {
    precondition(
      columns > 0 && samples.count.isMultiple(of: 3 * columns), "paste: \(samples.count) of \(columns) columns")
    let across = max(0, -left)..<max(0, -left, min(columns, size - left))
    let down = max(0, -top)..<max(0, -top, min(samples.count / (3 * columns), size - top))
    for y in down {
      for channel in 0..<3 {
        let target = (channel * size + top + y) * size + left
        let source = 3 * y * columns + channel
        for x in across { planes[target + x] = samples[source + 3 * x] }
      }
    }
  }
}
