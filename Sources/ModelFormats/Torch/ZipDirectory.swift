internal import Kernels

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
