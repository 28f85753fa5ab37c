import CImageCodecs
public import Foundation
public import Storage

/// A decoder of JPEG, PNG and WebP images to 8-bit RGB.
///
/// The pixels equal those of Pillow's `Image.open(file).convert("RGB")`. Alpha is dropped, not blended. Gamma and
/// colour profiles are not applied, the orientation tag only on request. CMYK is assumed to be stored inverted. 16-bit
/// samples are reduced to their high byte (Pillow clips 16-bit grey instead).
public struct ImageDecoder: Sendable {
  /// The maximum number of pixels, checked before allocation; by default Pillow's limit.
  public var pixelLimit = 178_956_970

  /// The maximum side; by default libpng's limit. The weights of a resize grow with the sides, not the area.
  public var sideLimit = 1_000_000

  /// The maximum file size in bytes.
  public var byteLimit = 1 << 28

  /// Whether images are rotated by their Exif orientation; off by default, as in the reference.
  public var appliesOrientation = false

  /// Creates a decoder with the default limits.
  public init() {}

  /// Decodes the image in a file.
  ///
  /// - Throws: ``ImageError``, with the path as name.
  public func decode(contentsOfFile path: String) throws(ImageError) -> Image {
    try decode(bytes(ofFile: path), name: path)
  }

  /// Reads the bytes of a file without decoding them.
  ///
  /// - Throws: ``ImageError``, with the path as name.
  package func bytes(ofFile path: String) throws(ImageError) -> [UInt8] {
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

  /// Decodes the image in the bytes of a file.
  ///
  /// - Parameters:
  ///   - data: The whole file.
  ///   - name: The name for errors.
  /// - Throws: ``ImageError``.
  public func decode(_ data: Data, name: String = "image") throws(ImageError) -> Image {
    try decode([UInt8](data), name: name)
  }

  /// Decodes the image in the bytes of a file.
  ///
  /// - Parameters:
  ///   - bytes: The whole file.
  ///   - name: The name for errors.
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
    let file = CompressedImage(bytes: bytes, format: format, name: name)
    let (width, height) = try file.size()
    guard max(width, height) <= sideLimit else {
      throw .sideTooLong(name: name, width: width, height: height, limit: sideLimit)
    }
    let (area, overflow) = width.multipliedReportingOverflow(by: height)
    guard !overflow, area <= pixelLimit else {
      throw .tooManyPixels(name: name, width: width, height: height, limit: pixelLimit)
    }
    let image = try Image(width: width, height: height, pixels: file.pixels(width: width, height: height))
    guard appliesOrientation, let orientation = ExifOrientation(encodedImage: bytes) else { return image }
    return image.oriented(orientation)
  }
}

/// An encoded image in memory, decoded by a C codec.
private struct CompressedImage {
  var bytes: [UInt8]
  var format: ImageFormat
  var name: String

  /// Reads the size from the header; both sides are positive.
  func size() throws(ImageError) -> (width: Int, height: Int) {
    var width: Int32 = 0
    var height: Int32 = 0
    var isAnimated = false
    try unsafe run { message, messageSize in
      switch format {
      case .jpeg: unsafe pdrop_jpeg_read_header(bytes, bytes.count, &width, &height, message, messageSize)
      case .png: unsafe pdrop_png_read_header(bytes, bytes.count, &width, &height, message, messageSize)
      case .webP: unsafe pdrop_webp_read_header(bytes, bytes.count, &width, &height, &isAnimated, message, messageSize)
      }
    }
    guard !isAnimated else { throw .animated(name: name, format: format) }
    guard width > 0, height > 0 else {
      throw .damaged(name: name, format: format, reason: "the header has \(width) x \(height) pixels")
    }
    return (Int(width), Int(height))
  }

  /// Decodes the samples, `[height, width, 3]`, for the size in the header.
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

  /// Calls a codec with a message buffer, and throws the message if it fails.
  private func run(_ codec: (UnsafeMutablePointer<CChar>, Int) -> Bool) throws(ImageError) {
    var message = [CChar](repeating: 0, count: 256)
    let messageSize = message.count
    if unsafe codec(&message, messageSize) { return }
    let text = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    throw .damaged(name: name, format: format, reason: String(decoding: text, as: UTF8.self))
  }
}

/// The supported file formats.
public enum ImageFormat: String, Sendable, CaseIterable {
  case jpeg = "JPEG"
  case png = "PNG"
  case webP = "WebP"

