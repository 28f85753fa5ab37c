internal import Kernels
internal import ModelFormats

/// The records that an earlier run has answered, nine bytes for each.
///
/// A record that stands in the input more than once is answered as often; so an answer stands for one of them.
struct AnsweredRecords {
  /// Ascending; of the keys only hashes are kept, seeded anew in every process.
  private var hashes: [UInt64] = []
  private var isTaken: [Bool] = []

  /// - Parameter hashes: What `hash` makes of the answers' keys.
  init(hashes: [UInt64] = []) {
    self.hashes = hashes.sorted()
    isTaken = Array(repeating: false, count: hashes.count)
  }

  var count: Int { hashes.count }

  /// Whether there is an answer to a record that stands for no other record yet; from now on it stands for this one.
  mutating func take(_ key: RecordKey) -> Bool {
    guard !hashes.isEmpty else { return false }
    let hash = Self.hash(key)
    var (low, high) = (0, hashes.count)
    while low < high {
      let middle = (low + high) / 2
      if hashes[middle] < hash { low = middle + 1 } else { high = middle }
    }
    while low < hashes.count, hashes[low] == hash {
      guard isTaken[low] else {
        isTaken[low] = true
        return true
      }
      low += 1
    }
    return false
  }

  static func hash(_ key: RecordKey) -> UInt64 {
    var hasher = Hasher()
    hasher.combine(key)
    return UInt64(bitPattern: Int64(hasher.finalize()))
  }
}

/// What an output file holds of earlier runs.
struct EarlierAnswers {
  private(set) var answered: AnsweredRecords
  private(set) var failureCount = 0
  /// The bytes of all lines that are whole; what is behind was torn off when a run was killed.
  private(set) var wholeByteCount = 0
  /// Whether the last answer is whole but for its line feed.
  private(set) var lacksLineFeed = false

  /// Reads a file in memory for one line, and nine bytes for each answer.
  ///
  /// - Throws: `BatchError` for lines that are no answers, but for a last one that is torn off.
  init(of path: String) throws(BatchError) { try self.init(of: path) { _, _ in true } }

  /// Copies all lines but those with an error, which count as if they were not there.
  init(of path: String, copyingAnswersTo copy: OpenFile, at copyPath: String) throws(BatchError) {
    try self.init(of: path) { line, isFailure throws(BatchError) in
      guard !isFailure else { return false }
      do throws(SystemError) { try copy.append(line.bytes + [UInt8(ascii: "\n")]) } catch {
        throw .output(copyPath, error)
      }
      return true
    }
  }

  /// - Parameter isKept: Whether a line counts, which it is given with whether it says an error.
  private init(
    of path: String, isKept: (Line, _ isFailure: Bool) throws(BatchError) -> Bool
  ) throws(BatchError) {
    var hashes: [UInt64] = []
    var lines: LineReader
    do { lines = LineReader(try OpenFile(reading: path), lengthLimit: .max) } catch {
      throw .unreadable(path: path, reason: "\(error)")
    }
    while let line = try Self.nextLine(&lines, of: path) {
      guard let answer = Self.answer(line) else {
        if Self.isTorn(line) { break }
        throw .notAnAnswer(path: path, line: line.number)
      }
      wholeByteCount = line.offset + line.byteCount + (line.isComplete ? 1 : 0)
      lacksLineFeed = !line.isComplete
      guard try isKept(line, answer.isFailure) else { continue }
      if answer.isFailure { failureCount += 1 }
      hashes.append(AnsweredRecords.hash(answer.key))
    }
    answered = AnsweredRecords(hashes: hashes)
  }

  private static func nextLine(_ lines: inout LineReader, of path: String) throws(BatchError) -> Line? {
    do {
      guard case .value(let line) = try lines.next() else { return nil }
      return line
    } catch {
      throw .unreadable(path: path, reason: "\(error)")
    }
  }

  /// Which record a line of output answers, and whether with an error; `nil` for what is no such line.
  private static func answer(_ line: Line) -> (key: RecordKey, isFailure: Bool)? {
    guard let value = try? JSONParser.parse(line.bytes) else { return nil }
    let isFailure = !value["error"].isNull
    if let number = value["answer_id"].string.flatMap({ Int($0) }) {
      return (RecordKey(identifier(value["question_id"]), number: number), isFailure)
    }
    if !value["response"].isNull, let id = value["id"].string.flatMap(CompletionID.init) {
      return (RecordKey(identifier(value["custom_id"]), number: id.number), isFailure)
    }
    return nil
  }

  private static func identifier(_ value: JSONValue) -> RecordIdentifier? {
    switch value {
    case .integer(let number): .number(number)
    case .string(let text): .text(text)
    default: nil
    }
  }

  /// Whether a line is the beginning of one that could not be finished, or of zeros that a crash of the system left.
  private static func isTorn(_ line: Line) -> Bool {
    guard !line.isComplete, (try? JSONParser.parse(line.bytes)) == nil else { return false }
    return line.bytes.starts(with: [UInt8(ascii: "{")]) || line.bytes.contains(0)
  }
}
