/// Content in place of UTF-8 text, recognized by its first bytes.
///
/// Sources: RFC 1952 (gzip), RFC 8878 (zstd), the specifications of zip, xz, bzip2, LZ4, 7z and Parquet, and the byte
/// order marks of the Unicode standard.
package enum ForeignContent: Equatable, Sendable {
  case utf16
  case utf32
  /// A compressed file or an archive, and the program that unpacks it.
  case compressed(format: String, program: String)
  case parquet

  /// The number of bytes that `init` considers.
  package static let signatureLength = 8

  /// - Parameter bytes: The first bytes of the content; `nil` for other content, such as text.
  package init?(firstBytes bytes: some Collection<UInt8>) {
    let bytes = Array(bytes.prefix(Self.signatureLength))
    if let format = Self.formats.first(where: { bytes.starts(with: $0.signature) }) {
      self = format.content
      return
    }
    // Without a byte order mark: the first characters of a JSON text or of a Western one are ASCII.
    guard bytes.count >= 4 else { return nil }
    switch bytes.prefix(4).map({ $0 == 0 }) {
    case [false, true, false, true], [true, false, true, false]: self = .utf16
    case [false, true, true, true], [true, true, true, false]: self = .utf32
    default: return nil
    }
  }

  private static let formats: [(signature: [UInt8], content: ForeignContent)] = [
    // Before UTF-16, whose byte order mark it begins with.
    ([0xFF, 0xFE, 0, 0], .utf32), ([0, 0, 0xFE, 0xFF], .utf32),
    ([0xFF, 0xFE], .utf16), ([0xFE, 0xFF], .utf16),
    ([0x1F, 0x8B], .compressed(format: "gzip", program: "gzip -d")),
    ([0x28, 0xB5, 0x2F, 0xFD], .compressed(format: "zstd", program: "zstd -d")),
    ([0x50, 0x4B, 0x03, 0x04], .compressed(format: "zip", program: "unzip")),
    ([0x50, 0x4B, 0x05, 0x06], .compressed(format: "zip", program: "unzip")),
    ([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00], .compressed(format: "xz", program: "xz -d")),
    ([0x42, 0x5A, 0x68], .compressed(format: "bzip2", program: "bzip2 -d")),
    ([0x04, 0x22, 0x4D, 0x18], .compressed(format: "LZ4", program: "lz4 -d")),
    ([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C], .compressed(format: "7z", program: "7z x")),
    ([0x50, 0x41, 0x52, 0x31], .parquet),
  ]

  /// The content and its remedy, for messages: `gzip data instead of UTF-8 text; …`.
  package var problem: String { "\(name) instead of UTF-8 text; \(remedy)" }

  /// The content, for messages: `gzip data`.
  package var name: String {
    switch self {
    case .utf16: "UTF-16"
    case .utf32: "UTF-32"
    case .compressed(let format, _): "\(format) data"
    case .parquet: "Parquet data"
    }
  }

  /// What makes text of the content: `decompress it, as with 'gzip -d'`.
  package var remedy: String {
    switch self {
    case .utf16: "convert it, as with 'iconv -f UTF-16 -t UTF-8'"
    case .utf32: "convert it, as with 'iconv -f UTF-32 -t UTF-8'"
    case .compressed(_, let program): "decompress it, as with '\(program)'"
    case .parquet: "convert it"
    }
  }
}
