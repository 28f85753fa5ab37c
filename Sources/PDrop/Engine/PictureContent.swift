internal import Kernels
internal import ModelFormats

/// What tells the contents of pictures apart: their bytes, and how they are to be looked at.
///
/// Two checksums of 64 bits each, which guard against chance, not against somebody who makes two files of the same checksums.
struct PictureContent: Hashable, Sendable {
  let byteCount: Int
  let checksums: [UInt64]
  let appliesOrientation: Bool

  init(_ bytes: [UInt8], appliesOrientation: Bool) {
    let shared = SharedBytes(copying: bytes)
    byteCount = bytes.count
    // The second sees all bytes but the first at other places, so that no collision of one is one of the other.
    checksums = [shared.checksum, shared.checksum(min(1, bytes.count)..<bytes.count)]
    self.appliesOrientation = appliesOrientation
  }

  /// What the names of pictures have at their end that are put upright, behind a `-`.
  static let uprightMark = "upright"

  /// A part of a file's name: 32 hexadecimal digits, and the mark.
  var name: String {
    let digits = checksums.map { String($0, radix: 16).leftPadded(to: 16) }.joined()
    return appliesOrientation ? digits + "-" + Self.uprightMark : digits
  }
}

extension String {
  /// With zeros in front.
  fileprivate func leftPadded(to count: Int) -> String {
    String(repeating: "0", count: max(0, count - self.count)) + self
  }
}
