import Foundation
import Storage

/// The output file of a batch, to which each answer is written completely and durably, or not at all.
final class AnswerFile {
  private let path: String
  /// The name of the file in messages.
  let name: String
  private let existing: Batch.ExistingOutput
  private var file: OpenFile

  /// Opens and locks the file, without modifying its contents.
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
  ///
  /// - Parameter run: The description of this run, with which the answers are compared.
  func begin(_ run: BatchRunDescription) throws(BatchError) -> PreviousAnswers? {
    let origin = AnswerOrigin(run)
    switch existing {
    case .refuse: return nil
    case .overwrite:
      if file.isRegular, path != "-" { try modify { file throws(SystemError) in try file.truncate(to: 0) } }
      return nil
    case .resume(let retriesFailures):
      let answers = try PreviousAnswers(of: path, comparedWith: origin)
      try modify { file throws(SystemError) in
        try file.truncate(to: answers.completeByteCount)
        if answers.lacksLineFeed { try file.append([UInt8(ascii: "\n")]) }
        try file.sync()
      }
      guard retriesFailures, answers.failureCount > 0 else { return answers }
      return try removeFailures(origin)
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
  private func removeFailures(_ origin: AnswerOrigin) throws(BatchError) -> PreviousAnswers {
    let copyPath = path + ".retry"
    var isReplaced = false
    defer { if !isReplaced { try? OpenFile.remove(copyPath) } }
    let copy: OpenFile
    do throws(SystemError) {
      // One that a killed run has left.
      try OpenFile.remove(copyPath)
      copy = try OpenFile(creating: copyPath, like: file)
    } catch {
      throw .output(copyPath, error)
    }
    guard copy.lock() else { throw .outputInUse(path: name) }
    let kept = try PreviousAnswers(of: path, comparedWith: origin, copyingAnswersTo: copy, at: copyPath)
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

/// The records that earlier runs have answered, in 17 bytes each.
///
/// A record that occurs several times in the input is answered several times, so each answer matches one occurrence.
struct AnsweredRecords {
  /// An answer of an earlier run, or an error record that was removed to answer its record again.
  struct Entry {
    /// The result of `hash` for the key of the record.
    var key: UInt64
    /// The hash of its question; `nil` if the answer has none.
    var question: UInt64?
    var isRemoved = false
  }

  /// The relation of a record to the answers of earlier runs.
  enum Match: Equatable {
    case answered
    case unanswered
    /// The answers to its key are to other questions.
    case otherQuestion(Set<UInt64>)
  }

  /// The entries by ascending keys, in three arrays to save memory; 0 is the question of an answer that has none.
  private var keys: [UInt64] = []
  private var questions: [UInt64] = []
  private var states: [State] = []

  private enum State: UInt8 { case answered, removed, matched }

  /// Number of answers.
  let count: Int

  init(_ entries: [Entry] = []) {
    count = entries.count { !$0.isRemoved }
    for entry in entries.sorted(by: { $0.key < $1.key }) {
      keys.append(entry.key)
      questions.append(entry.question ?? 0)
      states.append(entry.isRemoved ? .removed : .answered)
    }
  }

  /// The relation of a record to the unmatched answers; an answer to it is then matched.
  ///
  /// An error record that was removed leaves its record unanswered, whatever its question is now.
  mutating func match(_ record: BatchRecord) -> Match {
    guard !keys.isEmpty else { return .unanswered }
    let candidates = unmatched(Self.hash(record.key))
    let hashes = record.answerHashes
    let best =
      candidates.first { hashes.contains(questions[$0]) && states[$0] == .answered }
      ?? candidates.first { hashes.contains(questions[$0]) }
      ?? candidates.first { questions[$0] == 0 || hashes.isEmpty }
      ?? candidates.first { states[$0] == .removed }
    guard let best else {
      return candidates.isEmpty ? .unanswered : .otherQuestion(Set(candidates.map { questions[$0] }))
    }
    defer { states[best] = .matched }
    return states[best] == .answered ? .answered : .unanswered
  }

  /// Indices of the unmatched entries with a key.
  private func unmatched(_ key: UInt64) -> [Int] {
    var (low, high) = (0, keys.count)
    while low < high {
      let middle = (low + high) / 2
      if keys[middle] < key { low = middle + 1 } else { high = middle }
    }
    return (low..<keys.count).prefix { keys[$0] == key }.filter { states[$0] != .matched }
  }

  static func hash(_ key: RecordKey) -> UInt64 {
    var hasher = Hasher()
    hasher.combine(key)
    return UInt64(bitPattern: Int64(hasher.finalize()))
  }
}

/// The model and the policy of answers, as far as they contain them.
struct AnswerOrigin {
  private let model: String
  private let policy: JSONValue

  init(_ run: BatchRunDescription) {
    model = run.model
    policy = (try? JSONParser.parse([UInt8](JSONEncoder().encode(run.policy)))) ?? .null
  }

  /// The difference of an answer from this run, as text; `nil` for none.
  ///
  /// With a cost target, each record has its own schedule, so only method and target are compared.
  func difference(_ answer: JSONValue) -> String? {
    let body = answer["response"]["body"]
    let model = answer["model_id"].string ?? body["model"].string
    if let model, ByteString(model) != ByteString(self.model) {
      return "the model \(model.excerpt) instead of \(self.model.excerpt)"
    }
    let policy = answer["metadata"].isNull ? body["metadata"]["policy"] : answer["metadata"]["policy"]
    guard !policy.isNull else { return nil }
    let hasTarget = !policy["target"].isNull && !self.policy["target"].isNull
    let keys =
      ["method", "target"]
      + (hasTarget ? [] : (policy.members ?? []).map(\.key) + (self.policy.members ?? []).map(\.key))
    guard let key = keys.first(where: { !policy[$0].isEqual(self.policy[$0]) }) else { return nil }
    let found = policy["method"].string ?? "other"
    return key == "method"
      ? "the policy \(found.excerpt) instead of \((self.policy[key].string ?? "").excerpt)"
      : "the policy \(found.excerpt) with another value of \(key.excerpt)"
  }
}

extension JSONValue {
  fileprivate func isEqual(_ other: JSONValue) -> Bool {
    switch (self, other) {
    case (.null, .null): true
    case (.bool(let a), .bool(let b)): a == b
    case (.integer(let a), .integer(let b)): a == b
    case (.number(let a), .number(let b)): a == b
    case (.string(let a), .string(let b)): ByteString(a) == ByteString(b)
    case (.array(let a), .array(let b)): a.elementsEqual(b) { $0.isEqual($1) }
    default: false
    }
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
  /// Number of answers of another model or policy, and the difference of the first.
  private(set) var otherOrigin: (count: Int, first: String)?

  /// Reads a file, in memory for one line and 17 bytes per answer.
  ///
  /// - Throws: `BatchError` for lines that are not answers, except a partial last line.
  init(of path: String, comparedWith origin: AnswerOrigin) throws(BatchError) {
    try self.init(of: path, origin) { _, _ in true }
  }

  /// Reads a file and copies all lines without an error; those with an error are removed.
  init(
    of path: String, comparedWith origin: AnswerOrigin, copyingAnswersTo copy: OpenFile, at copyPath: String
  ) throws(BatchError) {
    try self.init(of: path, origin) { line, isFailure throws(BatchError) in
      guard !isFailure else { return false }
      do throws(SystemError) { try copy.append(line.bytes + [UInt8(ascii: "\n")]) } catch {
        throw .output(copyPath, error)
      }
      return true
    }
  }

  /// - Parameter isKept: Whether a line is kept, by the line and whether it is an error.
  private init(
    of path: String, _ origin: AnswerOrigin, isKept: (Line, _ isFailure: Bool) throws(BatchError) -> Bool
  ) throws(BatchError) {
    var entries: [AnsweredRecords.Entry] = []
    var lines: LineReader
    do { lines = LineReader(try OpenFile(reading: path), lengthLimit: .max) } catch {
      throw .unreadable(path: path, reason: "\(error)")
    }
    while let line = try Self.nextLine(&lines, of: path) {
      guard let value = try? JSONParser.parse(line.bytes), let answer = Self.answer(value) else {
        if Self.isPartial(line) { break }
        throw .notAnAnswer(path: path, line: line.number)
      }
      completeByteCount = line.offset + line.byteCount + (line.isComplete ? 1 : 0)
      lacksLineFeed = !line.isComplete
      let isKept = try isKept(line, answer.isFailure)
      entries.append(
        AnsweredRecords.Entry(
          key: AnsweredRecords.hash(answer.key), question: Self.questionHash(value), isRemoved: !isKept))
      guard isKept else { continue }
      if answer.isFailure { failureCount += 1 }
      if let difference = origin.difference(value) {
        otherOrigin = ((otherOrigin?.count ?? 0) + 1, otherOrigin?.first ?? difference)
      }
    }
    answered = AnsweredRecords(entries)
  }

  /// The hash of the question that a line of output answers, with its images if it tells them; `nil` if it does not
  /// contain the question.
  private static func questionHash(_ answer: JSONValue) -> UInt64? {
    let metadata = answer["metadata"].isNull ? answer["response"]["body"]["metadata"] : answer["metadata"]
    func hash(_ key: String) -> UInt64? { metadata[key].string.flatMap { UInt64($0, radix: 16) } }
    guard let texts = answer["prompt"].string.map({ QuestionHash($0).value }) ?? hash("prompt_hash") else { return nil }
    return hash("image_hash").map { QuestionHash.combined(texts, images: $0) } ?? texts
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
  private static func answer(_ value: JSONValue) -> (key: RecordKey, isFailure: Bool)? {
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

  /// Whether a line is the beginning of an answer, with zeros in place of parts after a system crash.
  ///
  /// Answers have no control characters; a file that has others, such as a compressed one, is not ours.
  private static func isPartial(_ line: Line) -> Bool {
    guard !line.isComplete, (try? JSONParser.parse(line.bytes)) == nil else { return false }
    return [0, UInt8(ascii: "{")].contains(line.bytes.first ?? 0) && line.bytes.allSatisfy { $0 == 0 || $0 >= 0x20 }
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
