import Storage

/// The entries of an uncompressed ZIP archive, with the byte range of each in the file.
///
/// Anything that torch.save does not write is refused: compression, encryption, paths outside the folder, overlapping
/// entries, and headers that disagree with the directory. Checksums are not verified: that would read all weights, and
/// PyTorch can omit them.
///
/// Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.5.3.
struct ZipArchive {
  private var entries: [String: Range<Int>] = [:]
  /// The folder of the first entry, where PyTorch expects all others.
  let folder: String

  init(_ bytes: SharedBytes, file: String) throws(CheckpointError) {
    let directory = try ZipDirectory(bytes, file: file)
    var reader = ByteReader(bytes, directory.range, file: file)
    var extents: [(name: String, bytes: Range<Int>)] = []
    for _ in 0..<directory.entryCount {
      let entry = try ZipEntry(&reader)
      let (extent, data) = try entry.locate(in: bytes, before: directory.range.lowerBound, file: file)
      guard entries.updateValue(data, forKey: entry.name) == nil else {
        throw .malformed(file: file, reason: "the entry \(entry.name.excerpt) occurs twice")
      }
      extents.append((entry.name, extent))
    }
    guard reader.rest.isEmpty else { throw reader.error("the end of the directory") }
    folder = extents.first.map { String($0.name.prefix { $0 != "/" }) } ?? ""
    var end = 0
    for extent in extents.sorted(by: { $0.bytes.lowerBound < $1.bytes.lowerBound }) {
      guard extent.bytes.lowerBound >= end else {
        throw .malformed(file: file, reason: "the entry \(extent.name.excerpt) overlaps another")
      }
      end = extent.bytes.upperBound
    }
  }

  /// The byte range of an entry's data, by its name in the folder.
  subscript(name: String) -> Range<Int>? { entries[folder + "/" + name] }
}

/// The byte range of the central directory of a ZIP archive, from the records at the end of the file.
///
/// Archives of more than 4 GiB have a second record: ZIP64's, whose numbers replace the saturated ones of the first.
///
/// Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16.
struct ZipDirectory {
  let range: Range<Int>
  let entryCount: Int

  /// Far more entries than any checkpoint has tensors.
  private static let entryLimit = 1 << 16
  private static let endSize = 22
  private static let locatorSize = 20
  private static let commentLimit = 0xFFFF

  /// Byte counts of the fields of an end record: disk, first disk, entries on the disk, entries, directory size,
  /// offset.
  private static let fieldSizes = [2, 2, 2, 2, 4, 4]
  private static let zip64FieldSizes = [4, 4, 8, 8, 8, 8]

  init(_ bytes: SharedBytes, file: String) throws(CheckpointError) {
    var end = try Self.findEnd(bytes, file: file)
    var record = ByteReader(bytes, end + 4..<bytes.count, file: file)
    var numbers = try Self.numbers(&record, Self.fieldSizes)
    if let zip64 = try Self.zip64Record(bytes, before: end, file: file) {
      for i in numbers.indices where numbers[i] != zip64.numbers[i] {
        guard numbers[i] == 1 << (8 * UInt64(Self.fieldSizes[i])) - 1 else {
          throw .malformed(
            file: file, reason: "the ZIP64 record has \(zip64.numbers[i]), the end record has \(numbers[i])")
        }
      }
      (end, numbers) = zip64
    }
    let (entries, size, offset) = (numbers[3], numbers[4], numbers[5])
    guard numbers[0] == 0, numbers[1] == 0, numbers[2] == entries else {
      throw .malformed(file: file, reason: "a multi-part archive, expected a single file")
    }
    guard entries <= UInt64(Self.entryLimit) else {
      throw .malformed(file: file, reason: "an archive of \(entries) entries, expected at most \(Self.entryLimit)")
    }
    guard size <= UInt64(end), offset == UInt64(end) - size else {
      throw .malformed(
        file: file, reason: "a directory of \(size) bytes at byte \(offset), expected its end at byte \(end)")
    }
    range = Int(offset)..<end
    entryCount = Int(entries)
  }

  private static func numbers(_ reader: inout ByteReader, _ byteCounts: [Int]) throws(CheckpointError) -> [UInt64] {
    var numbers: [UInt64] = []
    for count in byteCounts { numbers.append(try reader.integer(byteCount: count)) }
    return numbers
  }

