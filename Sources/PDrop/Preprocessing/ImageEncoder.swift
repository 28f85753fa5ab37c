import CImageCodecs

/// Writes pictures as PNG files.
public struct ImageEncoder: Sendable {
  /// A text that the file carries; what Latin-1 does not know becomes a question mark.
  public var description = ""

  public init() {}

  /// The bytes of a PNG file.
  ///
  /// - Throws: ``ImageEncodingError`` when libpng refuses, as for a side of more than a million pixels.
  public func png(_ image: Image) throws(ImageEncodingError) -> [UInt8] {
    let text = description.unicodeScalars.map { CChar(truncatingIfNeeded: $0.value < 256 ? $0.value : 0x3F) } + [0]
    // Deflate adds at most a few bytes to each block that it cannot shrink, and every 8 KiB begin a chunk.
    let raw = image.height * (1 + 3 * image.width)
    var file = [UInt8](repeating: 0, count: raw + raw / 100 + text.count + 4096)
    var message = [CChar](repeating: 0, count: 256)
    let (capacity, messageSize) = (file.count, message.count)
    var count = 0
    let status = unsafe pdrop_png_encode(
      image.pixels, Int32(clamping: image.width), Int32(clamping: image.height), text, &file, capacity, &count,
      &message, messageSize)
    guard status == 0 else {
      let reason = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
      throw ImageEncodingError(reason: String(decoding: reason, as: UTF8.self))
    }
    file.removeLast(file.count - count)
    return file
  }
}

/// A picture that could not be written.
public struct ImageEncodingError: Error, Equatable, CustomStringConvertible {
  public let reason: String

  public var description: String { "the picture cannot be written as PNG (\(reason))" }
}
