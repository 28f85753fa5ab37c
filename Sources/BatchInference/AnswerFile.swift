import Foundation
import Storage

/// Where a batch's answers go: each is there whole and on the disk, or not at all.
final class AnswerFile {
  private let path: String
  private let name: String
  private let earlier: Batch.ExistingOutput
  private var file: OpenFile

  /// Opens the file, without a change to what is in it, and keeps other runs from it.
  ///
  /// - Parameters:
  ///   - path: `-` for standard output.
  ///   - input: The file of the questions, which is never written to.
  init(path: String, earlier: Batch.ExistingOutput, input: OpenFile?) throws(BatchError) {
    self.earlier = earlier
    guard path != "-" else {
      (self.path, name, file) = (path, "standard output", .standardOutput)
      return
    }
    // A link stays one when the file it leads to is replaced.
    self.path = URL(filePath: path).resolvingSymlinksInPath().path(percentEncoded: false)
    name = path
    let isThere = FileManager.default.fileExists(atPath: path)
    do { file = try OpenFile(appendingTo: self.path) } catch { throw .output(path, error) }
    if !isThere { Self.syncFolder(of: self.path) }
    guard file.isRegular else {
      if case .resume = earlier { throw .outputNotAFile(path: path) }
      return
    }
    guard file.identity != input?.identity else { throw .outputIsInput(path: path) }
    guard file.lock() else { throw .outputInUse(path: path) }
    guard earlier != .refuse || file.size == 0 else { throw .outputNotEmpty(path: path, byteCount: file.size) }
  }

  /// Brings the file into the state in which the next answer is to be appended.
  ///
  /// - Returns: What has been answered before.
  func begin() throws(BatchError) -> PreviousAnswers? {
    switch earlier {
    case .refuse: return nil
    case .overwrite:
      if file.isRegular, path != "-" { try changing { file throws(SystemError) in try file.truncate(to: 0) } }
      return nil
    case .resume(let retriesFailures):
      let answers = try PreviousAnswers(of: path)
      try changing { file throws(SystemError) in
        try file.truncate(to: answers.wholeByteCount)
        if answers.lacksLineFeed { try file.append([UInt8(ascii: "\n")]) }
        try file.sync()
      }
      guard retriesFailures, answers.failureCount > 0 else { return answers }
      return try removeFailures()
    }
  }

  /// Appends lines; when this returns they are on the disk.
  func append(_ lines: [UInt8]) throws(BatchError) {
    try changing { file throws(SystemError) in
      try file.append(lines)
      try file.sync()
    }
  }

  /// Replaces the file by one without error records, at once and as a whole.
  private func removeFailures() throws(BatchError) -> PreviousAnswers {
    let copyPath = path + ".retry"
    try? FileManager.default.removeItem(atPath: copyPath)
    var isReplaced = false
    defer { if !isReplaced { try? FileManager.default.removeItem(atPath: copyPath) } }
    let copy: OpenFile
    do { copy = try OpenFile(appendingTo: copyPath) } catch { throw .output(copyPath, error) }
    guard copy.lock() else { throw .outputInUse(path: name) }
    let kept = try PreviousAnswers(of: path, copyingAnswersTo: copy, at: copyPath)
    do throws(SystemError) {
      try copy.sync()
      try OpenFile.rename(copyPath, to: path)
    } catch {
      throw .output(copyPath, error)
    }
    isReplaced = true
    Self.syncFolder(of: path)
    file = copy
    return kept
  }

  private func changing(_ change: (OpenFile) throws(SystemError) -> Void) throws(BatchError) {
    do { try change(file) } catch { throw .output(name, error, isResumable: path != "-" && file.isRegular) }
  }

  /// A new name is on the disk only when its folder is.
  private static func syncFolder(of path: String) {
    let folder = URL(filePath: path).deletingLastPathComponent().path(percentEncoded: false)
    try? OpenFile(reading: folder).sync()
  }
}

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
struct PreviousAnswers {
  private(set) var answered: AnsweredRecords
  private(set) var failureCount = 0
  /// The bytes of all lines that are whole; what is after was torn off when a run was killed.
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
      guard case .ready(let line) = try lines.next() else { return nil }
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
  func hasCapacity(for index: Int) -> Bool { index < next + Self.window }

  /// Takes the line of a record.
  ///
  /// - Precondition: It is the record's first, and there was room for it.
  mutating func put(_ line: [UInt8], at index: Int) {
    precondition(index >= next && hasCapacity(for: index) && waiting[index] == nil, "record \(index), next is \(next)")
    waiting[index] = line
  }

  /// Writes every line that no line is missing before, all of them with one sync.
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