  /// The offset of the end record: the last one whose comment fills the rest of the file.
  private static func findEnd(_ bytes: SharedBytes, file: String) throws(CheckpointError) -> Int {
    let tail = bytes.copy(max(0, bytes.count - endSize - commentLimit)..<bytes.count)
    for i in stride(from: tail.count - endSize, through: 0, by: -1)
    where tail[i] == 0x50 && tail[i...].starts(with: [0x50, 0x4B, 5, 6]) {
      let comment = Int(tail[i + 20]) | Int(tail[i + 21]) << 8
      if i + endSize + comment == tail.count { return bytes.count - tail.count + i }
    }
    throw .malformed(
      file: file,
      reason: "no ZIP directory at the end; the file is truncated, or not written by torch.save of PyTorch 1.6 or later"
    )
  }

  /// The offset and the numbers of the ZIP64 record; nil without a locator directly before the end record.
  private static func zip64Record(
    _ bytes: SharedBytes, before end: Int, file: String
  ) throws(CheckpointError) -> (start: Int, numbers: [UInt64])? {
    guard end >= locatorSize else { return nil }
    let locatorStart = end - locatorSize
    var locator = ByteReader(bytes, locatorStart..<end, file: file)
    guard try locator.integer(byteCount: 4) == 0x0706_4B50 else { return nil }
    _ = try locator.skip(4)
    let start = try locator.integer(byteCount: 8)
    guard start < UInt64(locatorStart) else {
      throw .malformed(file: file, reason: "a ZIP64 record at byte \(start), expected before byte \(locatorStart)")
    }
    var record = ByteReader(bytes, Int(start)..<locatorStart, file: file)
    try record.signature(0x0606_4B50, of: "a ZIP64 record")
    guard try record.integer(byteCount: 8) == UInt64(record.rest.count) else {
      throw record.error("a ZIP64 record up to its locator")
    }
    // The version of the writer and the minimum version of readers.
    _ = try record.skip(4)
    return (Int(start), try numbers(&record, zip64FieldSizes))
  }
}

/// An entry of the central directory of a ZIP archive.
struct ZipEntry {
  let name: String
  private let nameBytes: [UInt8]
  private let size: UInt64
  private let offset: UInt64

  /// Reads the next entry of the directory.
  init(_ directory: inout ByteReader) throws(CheckpointError) {
    try directory.signature(0x0201_4B50, of: "an entry of the ZIP directory")
    _ = try directory.skip(2)
    let header = try ZipHeader(&directory)
    let commentSize = try directory.integer(byteCount: 2)
    let disk = try directory.integer(byteCount: 2)
    _ = try directory.skip(6)
    let offset32 = try directory.integer(byteCount: 4)
    nameBytes = try directory.bytes(header.nameSize)
    guard let name = Self.name(nameBytes) else {
      throw .malformed(
        file: directory.file,
        reason:
          "an entry is named \(String(decoding: nameBytes, as: UTF8.self).excerpt), expected a path inside the archive"
      )
    }
    try header.checkPlain(name, file: directory.file)
    var zip64 = try Zip64Field(directory.part(header.extraSize))
    size = try zip64.value(header.size)
    let storedSize = try zip64.value(header.storedSize)
    offset = try zip64.value(offset32)
    _ = try directory.skip(commentSize)
    guard storedSize == size, disk == 0 else {
      throw .malformed(file: directory.file, reason: "the entry \(name.excerpt) stores \(storedSize) bytes for \(size)")
    }
    self.name = name
  }

  /// Checks the local header of the entry against the directory.
  ///
  /// - Parameter end: The end of all entries.
  /// - Returns: The byte range of header and data, and that of the data alone.
  func locate(
    in archive: SharedBytes, before end: Int, file: String
  ) throws(CheckpointError) -> (extent: Range<Int>, data: Range<Int>) {
    guard offset < UInt64(end) else {
      throw .malformed(
        file: file, reason: "the entry \(name.excerpt) is at byte \(offset), expected before byte \(end)")
    }
    var reader = ByteReader(archive, Int(offset)..<end, file: file)
    try reader.signature(0x0403_4B50, of: "the header of \(name.excerpt)")
    let header = try ZipHeader(&reader)
    try header.checkPlain(name, file: file)
    guard try reader.bytes(header.nameSize) == nameBytes else {
      throw .malformed(file: file, reason: "the entry \(name.excerpt) has another name in its local header")
    }
    var zip64 = try Zip64Field(reader.part(header.extraSize))
    for size32 in [header.size, header.storedSize] {
      let found = try zip64.value(size32)
      guard found == size || header.isStreamed && found == 0 else {
        throw .malformed(
          file: file, reason: "the entry \(name.excerpt) has \(size) bytes, but \(found) in its local header")
      }
    }
    guard size <= UInt64(reader.rest.count) else {
      throw .malformed(
        file: file,
        reason:
          "the entry \(name.excerpt) has \(size) bytes at byte \(reader.rest.lowerBound), expected its end before byte \(end)"
      )
    }
    let data = try reader.skip(size)
    return (Int(offset)..<data.upperBound, data)
  }

