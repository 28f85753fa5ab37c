import CImageCodecs
public import Foundation
import Storage

/// A decoder of JPEG, PNG and WebP images to 8-bit RGB.
///
/// Accepts the files that Pillow accepts, and the pixels equal those of Pillow's `Image.open(file).convert("RGB")`.
/// Alpha is dropped, not blended. Gamma and colour profiles are not applied, the orientation only on request. CMYK is
/// assumed to be stored inverted. 16-bit samples are reduced to their high byte (Pillow clips 16-bit grey instead). An
/// animation is its first frame.
public struct ImageDecoder: Sendable {
  /// The maximum number of pixels, checked before allocation; by default Pillow's limit.
  public var pixelLimit = 178_956_970

  /// The maximum side; by default that of libpng. The weights of a resize grow with the sides, not the area.
  public var sideLimit = 1_000_000

  /// The maximum file size in bytes.
  public var byteLimit = 1 << 28

  /// The maximum number of bytes that decoding takes, the decoded image included; checked before allocation.
  public var memoryLimit = 1 << 30

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
    let file: OpenFile
    do throws(SystemError) { file = try OpenFile(reading: ByteString(path)) } catch {
      if error.isNotFound { throw .missingFile(name: path) }
      if error.isNoFile { throw .notAFile(name: path, found: "device or pipe") }
      throw .unreadableFile(name: path, reason: error.problem)
    }
    guard file.isRegular else {
      throw .notAFile(name: path, found: file.isFolder ? "folder" : "device or pipe")
    }
    guard file.size <= byteLimit else { throw .fileTooLarge(name: path, byteCount: file.size, limit: byteLimit) }
    let bytes: [UInt8]
    do throws(SystemError) { bytes = try file.readAll(limit: byteLimit + 1) } catch {
      throw .unreadableFile(name: path, reason: error.problem)
    }
    // It may have grown.
    guard bytes.count <= byteLimit else { throw .fileTooLarge(name: path, byteCount: bytes.count, limit: byteLimit) }
    return bytes
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
    let file = try file(bytes, name: name)
    let image = try Image(width: file.width, height: file.height, pixels: file.pixels())
    guard appliesOrientation, let orientation = ExifOrientation(encodedImage: bytes) else { return image }
    return image.oriented(orientation)
  }

  /// The bytes that decoding takes, the decoded image included, by the header of a file.
  ///
  /// - Throws: ``ImageError`` for an image that `decode` refuses by its header.
  package func decodingByteCount(_ bytes: [UInt8], name: String) throws(ImageError) -> Int {
    decodingByteCount(try file(bytes, name: name))
  }

  private func decodingByteCount(_ file: CompressedImage) -> Int {
    let (pixels, overflow) = (file.width * file.height).multipliedReportingOverflow(by: 3)
    guard !overflow, pixels <= .max / 4, file.workingByteCount <= .max / 4 else { return .max }
    // The rotated copy is made after the decoder has freed its memory.
    return pixels + max(file.workingByteCount, appliesOrientation ? pixels : 0)
  }

  /// The file with its header, within the limits.
  private func file(_ bytes: [UInt8], name: String) throws(ImageError) -> CompressedImage {
    guard !bytes.isEmpty else { throw .emptyFile(name: name) }
    guard bytes.count <= byteLimit else {
      throw .fileTooLarge(name: name, byteCount: bytes.count, limit: byteLimit)
    }
    guard let format = ImageFormat(signature: bytes) else {
      switch OtherFile(bytes) {
      case .image(let found): throw .unsupportedFormat(name: name, found: found)
      case .notAnImage(let found): throw .notAnImage(name: name, found: found)
      case .gitLFSPointer: throw .gitLFSPointer(name: name)
      case nil: throw .unknownFormat(name: name, firstBytes: Array(bytes.prefix(8)))
      }
    }
    let file = try CompressedImage(bytes, format, name: name)
    let (width, height) = (file.width, file.height)
    guard max(width, height) <= sideLimit else {
      throw .sideTooLong(name: name, width: width, height: height, limit: sideLimit)
    }
    let (area, overflow) = width.multipliedReportingOverflow(by: height)
    guard !overflow, area <= pixelLimit else {
      throw .tooManyPixels(name: name, width: width, height: height, limit: pixelLimit)
    }
    let byteCount = decodingByteCount(file)
    guard byteCount <= memoryLimit else {
      throw .tooMuchMemory(name: name, width: width, height: height, byteCount: byteCount, limit: memoryLimit)
    }
    return file
  }
}

/// An encoded image in memory, decoded by a C codec.
private struct CompressedImage {
  let bytes: [UInt8]
  let format: ImageFormat
  let name: String
  /// The number of columns, positive.
  private(set) var width = 0
  /// The number of rows, positive.
  private(set) var height = 0
  /// Bytes of the decoder, without the file and the decoded image.
  private(set) var workingByteCount = 0

  /// Reads the header.
  init(_ bytes: [UInt8], _ format: ImageFormat, name: String) throws(ImageError) {
    (self.bytes, self.format, self.name) = (bytes, format, name)
    var header = pdrop_image_header()
    try unsafe run { message, messageSize in
      switch format {
      case .jpeg: unsafe pdrop_jpeg_read_header(bytes, bytes.count, &header, message, messageSize)
      case .png: unsafe pdrop_png_read_header(bytes, bytes.count, &header, message, messageSize)
      case .webP: unsafe pdrop_webp_read_header(bytes, bytes.count, &header, message, messageSize)
      }
    }
    guard header.width > 0, header.height > 0 else {
      throw .damaged(name: name, format: format, reason: "the header has \(header.width) x \(header.height) pixels")
    }
    (width, height) = (Int(header.width), Int(header.height))
    workingByteCount = Int(clamping: header.working_bytes)
  }

  /// Decodes the samples, `[height, width, 3]`.
  func pixels() throws(ImageError) -> [UInt8] {
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

/// The content of zlib data, at most `limit` bytes of it; `nil` if they are damaged.
func inflated(_ bytes: ArraySlice<UInt8>, limit: Int) -> [UInt8]? {
  // Deflate expands data at most 1032 times.
  let capacity = min(limit, 64 + 1032 * bytes.count)
  var target = [UInt8](repeating: 0, count: capacity)
  var count = 0
  let source = Array(bytes)
  guard unsafe pdrop_inflate(source, source.count, &target, capacity, &count) else { return nil }
  target.removeLast(capacity - count)
  return target
}
