internal import Kernels

/// The records of a file or pipe with a JSON object on each line; blank lines are none.
struct QuestionLines: RecordSource {
  private let name: String
  private let parser: RecordParser
  private let members: BatchShard.Members
  private var lines: LineReader
  /// Of lines that do not tell theirs.
  private var family: RecordFamily?
  private var ordinal = 0
  private let byteCount: Int?
  private var bytesRead = 0

  /// - Parameters:
  ///   - path: The file, which is opened again to find its first line that tells its family, and to count its lines where the
  ///     shard asks for that.
  ///   - firstLine: The number of its first line, for a piece of a longer file.
  ///   - isStopped: Whether waiting for a line is to end.
  init(
    _ file: OpenFile, path: String, firstLine: Int, parser: RecordParser, shard: BatchShard,
    isStopped: @escaping () -> Bool
  ) throws(BatchError) {
    name = path == "-" ? "standard input" : path
    self.parser = parser
    members = try shard.members { () throws(BatchError) in
      guard path != "-", file.isRegular else {
        throw .unreadable(path: path, reason: "its lines are counted before any is answered, which takes a file")
      }
      return try Self.recordCount(path)
    }
    lines = LineReader(file, firstNumber: firstLine, isStopped: isStopped)
    byteCount = file.isRegular ? file.size : nil
    if path != "-", file.isRegular { family = try Self.firstFamily(path) }
  }

  var share: Double? { byteCount.map { $0 == 0 ? 1 : min(1, Double(bytesRead) / Double($0)) } }

  mutating func next(waits: Bool) throws(BatchError) -> Taken<ReadRecord> {
    while true {
      let line: Line
      switch try nextLine(waits: waits) {
      case .value(let next): line = next
      case .notYet: return .notYet
      case .end: return .end
      }
      bytesRead = line.offset + line.byteCount + 1
      if line.isBlank { continue }
      ordinal += 1
      let isOurs = members.contains(ordinal)
      // Only until the family is known need the other shards' lines be understood.
      if !isOurs, family != nil { continue }
      let record = parser.record(line, orElse: family ?? .llava)
      if family == nil { family = RecordParser.family(of: line) }
      if isOurs { return .value(record) }
    }
  }

  private mutating func nextLine(waits: Bool) throws(BatchError) -> Taken<Line> {
    do { return try lines.next(waits: waits) } catch { throw .unreadable(path: name, reason: "\(error)") }
  }

  private static func firstFamily(_ path: String) throws(BatchError) -> RecordFamily? {
    try reading(path) { lines throws(SystemError) in
      while case .value(let line) = try lines.next() {
        if let family = RecordParser.family(of: line) { return family }
      }
      return nil
    }
  }

  private static func recordCount(_ path: String) throws(BatchError) -> Int {
    try reading(path) { lines throws(SystemError) in
      var count = 0
      while case .value(let line) = try lines.next() {
        if !line.isBlank { count += 1 }
      }
      return count
    }
  }

  /// What there is to be found in the lines of a file before it is read line by line.
  private static func reading<Value>(
    _ path: String, _ body: (inout LineReader) throws(SystemError) -> Value
  ) throws(BatchError) -> Value {
    do throws(SystemError) {
      var lines = LineReader(try OpenFile(reading: path))
      return try body(&lines)
    } catch {
      throw .unreadable(path: path, reason: "\(error)")
    }
  }
}