  /// The name of a file inside the archive; nil for a path that could leave it.
  private static func name(_ bytes: [UInt8]) -> String? {
    guard let name = String(validating: bytes, as: UTF8.self), !bytes.contains(UInt8(ascii: "\\")), !bytes.contains(0)
    else { return nil }
    // Split bytes, not characters: a slash with a combining accent is a different character.
    let parts = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    return parts.contains { $0.isEmpty || $0.elementsEqual(".".utf8) || $0.elementsEqual("..".utf8) } ? nil : name
  }
}

/// The fields that the directory entry and the local header have in common.
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

  /// Whether the sizes follow the data; the local header may then contain zeros.
  var isStreamed: Bool { flags & 1 << 3 != 0 }

  /// Refuses entries that are not stored as plain bytes.
  func checkPlain(_ name: String, file: String) throws(CheckpointError) {
    guard flags & Self.refusedFlags == 0 else {
      throw .malformed(file: file, reason: "the entry \(name.excerpt) is encrypted or patched, expected plain bytes")
    }
    guard method == 0 else {
      throw .malformed(
        file: file,
        reason:
          "the entry \(name.excerpt) is compressed (method \(method)), expected stored bytes as torch.save writes them")
    }
  }
}

/// The 64-bit values of an entry, in sequence in the extra field with id 1.
struct Zip64Field {
  private var field: ByteReader

  /// Finds the field among the extra fields; empty if there is none.
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

  /// The 32-bit value, or the next 64-bit value if it is saturated.
  mutating func value(_ value32: UInt64) throws(CheckpointError) -> UInt64 {
    value32 == 0xFFFF_FFFF ? try field.integer(byteCount: 8) : value32
  }
}

/// A sequential reader of a range of a file that checks every length; numbers are little-endian.
struct ByteReader {
  let file: String
  private let bytes: SharedBytes
  /// The bytes not yet read.
  private(set) var rest: Range<Int>

  /// - Precondition: `range` is within the bytes.
  init(_ bytes: SharedBytes, _ range: Range<Int>, file: String) {
    precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count, "ByteReader: \(range) of \(bytes.count)")
    self.bytes = bytes
    self.file = file
    rest = range
  }

  /// The error for a file without `expected` at the current position.
  func error(_ expected: String) -> CheckpointError {
    .malformed(file: file, reason: "expected \(expected) at byte \(rest.lowerBound)")
  }

  /// Skips `count` bytes and returns their range.
  mutating func skip(_ count: some FixedWidthInteger) throws(CheckpointError) -> Range<Int> {
    guard let count = Int(exactly: count), count >= 0, count <= rest.count else {
      throw error("\(count) bytes, found \(rest.count),")
    }
    let skipped = rest.prefix(count)
    rest = rest.dropFirst(count)
    return skipped
  }

  /// Skips `count` bytes and returns a reader of them.
  mutating func part(_ count: some FixedWidthInteger) throws(CheckpointError) -> ByteReader {
    ByteReader(bytes, try skip(count), file: file)
  }

  mutating func bytes(_ count: some FixedWidthInteger) throws(CheckpointError) -> [UInt8] {
    bytes.copy(try skip(count))
  }

  mutating func byte() throws(CheckpointError) -> UInt8 { bytes[try skip(1).lowerBound] }

  /// Reads an unsigned number of up to eight bytes.
  mutating func integer(byteCount: Int) throws(CheckpointError) -> UInt64 {
    try skip(byteCount).reversed().reduce(0) { $0 << 8 | UInt64(bytes[$1]) }
  }

  /// Skips the four bytes of a record signature.
  mutating func signature(_ value: UInt64, of name: String) throws(CheckpointError) {
    var ahead = self
    guard ahead.rest.count >= 4, try ahead.integer(byteCount: 4) == value else { throw error(name) }
    self = ahead
  }
}
