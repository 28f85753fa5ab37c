internal import Kernels

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
