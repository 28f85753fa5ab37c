public import Storage

/// An error of decoding an image. `name` is the path of the file, or the caller's name for the bytes.
public enum ImageError: UserFacingError, Equatable {
  case missingFile(name: String)
  case notAFile(name: String, found: String)
  case unreadableFile(name: String, reason: String)
  case fileTooLarge(name: String, byteCount: Int, limit: Int)
  case emptyFile(name: String)
  case unsupportedFormat(name: String, found: String)
  case unknownFormat(name: String, firstBytes: [UInt8])
  /// A file of another kind, such as a web page.
  case notAnImage(name: String, found: String)
  case gitLFSPointer(name: String)
  case tooManyPixels(name: String, width: Int, height: Int, limit: Int)
  case sideTooLong(name: String, width: Int, height: Int, limit: Int)
  /// Decoding would take too much memory.
  case tooMuchMemory(name: String, width: Int, height: Int, byteCount: Int, limit: Int)
  case damaged(name: String, format: ImageFormat, reason: String)
  case invalidPixels(width: Int, height: Int, expected: Int?, found: Int)
}

extension ImageError {
  public var category: ErrorCategory { .resource }

  public var problem: String {
    switch self {
    case .missingFile(let name), .notAFile(let name, _), .unreadableFile(let name, _), .fileTooLarge(let name, _, _),
      .emptyFile(let name), .unsupportedFormat(let name, _), .unknownFormat(let name, _), .notAnImage(let name, _),
      .gitLFSPointer(let name), .tooManyPixels(let name, _, _, _), .sideTooLong(let name, _, _, _),
      .tooMuchMemory(let name, _, _, _, _), .damaged(let name, _, _):
      return "\(Self.label(name)): \(detail)"
    case .invalidPixels:
      return detail
    }
  }

  /// The problem without the name.
  private var detail: String {
    let formats = ImageFormat.allCases.map(\.rawValue).joined(separator: ", ")
    switch self {
    case .missingFile:
      return "no such file; check the path"
    case .notAFile(_, let found):
      return "is a \(found), not an image file; give the path of a file"
    case .unreadableFile(_, let reason):
      return "cannot be read (\(reason)); check its permissions"
    case .fileTooLarge(_, let byteCount, let limit):
      return "\(byteCount) bytes, more than the limit of \(limit); save the image smaller"
    case .emptyFile:
      return "the file is empty; expected one of \(formats)"
    case .unsupportedFormat(_, let found):
      return "\(found) is not supported; convert it to one of \(formats)"
    case .notAnImage(_, let found):
      return "is \(found), not an image; download the image again"
    case .gitLFSPointer:
      return GitLFSPointer.reason
    case .unknownFormat(_, let firstBytes)
    where firstBytes.allSatisfy({ (0x20..<0x7F).contains($0) || [9, 10, 13].contains($0) }):
      let start = String(decoding: firstBytes, as: UTF8.self).excerpt
      return "not a known image format (text that starts with \(start)); expected one of \(formats)"
    case .unknownFormat(_, let firstBytes):
      let bytes = firstBytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
      return "not a known image format (starts with \(bytes)); expected one of \(formats)"
    case .tooManyPixels(_, let width, let height, let limit):
      return "\(width) x \(height) pixels, more than the limit of \(limit); scale the image down"
    case .sideTooLong(_, let width, let height, let limit):
      return "\(width) x \(height) pixels, a side longer than the limit of \(limit); crop the image"
    case .tooMuchMemory(_, let width, let height, let byteCount, let limit):
      return "\(width) x \(height) pixels take \(Self.mebibytes(byteCount)) to decode, more than the limit of "
        + "\(Self.mebibytes(limit)); scale the image down or save it without progressive or lossless compression"
    case .damaged(_, let format, let reason):
      return "damaged \(format.rawValue) (\(reason)); save or download the image again"
    case .invalidPixels(let width, let height, let expected, let found):
      let wanted = expected.map { "\($0) bytes" } ?? "a size that fits in memory"
      return "an image of \(width) x \(height) pixels needs positive sides and \(wanted), found \(found) bytes"
    }
  }

  /// The name as a label: a path as it is, unless it is too long or has control characters.
  private static func label(_ name: String) -> String {
    let isPlain = name.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F }
    return isPlain && name.utf8.count <= 255 ? name : name.excerpt
  }

  private static func mebibytes(_ bytes: Int) -> String { "\((bytes + (1 << 20) - 1) >> 20) MiB" }
}
