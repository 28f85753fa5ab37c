import Foundation
import Storage

/// The output file of a batch, to which each answer is written completely and durably, or not at all.
final class AnswerFile {
  private let path: String
  private let name: String
  private let existing: Batch.ExistingOutput
  private var file: OpenFile

  /// Opens and locks the file, without modify its contents.
  ///
  /// - Parameters:
  ///   - path: Path of the file; `-` for standard output.
  ///   - existing: The treatment of existing answers.
  ///   - input: The file of the questions, which is never written to.
  init(path: String, existing: Batch.ExistingOutput, input: OpenFile?) throws(BatchError) {
    self.existing = existing
    guard path != "-" else {
      (self.path, name, file) = (path, "standard output", .standardOutput)
      return
    }
    // The link is resolved, so that it remains a link when its target is replaced.
    self.path = URL(filePath: path).resolvingSymlinksInPath().path(percentEncoded: false)
    name = path
    let exists = FileManager.default.fileExists(atPath: path)
    do { file = try OpenFile(appendingTo: self.path) } catch { throw .output(path, error) }
    if !exists { Self.syncFolder(of: self.path) }
    guard file.isRegular else {
      if case .resume = existing { throw .outputNotAFile(path: path) }
      return
    }
    guard file.identity != input?.identity else { throw .outputIsInput(path: path) }
    guard file.lock() else { throw .outputInUse(path: path) }
    guard existing != .refuse || file.size == 0 else { throw .outputNotEmpty(path: path, byteCount: file.size) }
  }

  /// Prepares the file for appending the first answer.
  ///
  /// - Returns: The answers of earlier runs if the run is resumed.
  func begin() throws(BatchError) -> PreviousAnswers? {
    switch existing {
    case .refuse: return nil
    case .overwrite:
      if file.isRegular, path != "-" { try modify { file throws(SystemError) in try file.truncate(to: 0) } }
      return nil
    case .resume(let retriesFailures):
      let answers = try PreviousAnswers(of: path)
      try modify { file throws(SystemError) in
        try file.truncate(to: answers.completeByteCount)
        if answers.lacksLineFeed { try file.append([UInt8(ascii: "\n")]) }
        try file.sync()
      }
      guard retriesFailures, answers.failureCount > 0 else { return answers }
      return try removeFailures()
    }
  }

  /// Appends lines and syncs them to the disk.
  func append(_ lines: [UInt8]) throws(BatchError) {
    try modify { file throws(SystemError) in
      try file.append(lines)
      try file.sync()
    }
  }

  /// Replaces the file atomically by one without error records.
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

  private func modify(_ change: (OpenFile) throws(SystemError) -> Void) throws(BatchError) {
    do { try change(file) } catch { throw .output(name, error, isResumable: path != "-" && file.isRegular) }
  }

  /// Syncs the folder of a file, which makes a new name durable.
  private static func syncFolder(of path: String) {
    let folder = URL(filePath: path).deletingLastPathComponent().path(percentEncoded: false)
    try? OpenFile(reading: folder).sync()
  }
}

/// The records that earlier runs have answered, in nine bytes each.
///
/// A record that occurs several times in the input is answered several times, so each answer matches one occurrence.
struct AnsweredRecords {
  /// Hashes of the keys, ascending, with a seed per process.
  private var hashes: [UInt64] = []
  private var isMatched: [Bool] = []

  /// - Parameter hashes: The results of `hash` for the keys of the answers.
  init(hashes: [UInt64] = []) {
    self.hashes = hashes.sorted()
    isMatched = Array(repeating: false, count: hashes.count)
  }

  var count: Int { hashes.count }

  /// Whether an unmatched answer to the record exists, which is then matched with it.
  mutating func match(_ key: RecordKey) -> Bool {
    guard !hashes.isEmpty else { return false }
    let hash = Self.hash(key)
    var (low, high) = (0, hashes.count)
    while low < high {
      let middle = (low + high) / 2
      if hashes[middle] < hash { low = middle + 1 } else { high = middle }
    }
    while low < hashes.count, hashes[low] == hash {
      guard isMatched[low] else {
        isMatched[low] = true
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

/// The answers of earlier runs in an output file.
struct PreviousAnswers {
  private(set) var answered: AnsweredRecords
  /// Number of answers with an error.
  private(set) var failureCount = 0
  /// Bytes of all complete lines; a partial line after them is left by a killed run.
  private(set) var completeByteCount = 0
  /// Whether the last answer is complete except for its line feed.
  private(set) var lacksLineFeed = false

  /// Reads a file, in memory for one line and nine bytes per answer.
  ///
  /// - Throws: `BatchError` for lines that are not answers, except a partial last line.
  init(of path: String) throws(BatchError) { try self.init(of: path) { _, _ in true } }

  /// Reads a file and copies all lines without an error; those with an error are ignored.
  init(of path: String, copyingAnswersTo copy: OpenFile, at copyPath: String) throws(BatchError) {
    try self.init(of: path) { line, isFailure throws(BatchError) in
      guard !isFailure else { return false }
      do throws(SystemError) { try copy.append(line.bytes + [UInt8(ascii: "\n")]) } catch {
        throw .output(copyPath, error)
      }
      return true
    }
  }

  /// - Parameter isKept: Whether a line is used, by the line and whether it is an error.
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
        if Self.isPartial(line) { break }
        throw .notAnAnswer(path: path, line: line.number)
      }
      completeByteCount = line.offset + line.byteCount + (line.isComplete ? 1 : 0)
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

  /// The record that a line of output answers, and whether it is an error; `nil` for any other line.
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

  /// Whether a line is the beginning of an answer, or of zeros after a system crash.
  private static func isPartial(_ line: Line) -> Bool {
    guard !line.isComplete, (try? JSONParser.parse(line.bytes)) == nil else { return false }
    return line.bytes.starts(with: [UInt8(ascii: "{")]) || line.bytes.contains(0)
  }
}

/// A reorder buffer that writes answers in the order of their records.
struct RecordWriter {
  /// Maximum distance of a record from the first unfinished one.
  static let window = 1024

  private let file: AnswerFile
  private var pending: [Int: [UInt8]] = [:]
  /// Index of the first record that is not written.
  private(set) var next = 0

  init(_ file: AnswerFile) { self.file = file }

  /// Whether a record may be started.
  func hasCapacity(for index: Int) -> Bool { index < next + Self.window }

  /// Adds the line of a record.
  ///
  /// - Precondition: The record has no line yet, and `hasCapacity` is true for it.
  mutating func put(_ line: [UInt8], at index: Int) {
    precondition(index >= next && hasCapacity(for: index) && pending[index] == nil, "record \(index), next is \(next)")
    pending[index] = line
  }

  /// Writes all lines up to the first missing one, with one sync.
  ///
  /// - Returns: Number of lines written.
  mutating func commit() throws(BatchError) -> Int {
    var (lines, count): ([UInt8], Int) = ([], 0)
    while let line = pending.removeValue(forKey: next + count) {
      lines += line
      count += 1
    }
    guard count > 0 else { return 0 }
    try file.append(lines)
    next += count
    return count
  }
}
