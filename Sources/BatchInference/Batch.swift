public import PDrop
public import Storage

/// A batch of records and the file of their answers.
package struct Batch {
  /// The source of the records.
  package enum Input: Sendable {
    /// A file with a JSON object on each line, `-` for standard input; `folder` is that of relative image paths.
    case lines(path: String, folder: String?)
    /// All images of a folder, with the same question.
    case images(folder: String, question: String)
  }

  /// The treatment of answers in an existing output file.
  package enum ExistingOutput: Sendable, Equatable {
    /// Refuse to run.
    case refuse
    /// Remove them.
    case overwrite
    /// Append to them; answers with an error are kept, or retried.
    case resume(retriesFailures: Bool)
  }

  package struct Options: Sendable {
    package var input: Input
    /// The number of the input's first line, for a part of a longer file.
    package var firstLine = 1
    /// Path of the output; `-` for standard output.
    package var output = "-"
    package var existingOutput = ExistingOutput.refuse
    package var shard = BatchShard.all
    /// Whether answers contain times; without them, equal runs give equal bytes.
    package var keepsTimes = true
    /// The words for remedies in error messages; a program gives its options.
    package var spelling: @Sendable (Remedy) -> String = { $0.description }

    package init(input: Input) { self.input = input }
  }

  /// A function that answers all records of a job.
  package typealias Engine = (inout BatchJob) throws -> Void

  private let options: Options
  private let input: OpenFile?
  private let output: AnswerFile

  /// Opens input and output, without changing their contents.
  ///
  /// - Throws: `BatchError`.
  package init(_ options: Options) throws(BatchError) {
    self.options = options
    switch options.input {
    case .images: input = nil
    case .lines("-", _): input = .standardInput
    case .lines(let path, _):
      do { input = try OpenFile(reading: path) } catch { throw .unreadable(path: path, reason: "\(error)") }
    }
    output = try AnswerFile(path: options.output, existing: options.existingOutput, input: input)
  }

  /// Answers all records, or those that are started before the run is stopped.
  ///
  /// - Parameters:
  ///   - base: Policy and options of every request.
  ///   - run: The description of the run in the report.
  ///   - isStopped: Whether to start no more records.
  ///   - observer: Receives progress.
  ///   - engine: Answers the records.
  /// - Throws: `BatchError`, and the errors of the engine.
  package func run(
    like base: Request, by run: BatchRunDescription, isStopped: @escaping () -> Bool = { false },
    observer: (any BatchObserver)? = nil, engine: Engine
  ) throws -> BatchReport {
    let previous = try output.begin()
    if let previous { observer?.didFind(answered: previous.answered.count, failed: previous.failureCount) }
    var job = BatchJob(
      try source(base, isStopped), into: output,
      lines: AnswerLines(model: run.model, keepsTimes: options.keepsTimes, spelling: options.spelling),
      answered: previous?.answered ?? AnsweredRecords(), isStopped: isStopped, observer: observer)
    let start = ContinuousClock.now
    job.tally.failedBefore = previous?.failureCount ?? 0
    try engine(&job)
    return BatchReport(
      job.tally, run, wall: ContinuousClock.now - start, stopped: !job.isAtEnd,
      peakResidentBytes: peakResidentBytes())
  }

  /// The first requests, at most `count` of them, and the number of all records.
  ///
  /// - Throws: `BatchError`.
  package func preview(like base: Request, first count: Int = 16) throws(BatchError) -> (
    requests: [Request], recordCount: Int
  ) {
    var (requests, recordCount): ([Request], Int) = ([], 0)
    var source = try source(base) { false }
    while case .ready(let parsed) = try source.next(waits: true) {
      recordCount += 1
      if requests.count < count, case .success(let request) = parsed.request { requests.append(request) }
    }
    return (requests, recordCount)
  }

  private func source(_ base: Request, _ isStopped: @escaping () -> Bool) throws(BatchError) -> any RecordSource {
    switch options.input {
    case .images(let folder, let question):
      return try ImageFolder(folder, asking: question, base: base, shard: options.shard)
    case .lines(let path, let folder):
      guard let input else { preconditionFailure("init opens the file of questions") }
      let parser = RecordParser(base: base, folder: folder)
      return try QuestionLines(
        input, path: path, firstLine: options.firstLine, parser: parser, shard: options.shard, isStopped: isStopped)
    }
  }
}

/// Progress callbacks of a batch.
package protocol BatchObserver: AnyObject {
  /// Earlier runs have answered records, `failed` of them with an error.
  func didFind(answered: Int, failed: Int)
  /// Answers have been written to the disk.
  ///
  /// - Parameter share: The fraction of the input that has been read, 0 to 1; `nil` if its length is not known.
  func didWrite(_ tally: BatchTally, share: Double?)
  /// A record has failed.
  func didFail(_ record: BatchRecord, _ failure: RecordFailure)
}

