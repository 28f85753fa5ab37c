import CImageCodecs

#if canImport(FoundationEssentials)
  public import FoundationEssentials
#else
  public import Foundation
#endif

/// Reads JPEG, PNG and WebP pictures as 8-bit RGB.
///
/// The pixels are those of Pillow's `Image.open(file).convert("RGB")`: alpha is dropped, not blended; neither gamma
/// nor colour profiles are applied, and the orientation tag only when asked for; CMYK is taken as stored inverted. Of 16-bit samples the high
/// byte is kept (Pillow clips 16-bit grey instead).
public struct ImageDecoder: Sendable {
  /// The largest number of pixels, checked before any is allocated; Pillow's own limit unless set.
  public var pixelLimit = 178_956_970

  /// The longest side; libpng's own limit unless set. The weights of a resize grow with the sides, not the area.
  public var sideLimit = 1_000_000

  /// The largest file in bytes.
  public var byteLimit = 1 << 28

  /// Whether pictures are put upright by their Exif orientation; the reference does not, and so neither does this.
  public var appliesOrientation = false

  /// Makes a decoder with the usual limits.
  public init() {}

  /// The picture in a file.
  ///
  /// - Throws: ``ImageError``, with the path as name.
  public func decode(contentsOfFile path: String) throws(ImageError) -> Image {
    try decode(bytes(ofFile: path), name: path)
  }

  /// The bytes of a file, not yet looked at.
  ///
  /// - Throws: ``ImageError``, with the path as name.
  func bytes(ofFile path: String) throws(ImageError) -> [UInt8] {
    let url = URL(filePath: path).resolvingSymlinksInPath()
    let attributes: [FileAttributeKey: Any]
    do {
      attributes = try FileManager.default.attributesOfItem(atPath: url.path)
    } catch {
      guard FileManager.default.fileExists(atPath: url.path) else { throw .missingFile(name: path) }
      throw .unreadableFile(name: path, reason: "\(error)")
    }
    let kind = attributes[.type] as? FileAttributeType
    guard kind == .typeRegular else {
      throw .notAFile(name: path, found: kind == .typeDirectory ? "folder" : "device or pipe")
    }
    let byteCount = (attributes[.size] as? any BinaryInteger).map { Int($0) } ?? 0
    guard byteCount <= byteLimit else { throw .fileTooLarge(name: path, byteCount: byteCount, limit: byteLimit) }
    do { return [UInt8](try Data(contentsOf: url)) } catch {
      throw .unreadableFile(name: path, reason: "\(error)")
    }
  }

  /// The picture in the bytes of a file.
  ///
  /// - Parameters:
  ///   - data: The whole file.
  ///   - name: What to call it in an error.
  /// - Throws: ``ImageError``.
  public func decode(_ data: Data, name: String = "image") throws(ImageError) -> Image {
    try decode([UInt8](data), name: name)
  }

  /// The picture in the bytes of a file.
  ///
  /// - Parameters:
  ///   - bytes: The whole file.
  ///   - name: What to call it in an error.
  /// - Throws: ``ImageError``.
  public func decode(_ bytes: [UInt8], name: String = "image") throws(ImageError) -> Image {
    guard !bytes.isEmpty else { throw .emptyFile(name: name) }
    guard bytes.count <= byteLimit else {
      throw .fileTooLarge(name: name, byteCount: bytes.count, limit: byteLimit)
    }
    guard let format = ImageFormat(signature: bytes) else {
      if let found = ImageFormat.unsupportedName(signature: bytes) {
        throw .unsupportedFormat(name: name, found: found)
      }
      throw .unknownFormat(name: name, firstBytes: Array(bytes.prefix(8)))
    }
    let file = EncodedImage(bytes: bytes, format: format, name: name)
    let (width, height) = try file.size()
    guard max(width, height) <= sideLimit else {
      throw .sideTooLong(name: name, width: width, height: height, limit: sideLimit)
    }
    let (area, overflow) = width.multipliedReportingOverflow(by: height)
    guard !overflow, area <= pixelLimit else {
      throw .tooManyPixels(name: name, width: width, height: height, limit: pixelLimit)
    }
    let image = try Image(width: width, height: height, pixels: file.pixels(width: width, height: height))
    guard appliesOrientation, let orientation = ExifOrientation(encodedPicture: bytes) else { return image }
    return image.oriented(orientation)
  }
}

/// A file in memory and the C codec that reads it.
private struct EncodedImage {
  var bytes: [UInt8]
  var format: ImageFormat
  var name: String

  /// The size in the header, both sides positive.
  func size() throws(ImageError) -> (width: Int, height: Int) {
    var width: Int32 = 0
    var height: Int32 = 0
    var animated: Int32 = 0
    try unsafe run { message, messageSize in
      switch format {
      case .jpeg: unsafe pdrop_jpeg_read_header(bytes, bytes.count, &width, &height, message, messageSize)
      case .png: unsafe pdrop_png_read_header(bytes, bytes.count, &width, &height, message, messageSize)
      case .webP: unsafe pdrop_webp_read_header(bytes, bytes.count, &width, &height, &animated, message, messageSize)
      }
    }
    guard animated == 0 else { throw .animated(name: name, format: format) }
    guard width > 0, height > 0 else {
      throw .damaged(name: name, format: format, reason: "the header says \(width) x \(height) pixels")
    }
    return (Int(width), Int(height))
  }

  /// The samples, `[height, width, 3]`, for the size in the header.
  func pixels(width: Int, height: Int) throws(ImageError) -> [UInt8] {
    var rgb = [UInt8](repeating: 0, count: width * height * 3)
    let columns = Int32(width)
    let rows = Int32(height)
    try unsafe run { message, messageSize in
      switch format {
      case .jpeg: unsafe pdrop_jpeg_decode(bytes, bytes.count, columns, rows, &rgb, message, messageSize)
      case .png: unsafe pdrop_png_decode(bytes, bytes.count, columns, rows, &rgb, message, messageSize)
      case .webP: unsafe pdrop_webp_decode(bytes, bytes.count, columns, rows, &rgb, message, messageSize)
      }
    }
    return rgb
  }

  /// Calls a codec with room for its message, and throws that message when it fails.
  private func run(_ codec: (UnsafeMutablePointer<CChar>, Int) -> Int32) throws(ImageError) {
    var message = [CChar](repeating: 0, count: 256)
    let messageSize = message.count
    guard unsafe codec(&message, messageSize) != 0 else { return }
    let text = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    throw .damaged(name: name, format: format, reason: String(decoding: text, as: UTF8.self))
  }
}
