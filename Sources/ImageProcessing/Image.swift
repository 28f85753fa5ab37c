import CImageCodecs
package import ModelFormats
public import Storage

/// An image in memory: 8-bit RGB, three bytes per pixel, rows from top to bottom.
public struct Image: Sendable, Equatable {
  /// The number of columns, at least 1.
  public let width: Int

  /// The number of rows, at least 1.
  public let height: Int

  /// The samples, `[height, width, 3]`.
  public let pixels: [UInt8]

  /// Creates an image from its samples.
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

  /// The image in another size.
  ///
  /// - Parameters:
  ///   - width: The number of columns, at least 1.
  ///   - height: The number of rows, at least 1.
  ///   - filter: The filter of the resize.
  package func resized(width: Int, height: Int, filter: ResampleFilter = .bicubic) -> Image {
    let samples = resampled(
      Canvas(self), width: width, height: height, columns: 0..<width, rows: 0..<height, filter: filter)
    guard let image = try? Image(width: width, height: height, pixels: samples) else {
      preconditionFailure("resized: \(width) x \(height)")
    }
    return image
  }
}

/// An encoder of PNG files.
public struct ImageEncoder: Sendable {
  /// The description stored in the file; characters outside Latin-1 become question marks.
  public var description = ""

  public init() {}

  /// The bytes of a PNG file.
  ///
  /// - Throws: ``ImageEncodingError`` if libpng fails, for example for a side of more than a million pixels.
  public func png(_ image: Image) throws(ImageEncodingError) -> [UInt8] {
    let text = description.unicodeScalars.map { CChar(truncatingIfNeeded: $0.value < 256 ? $0.value : 0x3F) } + [0]
    // Deflate adds at most a few bytes to each incompressible block, and a chunk begins every 8 KiB.
    let raw = image.height * (1 + 3 * image.width)
    var file = [UInt8](repeating: 0, count: raw + raw / 100 + text.count + 4096)
    var message = [CChar](repeating: 0, count: 256)
    let (capacity, messageSize) = (file.count, message.count)
    var count = 0
    let succeeded = unsafe pdrop_png_encode(
      image.pixels, Int32(clamping: image.width), Int32(clamping: image.height), text, &file, capacity, &count,
      &message, messageSize)
    guard succeeded else {
      let reason = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      throw ImageEncodingError(reason: String(decoding: reason, as: UTF8.self))
    }
    file.removeLast(file.count - count)
    return file
  }
}

/// An error of encoding an image.
public struct ImageEncodingError: UserFacingError, Equatable {
  public let reason: String

  public var category: ErrorCategory { .internal }
  public var problem: String { "the image cannot be written as PNG (\(reason))" }
}
