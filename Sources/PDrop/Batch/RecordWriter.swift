/// Puts lines into the order of their records and writes those whose turn has come.
struct RecordWriter {
  /// How far a record may be ahead of the first that is not finished.
  static let window = 1024

  private let file: AnswerFile
  private var waiting: [Int: [UInt8]] = [:]
  /// The first record whose line has not come.
  private(set) var next = 0

  init(_ file: AnswerFile) { self.file = file }

  /// Whether a record may be begun.
  func hasRoom(for index: Int) -> Bool { index < next + Self.window }

  /// Takes the line of a record.
  ///
  /// - Precondition: It is the record's first, and there was room for it.
  mutating func put(_ line: [UInt8], at index: Int) {
    precondition(index >= next && hasRoom(for: index) && waiting[index] == nil, "record \(index), next is \(next)")
    waiting[index] = line
  }

  /// Writes every line that no line is missing in front of, all of them with one sync.
  ///
  /// - Returns: How many records' lines are on the disk since the last time.
  mutating func commit() throws(BatchError) -> Int {
    var (lines, count): ([UInt8], Int) = ([], 0)
    while let line = waiting.removeValue(forKey: next + count) {
      lines += line
      count += 1
    }
    guard count > 0 else { return 0 }
    try file.append(lines)
    next += count
    return count
  }
}
