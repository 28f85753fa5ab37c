import Storage

/// The entries of a ZIP archive that only stores: where the bytes of each lie in the file.
///
/// Nothing is unpacked. Whatever torch.save does not write is refused: compression, encryption, names that leave the folder,
/// entries that overlap, a directory and headers that disagree. The checksums are not looked at, since that would read all
/// weights, and PyTorch can be told to leave them out.
///
/// Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7, 4.3.12 and 4.5.3.
struct ZipArchive {
  private var entries: [String: Range<Int>] = [:]
  /// The folder of the first entry, in which PyTorch looks for everything.
  let folder: String

  init(_ bytes: SharedBytes, file: String) throws(CheckpointError) {
    let directory = try ZipDirectory(bytes, file: file)
    var reader = ByteReader(bytes, directory.range, file: file)
    var extents: [(name: String, bytes: Range<Int>)] = []
    for _ in 0..<directory.entryCount {
      let entry = try ZipEntry(&reader)
      let (extent, data) = try entry.locate(in: bytes, before: directory.range.lowerBound, file: file)
      guard entries.updateValue(data, forKey: entry.name) == nil else {
        throw .malformed(file: file, reason: "the entry '\(entry.name)' occurs twice")
      }
      extents.append((entry.name, extent))
    }
    guard reader.rest.isEmpty else { throw reader.fault("the end of the directory") }
    folder = extents.first.map { String($0.name.prefix { $0 != "/" }) } ?? ""
    var end = 0
    for extent in extents.sorted(by: { $0.bytes.lowerBound < $1.bytes.lowerBound }) {
      guard extent.bytes.lowerBound >= end else {
        throw .malformed(file: file, reason: "the entry '\(extent.name)' overlaps another")
      }
      end = extent.bytes.upperBound
    }
  }

  /// Where an entry's data lie, by its name in the folder.
  subscript(name: String) -> Range<Int>? { entries[folder + "/" + name] }
}

/// Where the central directory of a ZIP archive lies, as the records at the end of the file say.
///
/// Archives that pass 4 GiB have these records twice: narrow ones, whose numbers may be saturated, and ZIP64's wide ones.
/// Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16.
struct ZipDirectory {
  let range: Range<Int>
  let entryCount: Int

  /// Far more entries than any checkpoint has tensors.
  private static let entryLimit = 1 << 16
  private static let endSize = 22
  private static let locatorSize = 20
  private static let commentLimit = 0xFFFF

  /// Bytes of the numbers of an end record: disk, first disk, entries on the disk, entries, directory size, offset.
  private static let narrow = [2, 2, 2, 2, 4, 4]
  private static let wide = [4, 4, 8, 8, 8, 8]

  init(_ bytes: SharedBytes, file: String) throws(CheckpointError) {
    var end = try Self.findEnd(bytes, file: file)
    var record = ByteReader(bytes, end + 4..<bytes.count, file: file)
    var numbers = try Self.numbers(&record, Self.narrow)
    if let wide = try Self.wideRecord(bytes, before: end, file: file) {
      for i in numbers.indices where numbers[i] != wide.numbers[i] {
        guard numbers[i] == 1 << (8 * UInt64(Self.narrow[i])) - 1 else {
          throw .malformed(
            file: file, reason: "the ZIP64 record says \(wide.numbers[i]) where the end record says \(numbers[i])")
        }
      }
      (end, numbers) = wide
    }
    let (entries, size, offset) = (numbers[3], numbers[4], numbers[5])
    guard numbers[0] == 0, numbers[1] == 0, numbers[2] == entries else {
      throw .malformed(file: file, reason: "an archive in several parts, expected one file")
    }
    guard entries <= UInt64(Self.entryLimit) else {
      throw .malformed(file: file, reason: "an archive of \(entries) entries, expected at most \(Self.entryLimit)")
    }
    guard size <= UInt64(end), offset == UInt64(end) - size else {
      throw .malformed(
        file: file, reason: "a directory of \(size) bytes at byte \(offset), expected it to end at byte \(end)")
    }
    range = Int(offset)..<end
    entryCount = Int(entries)
  }

  private static func numbers(_ reader: inout ByteReader, _ byteCounts: [Int]) throws(CheckpointError) -> [UInt64] {
    var numbers: [UInt64] = []
    for count in byteCounts { numbers.append(try reader.integer(byteCount: count)) }
    return numbers
  }

  /// Where the end record lies: the last place whose comment fills the rest of the file.
  private static func findEnd(_ bytes: SharedBytes, file: String) throws(CheckpointError) -> Int {
    let tail = bytes.copy(max(0, bytes.count - endSize - commentLimit)..<bytes.count)
    for i in stride(from: tail.count - endSize, through: 0, by: -1)
    where tail[i] == 0x50 && tail[i...].starts(with: [0x50, 0x4B, 5, 6]) {
      let comment = Int(tail[i + 20]) | Int(tail[i + 21]) << 8
      if i + endSize + comment == tail.count { return bytes.count - tail.count + i }
    }
    throw .malformed(
      file: file,
      reason: "no ZIP directory at the end; truncated, or no file that torch.save of PyTorch 1.6 or later wrote")
  }

  /// Where the ZIP64 record lies and its numbers, if there is a locator right before the end record.
  private static func wideRecord(
    _ bytes: SharedBytes, before end: Int, file: String
  ) throws(CheckpointError) -> (start: Int, numbers: [UInt64])? {
    guard end >= locatorSize else { return nil }
    let locatorStart = end - locatorSize
    var locator = ByteReader(bytes, locatorStart..<end, file: file)
    guard try locator.integer(byteCount: 4) == 0x0706_4B50 else { return nil }
    _ = try locator.skip(4)
    let start = try locator.integer(byteCount: 8)
    guard start < UInt64(locatorStart) else {
      throw .malformed(file: file, reason: "a ZIP64 record at byte \(start), expected it before byte \(locatorStart)")
    }
    var record = ByteReader(bytes, Int(start)..<locatorStart, file: file)
    try record.signature(0x0606_4B50, of: "a ZIP64 record")
    guard try record.integer(byteCount: 8) == UInt64(record.rest.count) else {
      throw record.fault("a ZIP64 record up to its locator")
    }
    // The versions of the writer and of the reader it needs.
    _ = try record.skip(4)
    return (Int(start), try numbers(&record, wide))
  }
}