  /// The format of a file by its first bytes; nil for other formats.
  package init?(signature bytes: [UInt8]) {
    if bytes.starts(with: [0xFF, 0xD8, 0xFF]) {
      self = .jpeg
    } else if bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) {
      self = .png
    } else if bytes.starts(with: "RIFF".utf8), bytes.dropFirst(8).starts(with: "WEBP".utf8) {
      self = .webP
    } else {
      return nil
    }
  }

  /// The name of an image format that is recognised but not supported, or nil.
  package static func unsupportedName(signature bytes: [UInt8]) -> String? {
    if bytes.dropFirst(4).starts(with: "ftyp".utf8) { return mediaName(brands: bytes) }
    if let other = others.first(where: { bytes.starts(with: $0.signature) }) { return other.name }
    return isSVG(bytes) ? "SVG" : nil
  }

  private static let others: [(name: String, signature: [UInt8])] = [
    ("GIF", Array("GIF8".utf8)),
    ("BMP", Array("BM".utf8)),
    ("TIFF", Array("II*\0".utf8)),
    ("TIFF", Array("MM\0*".utf8)),
    ("TIFF", Array("II+\0".utf8)),
    ("TIFF", Array("MM\0+".utf8)),
    ("JPEG XL", [0xFF, 0x0A]),
    ("JPEG XL", [0, 0, 0, 0x0C, 0x4A, 0x58, 0x4C, 0x20]),
    ("JPEG 2000", [0, 0, 0, 0x0C, 0x6A, 0x50, 0x20, 0x20]),
    ("JPEG 2000", [0xFF, 0x4F, 0xFF, 0x51]),
    ("icon", [0, 0, 1, 0]),
    ("Photoshop", Array("8BPS".utf8)),
    ("PDF", Array("%PDF".utf8)),
    ("PostScript", Array("%!PS".utf8)),
  ]

  /// The image format of an ISO media file by the brands of its first box: major brand, version, compatible brands.
  private static func mediaName(brands bytes: [UInt8]) -> String? {
    let end = min(bytes.count, max(12, Int(bytes[2]) << 8 | Int(bytes[3])), 256)
    let brands = stride(from: 8, to: end - 3, by: 4).filter { $0 != 12 }.map {
      String(decoding: bytes[$0..<$0 + 4], as: UTF8.self)
    }
    // The brands mif1 and msf1 are used by both formats.
    if brands.contains(where: { $0.hasPrefix("avi") }) { return "AVIF" }
    if brands.contains(where: { $0.hasPrefix("he") || $0.hasPrefix("mif") || $0.hasPrefix("msf") }) { return "HEIC" }
    return nil
  }

  /// Whether a text is an SVG: its first element, after declarations and comments, is `svg`.
  private static func isSVG(_ bytes: [UInt8]) -> Bool {
    let text = String(decoding: bytes.prefix(4096), as: UTF8.self)
    guard text.first(where: { !$0.isWhitespace && $0 != "\u{FEFF}" }) == "<" else { return false }
    let element = text.replacing(/<!--(?s:.*?)-->/, with: "").firstMatch(of: /<([A-Za-z][\w:.]*)/)
    return element.map { $0.1.lowercased() == "svg" || $0.1.lowercased().hasSuffix(":svg") } ?? false
  }
}

/// An error of decoding an image. `name` is the path of the file, or the caller's name for the bytes.
public enum ImageError: UserFacingError, Equatable {
  case missingFile(name: String)
  case notAFile(name: String, found: String)
  case unreadableFile(name: String, reason: String)
  case fileTooLarge(name: String, byteCount: Int, limit: Int)
  case emptyFile(name: String)
  case unsupportedFormat(name: String, found: String)
  case unknownFormat(name: String, firstBytes: [UInt8])
  case animated(name: String, format: ImageFormat)
  case tooManyPixels(name: String, width: Int, height: Int, limit: Int)
  case sideTooLong(name: String, width: Int, height: Int, limit: Int)
  case damaged(name: String, format: ImageFormat, reason: String)
  case invalidPixels(width: Int, height: Int, expected: Int?, found: Int)
}

extension ImageError {
  public var category: ErrorCategory { .resource }

  public var problem: String {
    let formats = ImageFormat.allCases.map(\.rawValue).joined(separator: ", ")
    switch self {
    case .missingFile(let name):
      return "\(name): no such file; check the path"
    case .notAFile(let name, let found):
      return "\(name): is a \(found), not an image file; give the path of a file"
    case .unreadableFile(let name, let reason):
      return "\(name): cannot be read (\(reason)); check its permissions"
    case .fileTooLarge(let name, let byteCount, let limit):
      return "\(name): \(byteCount) bytes, more than the limit of \(limit); save the image smaller"
    case .emptyFile(let name):
      return "\(name): the file is empty; expected one of \(formats)"
    case .unsupportedFormat(let name, let found):
      return "\(name): \(found) is not supported; convert it to one of \(formats)"
    case .unknownFormat(let name, let firstBytes):
      let bytes = firstBytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
      return "\(name): not a known image format (starts with \(bytes)); expected one of \(formats)"
    case .animated(let name, let format):
      return "\(name): an animated \(format.rawValue) is not supported; save one frame as a still image"
    case .tooManyPixels(let name, let width, let height, let limit):
      return "\(name): \(width) x \(height) pixels, more than the limit of \(limit); scale the image down"
    case .sideTooLong(let name, let width, let height, let limit):
      return "\(name): \(width) x \(height) pixels, a side longer than the limit of \(limit); crop the image"
    case .damaged(let name, let format, let reason):
      return "\(name): damaged \(format.rawValue) (\(reason)); save or download the image again"
    case .invalidPixels(let width, let height, let expected, let found):
      let wanted = expected.map { "\($0) bytes" } ?? "a size that fits in memory"
      return "an image of \(width) x \(height) pixels needs positive sides and \(wanted), found \(found) bytes"
    }
  }
}
