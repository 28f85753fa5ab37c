/// A picture in memory: 8-bit RGB, rows from the top, three bytes a pixel.
public struct Image: Sendable, Equatable {
  /// The number of columns, at least 1.
  public let width: Int

  /// The number of rows, at least 1.
  public let height: Int

  /// The samples, `[height, width, 3]`.
  public let pixels: [UInt8]

  /// Makes a picture from its samples.
  ///
  /// - Parameters:
  ///   - width: The number of columns.
  ///   - height: The number of rows.
  ///   - pixels: The samples, `[height, width, 3]`.
  /// - Throws: ``ImageError/invalidPixels(width:height:expected:found:)`` unless both sides are positive and the count
  ///   is `width * height * 3`.
  public init(width: Int, height: Int, pixels: [UInt8]) throws(ImageError) {
    let (area, areaOverflow) = width.multipliedReportingOverflow(by: height)
    let (count, overflow) = area.multipliedReportingOverflow(by: 3)
    guard width > 0, height > 0, !areaOverflow, !overflow, pixels.count == count else {
      throw .invalidPixels(
        width: width, height: height, expected: areaOverflow || overflow ? nil : count, found: pixels.count)
    }
    self.width = width
    self.height = height
    self.pixels = pixels
  }

  /// The picture with rows and columns exchanged.
  var transposed: Image { Image(transposing: self) }

  private init(transposing image: Image) {
    (width, height) = (image.height, image.width)
    pixels = PDrop.transposed(image.pixels, width: image.width, height: image.height)
  }
}

/// RGB samples with rows and columns exchanged, from `[height, width, 3]` to `[width, height, 3]`.
func transposed(_ samples: [UInt8], width: Int, height: Int) -> [UInt8] {
  precondition(samples.count == 3 * width * height, "transposed: \(samples.count) samples of \(width) x \(height)")
  var result: [UInt8] = []
  result.reserveCapacity(samples.count)
  for x in 0..<width {
    for y in 0..<height {
      let pixel = 3 * (y * width + x)
      result.append(samples[pixel])
      result.append(samples[pixel + 1])
      result.append(samples[pixel + 2])
    }
  }
  return result
}