/// An entry as a ZIP archive's directory lists it.
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
    let narrowOffset = try directory.integer(byteCount: 4)
    nameBytes = try directory.bytes(header.nameSize)
    guard let name = Self.name(nameBytes) else {
      throw .malformed(
        file: directory.file,
        reason: "an entry is called '\(String(decoding: nameBytes, as: UTF8.self))', expected a path inside the archive"
      )
    }
    try header.checkPlain(name, file: directory.file)
    var wide = try Zip64Numbers(directory.part(header.extraSize))
    size = try wide.widen(header.size)
    let storedSize = try wide.widen(header.storedSize)
    offset = try wide.widen(narrowOffset)
    _ = try directory.skip(commentSize)
    guard storedSize == size, disk == 0 else {
      throw .malformed(file: directory.file, reason: "the entry '\(name)' stores \(storedSize) bytes for \(size)")
    }
    self.name = name
  }

  /// Checks the entry's own header against the directory.
  ///
  /// - Parameter end: Where all entries end.
  /// - Returns: The bytes of header and data, and those of the data alone.
  func locate(
    in archive: SharedBytes, before end: Int, file: String
  ) throws(CheckpointError) -> (extent: Range<Int>, data: Range<Int>) {
    guard offset < UInt64(end) else {
      throw .malformed(file: file, reason: "the entry '\(name)' lies at byte \(offset), expected it before byte \(end)")
    }
    var reader = ByteReader(archive, Int(offset)..<end, file: file)
    try reader.signature(0x0403_4B50, of: "the header of '\(name)'")
    let header = try ZipHeader(&reader)
    try header.checkPlain(name, file: file)
    guard try reader.bytes(header.nameSize) == nameBytes else {
      throw .malformed(file: file, reason: "the entry '\(name)' has another name in its own header")
    }
    var wide = try Zip64Numbers(reader.part(header.extraSize))
    for narrow in [header.size, header.storedSize] {
      let found = try wide.widen(narrow)
      guard found == size || header.isStreamed && found == 0 else {
        throw .malformed(file: file, reason: "the entry '\(name)' has \(size) bytes, but \(found) by its own header")
      }
    }
    guard size <= UInt64(reader.rest.count) else {
      throw .malformed(
        file: file,
        reason:
          "the entry '\(name)' has \(size) bytes at byte \(reader.rest.lowerBound), expected it to end before byte \(end)"
      )
    }
    let data = try reader.skip(size)
    return (Int(offset)..<data.upperBound, data)
  }

  /// The name, if it is that of a file inside the archive's folder.
  private static func name(_ bytes: [UInt8]) -> String? {
    guard let name = String(validating: bytes, as: UTF8.self), !bytes.contains(UInt8(ascii: "\\")), !bytes.contains(0)
    else { return nil }
    // Bytes, not characters: a slash with a combining accent is another character.
    let parts = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    return parts.contains { $0.isEmpty || $0.elementsEqual(".".utf8) || $0.elementsEqual("..".utf8) } ? nil : name
  }
}

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

/// Walks a range of a file's bytes, checking every length; numbers have their low byte first.
struct ByteReader {
  let file: String
  private let bytes: SharedBytes
  /// The bytes not yet read.
  private(set) var rest: Range<Int>

  /// - Precondition: `range` lies within the bytes.
  init(_ bytes: SharedBytes, _ range: Range<Int>, file: String) {
    precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count, "ByteReader: \(range) of \(bytes.count)")
    self.bytes = bytes
    self.file = file
    rest = range
  }

  /// The error of a file that holds something else than `expected` where the reader stands.
  func fault(_ expected: String) -> CheckpointError {
    .malformed(file: file, reason: "expected \(expected) at byte \(rest.lowerBound)")
  }

  /// Moves past `count` bytes and returns where they lie.
  mutating func skip(_ count: some FixedWidthInteger) throws(CheckpointError) -> Range<Int> {
    guard let count = Int(exactly: count), count >= 0, count <= rest.count else {
      throw fault("\(count) bytes, found \(rest.count),")
    }
    let taken = rest.prefix(count)
    rest = rest.dropFirst(count)
    return taken
  }

  /// Moves past `count` bytes and returns a reader of them.
  mutating func part(_ count: some FixedWidthInteger) throws(CheckpointError) -> ByteReader {
    ByteReader(bytes, try skip(count), file: file)
  }

  mutating func bytes(_ count: some FixedWidthInteger) throws(CheckpointError) -> [UInt8] {
    bytes.copy(try skip(count))
  }

  mutating func byte() throws(CheckpointError) -> UInt8 { bytes[try skip(1).lowerBound] }

  /// An unsigned number of up to eight bytes.
  mutating func integer(byteCount: Int) throws(CheckpointError) -> UInt64 {
    try skip(byteCount).reversed().reduce(0) { $0 << 8 | UInt64(bytes[$1]) }
  }

  /// Moves past four bytes that mark the kind of a record.
  mutating func signature(_ value: UInt64, of name: String) throws(CheckpointError) {
    var ahead = self
    guard ahead.rest.count >= 4, try ahead.integer(byteCount: 4) == value else { throw fault(name) }
    self = ahead
  }
}