/// Input and output of a batch for an engine, which may finish records in any order.
///
/// An engine finishes every record that it takes:
///
///     while case .ready(let record) = try job.take() { try job.finish([(record, answer(record.request))]) }
///
/// A continuous-batching engine takes records without waiting while others are active. It finishes records that end
/// together in one call, which costs one sync of the disk.
package struct BatchJob {
  /// A record to answer.
  package struct Question: Sendable {
    package let request: Request
    let record: BatchRecord
    /// Index among the answers of this run.
    let index: Int
  }

  private var source: any RecordSource
  private let lines: AnswerLines
  private var writer: RecordWriter
  private var answered: AnsweredRecords
  private let isStopped: () -> Bool
  private weak var observer: (any BatchObserver)?
  private var nextIndex = 0
  /// Whether the input has no more records.
  private(set) var isAtEnd = false
  package internal(set) var tally = BatchTally()

  init(
    _ source: any RecordSource, into file: AnswerFile, lines: AnswerLines, answered: AnsweredRecords,
    isStopped: @escaping () -> Bool, observer: (any BatchObserver)?
  ) {
    self.source = source
    self.lines = lines
    self.answered = answered
    self.isStopped = isStopped
    self.observer = observer
    writer = RecordWriter(file)
  }

  /// The next record to answer; invalid records are finished with an error here.
  ///
  /// - Parameter waits: Whether to wait until there is one.
  /// - Returns: `finished` at the end of the input or when the run is stopped. `pending` if no record is available, or
  ///   if a record is unfinished that was taken too long ago.
  /// - Throws: `BatchError`.
  package mutating func take(waits: Bool = true) throws -> Poll<Question> {
    while !isStopped() {
      guard writer.hasCapacity(for: nextIndex) else { return .pending }
      switch try source.next(waits: waits) {
      case .finished:
        isAtEnd = true
        return .finished
      case .pending: if !waits { return .pending }
      case .ready(let parsed):
        guard !answered.match(parsed.record.key) else {
          tally.resumedCount += 1
          continue
        }
        let index = nextIndex
        nextIndex += 1
        switch parsed.request {
        case .success(let request): return .ready(Question(request: request, record: parsed.record, index: index))
        case .failure(let failure): try finish(parsed.record, .failure(failure), at: index)
        }
      }
    }
    return .finished
  }

  /// Finishes records, and writes all answers up to the first unfinished record.
  ///
  /// - Throws: `BatchError` when they cannot be written.
  package mutating func finish(_ answers: [(Question, Result<RunReport, RecordFailure>)]) throws {
    for (question, outcome) in answers { try put(question.record, outcome, at: question.index) }
    try commit()
  }

  private mutating func finish(
    _ record: BatchRecord, _ outcome: Result<RunReport, RecordFailure>, at index: Int
  ) throws {
    try put(record, outcome, at: index)
    try commit()
  }

  private mutating func put(
    _ record: BatchRecord, _ outcome: Result<RunReport, RecordFailure>, at index: Int
  ) throws {
    writer.put(try lines.line(record, outcome), at: index)
    tally.add(outcome)
    if case .failure(let failure) = outcome { observer?.didFail(record, failure) }
  }

  private mutating func commit() throws {
    if try writer.commit() > 0 { observer?.didWrite(tally, share: source.fractionRead) }
  }
}

/// An error of the input or output of a batch, which ends the run.
public enum BatchError: UserFacingError, Equatable {
  case unreadable(path: String, reason: String)
  case unwritable(path: String, reason: String)
  /// The disk is full; `isResumable`: whether a run can resume from the output file.
  case outOfSpace(path: String, reason: String, isResumable: Bool)
  case outputIsInput(path: String)
  case outputNotEmpty(path: String, byteCount: Int)
  case outputInUse(path: String)
  /// A run can only resume from a regular file.
  case outputNotAFile(path: String)
  case notAnAnswer(path: String, line: Int)

  public var category: ErrorCategory { .resource }
  public var problem: String {
    switch self {
    case .unreadable(let path, let reason): "\(path): cannot be read (\(reason))"
    case .unwritable(let path, let reason): "\(path): cannot be written to (\(reason))"
    case .outOfSpace(let path, let reason, true):
      "\(path): no space for the next answer (\(reason)); the answers before it are kept"
    case .outOfSpace(let path, let reason, false): "\(path): no space for the next answer (\(reason))"
    case .outputIsInput(let path): "\(path): is the input file"
    case .outputNotEmpty(let path, let byteCount):
      "\(path): has \(byteCount) bytes already"
    case .outputInUse(let path): "\(path): another run is writing to it; wait for its end or give another file"
    case .outputNotAFile(let path): "\(path): is not a regular file, so a run cannot resume from it"
    case .notAnAnswer(let path, let line):
      "\(path): line \(line) is not an answer of a batch, so the file is left as it is; is it the right one?"
    }
  }

  public var remedies: [Remedy] {
    switch self {
    case .outOfSpace(_, _, isResumable: true): [.freeSpaceAndResume]
    case .outputIsInput: [.otherOutput]
    case .outputNotEmpty: [.resume, .overwrite]
    default: []
    }
  }

  static func output(_ path: String, _ error: SystemError, isResumable: Bool = false) -> BatchError {
    error.isOutOfSpace
      ? .outOfSpace(path: path, reason: "\(error)", isResumable: isResumable)
      : .unwritable(path: path, reason: "\(error)")
  }
}
