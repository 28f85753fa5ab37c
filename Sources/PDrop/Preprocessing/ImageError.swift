/// Why a picture was refused. `name` is the file's path, or what the caller called the bytes.
public enum ImageError: Error, Equatable {
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

extension ImageError: CustomStringConvertible {
  /// One line: what is wrong and what to do.
  public var description: String {
    let formats = ImageFormat.allCases.map(\.rawValue).joined(separator: ", ")
    switch self {
    case .missingFile(let name):
      return "\(name): no such file; check the path"
    case .notAFile(let name, let found):
      return "\(name): is a \(found), not a picture file; name one file"
    case .unreadableFile(let name, let reason):
      return "\(name): cannot be read (\(reason)); check its permissions"
    case .fileTooLarge(let name, let byteCount, let limit):
      return "\(name): \(byteCount) bytes, more than the limit of \(limit); save the picture smaller"
    case .emptyFile(let name):
      return "\(name): the file is empty; expected one of \(formats)"
    case .unsupportedFormat(let name, let found):
      return "\(name): \(found) is not supported; convert it to one of \(formats)"
    case .unknownFormat(let name, let firstBytes):
      let bytes = firstBytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
      return "\(name): not a known picture format (starts with \(bytes)); expected one of \(formats)"
    case .animated(let name, let format):
      return "\(name): an animated \(format.rawValue) is not supported; save one frame as a still picture"
    case .tooManyPixels(let name, let width, let height, let limit):
      return "\(name): \(width) x \(height) pixels, more than the limit of \(limit); scale the picture down"
    case .sideTooLong(let name, let width, let height, let limit):
      return "\(name): \(width) x \(height) pixels, a side longer than the limit of \(limit); cut the picture"
    case .damaged(let name, let format, let reason):
      return "\(name): damaged \(format.rawValue) (\(reason)); save or download the picture again"
    case .invalidPixels(let width, let height, let expected, let found):
      let wanted = expected.map { "\($0) bytes" } ?? "a size that fits in memory"
      return "a picture of \(width) x \(height) pixels needs positive sides and \(wanted), found \(found) bytes"
    }
  }
}
