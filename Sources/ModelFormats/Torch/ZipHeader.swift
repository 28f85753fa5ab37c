/// What an entry's line in the directory and its own header have in common.
struct ZipHeader {
  let size: UInt64
  let storedSize: UInt64
  let nameSize: UInt64
  let extraSize: UInt64
  private let flags: UInt64
  private let method: UInt64

  /// Flags of encrypted, strongly encrypted, masked and patched entries.
  private static let refusedFlags: UInt64 = 1 << 0 | 1 << 6 | 1 << 13 | 1 << 5

  init(_ reader: inout ByteReader) throws(CheckpointError) {
    _ = try reader.skip(2)
    flags = try reader.integer(byteCount: 2)
    method = try reader.integer(byteCount: 2)
    _ = try reader.skip(8)
    storedSize = try reader.integer(byteCount: 4)
    size = try reader.integer(byteCount: 4)
    nameSize = try reader.integer(byteCount: 2)
    extraSize = try reader.integer(byteCount: 2)
  }

  /// Whether the sizes follow after the data, so that the header before them may have zeros instead.
  var isStreamed: Bool { flags & 1 << 3 != 0 }

  /// Refuses all but bytes stored as they are.
  func checkPlain(_ name: String, file: String) throws(CheckpointError) {
    guard flags & Self.refusedFlags == 0 else {
      throw .malformed(file: file, reason: "the entry '\(name)' is encrypted or patched, expected plain bytes")
    }
    guard method == 0 else {
      throw .malformed(
        file: file,
        reason: "the entry '\(name)' is compressed (method \(method)), expected stored bytes as torch.save writes them")
    }
  }
}

/// The numbers of an entry that do not fit in 32 bits; they stand one after another in the extra field with id 1.
struct Zip64Numbers {
  private var field: ByteReader

  /// Looks for the field among the extra fields.
  init(_ extra: ByteReader) throws(CheckpointError) {
    var extra = extra
    field = try extra.part(0)
    while extra.rest.count >= 4 {
      let id = try extra.integer(byteCount: 2)
      let content = try extra.part(extra.integer(byteCount: 2))
      if id == 1 {
        field = content
        return
      }
    }
  }

  /// The number itself, or the next wide one in its place where it is saturated.
  mutating func widen(_ narrow: UInt64) throws(CheckpointError) -> UInt64 {
    narrow == 0xFFFF_FFFF ? try field.integer(byteCount: 8) : narrow
  }
}
