public import PDrop
public import Storage
public import TokenDropping

/// A batch of questions about images: a file of records or a folder of images, and the file of their answers.
///
///     var options = Batch.Options(
///       input: .lines(path: folder + "/questions.jsonl", folder: folder + "/images"))
///     options.output = folder + "/answers.jsonl"
///     options.existingOutput = .resume(retriesFailures: true)
///     let batch = try Batch(options)
///     let base = Request(prompt: .messages([]), policy: PyramidDrop())
///     let report = try batch.run(model, like: base, engine: EngineOptions(threads: 4))
///     print("\(report.answered) of \(report.records) records answered")
///
/// Records are decoded together by continuous batching. An answer does not depend on the other records, on the batch
/// size or on the number of threads. Answers are written in the order of their records, each completely and durably or
/// not at all, so a killed run can be resumed. A record that fails gets an answer with an error, and the batch
/// continues.
public struct Batch {
  /// The source of the records.
  public enum Input: Sendable {
    /// A file with a JSON object on each line, `-` for standard input; `folder` is that of relative image paths.
    ///
    /// A line is a question of LLaVA, `{"question_id", "image", "text"[, "category"]}`, or a request of OpenAI's batch
    /// format, `{"custom_id", "method", "url", "body"}`. Its answer has the format of the same project.
    case lines(path: String, folder: String?)
    /// All images of a folder and its subfolders, with the same question.
    ///
    /// A rendered question is in the chat template already, with `<image>` at the place of the image.
    case images(folder: String, question: String, isRendered: Bool = false)
  }

  /// The treatment of answers in an existing output file.
  public enum ExistingOutput: Sendable, Equatable {
    /// Refuse to run.
    case refuse
    /// Remove them.
    case overwrite
    /// Append to them; answers with an error are kept, or retried.
    case resume(retriesFailures: Bool)
  }

  /// Input and output of a batch.
  public struct Options: Sendable {
    public var input: Input
    /// The number of the input's first line, for a part of a longer file.
    public var firstLine = 1
    /// Path of the output; `-` for standard output.
    public var output = "-"
    public var existingOutput = ExistingOutput.refuse
    /// The part of the records to answer.
    public var shard = BatchShard.all
    /// Whether answers contain times; without them, equal runs give equal bytes.
    public var keepsTimes = true
    /// The words for remedies in error messages; a program gives its options.
    public var spelling: @Sendable (Remedy) -> String = { $0.description }

    public init(input: Input) { self.input = input }
  }

  /// A function that answers all records of a job.
  package typealias Engine = (inout BatchJob) throws -> Void

  private let options: Options
  private let input: OpenFile?
  private let output: AnswerFile

  /// Opens input and output, without changing their contents, and locks the output until the batch is deallocated.
  ///
  /// - Throws: `BatchError` for a file that cannot be opened, for an output that is the input or in use by another run,
  ///   and for existing answers that the options refuse.
  public init(_ options: Options) throws(BatchError) {
    self.options = options
    switch options.input {
    case .images: input = nil
    case .lines("-", _): input = .standardInput
    case .lines(let path, _):
      let file: OpenFile
      do { file = try OpenFile(reading: path) } catch { throw .unreadable(path: path, reason: "\(error)") }
      // Before the output is changed.
      if file.isRegular { try QuestionLines.check(firstBytes: file.firstBytes(4096), of: path) }
      input = file
    }
    output = try AnswerFile(path: options.output, existing: options.existingOutput, input: input)
  }

  /// Answers all records by continuous batching, or those that are started before the run is stopped.
  ///
  /// Call it once per batch.
  ///
  /// - Parameters:
  ///   - model: The model that answers.
  ///   - base: Policy and options of every request; a record's own options take precedence. Its prompt and images are
  ///     not used.
  ///   - engine: Threads, batch size and memory limit.
  ///   - isStopped: Whether to start no more records; called between records.
  ///   - observer: Receives progress, on the calling thread.
  /// - Returns: Counts, seconds, tokens and FLOPs of the run. Failed records are counted, not thrown.
  /// - Throws: `BatchError` when input or output fail, and for a policy that does not fit the model.
  public func run(
    _ model: VisionLanguageModel, like base: Request, engine: EngineOptions,
    isStopped: @escaping () -> Bool = { false }, observer: (any BatchObserver)? = nil
  ) throws(BatchError) -> BatchReport {
    let run: BatchRunDescription
    do { run = try BatchRunDescription(model, base, threads: engine.threads) } catch { throw .policy(error) }
    var job = try job(base, run, isStopped, observer)
    let start = ContinuousClock.now
    var batchEngine = BatchEngine(model, engine)
    try batchEngine.run(&job)
    return report(job, run, since: start)
  }

  /// Answers all records by an engine, or those that are started before the run is stopped.
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
    var job = try job(base, run, isStopped, observer)
    let start = ContinuousClock.now
    try engine(&job)
    return report(job, run, since: start)
  }

  /// The records to answer, after those that earlier runs have answered.
  private func job(
    _ base: Request, _ run: BatchRunDescription, _ isStopped: @escaping () -> Bool, _ observer: (any BatchObserver)?
  ) throws(BatchError) -> BatchJob {
    let previous = try output.begin(run)
    if let previous { observer?.didFind(answered: previous.answered.count, failed: previous.failureCount) }
    if let other = previous?.otherOrigin {
      observer?.didWarn(
        "\(options.output): \(other.count) of \(previous?.answered.count ?? 0) answers are by \(other.first); "
          + "they are kept")
    }
    var job = BatchJob(
      try source(base, isStopped), into: output,
      lines: AnswerLines(model: run.model, keepsTimes: options.keepsTimes, spelling: options.spelling),
      answered: previous?.answered ?? AnsweredRecords(), isStopped: isStopped, observer: observer)
    job.tally.failedBefore = previous?.failureCount ?? 0
    return job
  }

  private func report(
    _ job: BatchJob, _ run: BatchRunDescription, since start: ContinuousClock.Instant
  ) -> BatchReport {
    BatchReport(
      job.tally, run, wall: ContinuousClock.now - start, stopped: !job.isAtEnd, peakResidentBytes: peakResidentBytes())
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
    case .images(let folder, let question, let isRendered):
      var base = base
      base.prompt = isRendered ? .rendered(question) : .messages([ChatMessage(question: question, imageCount: 1)])
      return try ImageFolder(folder, asking: question, base: base, shard: options.shard)
    case .lines(let path, let folder):
      guard let input else { preconditionFailure("init opens the file of questions") }
      let parser = RecordParser(base: base, folder: folder)
      return try QuestionLines(
        input, path: path, firstLine: options.firstLine, parser: parser, shard: options.shard, isStopped: isStopped)
    }
  }
}

/// Progress callbacks of a batch, each without effect unless implemented.
public protocol BatchObserver: AnyObject {
  /// Earlier runs have answered records, `failed` of them with an error.
  func didFind(answered: Int, failed: Int)
  /// A condition that does not stop the run, in one line: earlier answers are by another model or policy.
  func didWarn(_ message: String)
  /// Answers have been written to the disk.
  ///
  /// - Parameters:
  ///   - tally: Counts and costs of the run so far.
  ///   - fractionRead: The fraction of the input that has been read, 0 to 1; `nil` if its length is not known.
  func didWrite(_ tally: BatchTally, fractionRead: Double?)
  /// A record has failed.
  func didFail(_ record: BatchRecord, _ failure: RecordFailure)
}

extension BatchObserver {
  public func didFind(answered: Int, failed: Int) {}
  public func didWarn(_ message: String) {}
  public func didWrite(_ tally: BatchTally, fractionRead: Double?) {}
  public func didFail(_ record: BatchRecord, _ failure: RecordFailure) {}
}

/// Input and output of a batch for an engine, which may finish records in any order.
///
/// An engine calls `take` until it returns `finished`, and `finish` for every record that it takes. A
/// continuous-batching engine takes records without waiting while others are active. It finishes records that end
/// together in one call, which costs one sync of the disk.
package struct BatchJob: EngineJob {
  /// A record to answer; its index is that among the answers of this run.
  package typealias Question = EngineRequest

  private var source: any RecordSource
  private let lines: AnswerLines
  private var writer: RecordWriter
  private var answered: AnsweredRecords
  private let outputPath: String
  private let isStopped: () -> Bool
  private weak var observer: (any BatchObserver)?
  private var nextIndex = 0
  /// The records that have been taken and not finished, by their indices.
  private var records: [Int: BatchRecord] = [:]
  /// Whether the input has no more records.
  private(set) var isAtEnd = false
  package internal(set) var tally = BatchTally()
  package var statistics: EngineStatistics {
    get { tally.statistics }
    set { tally.statistics = newValue }
  }

  init(
    _ source: any RecordSource, into file: AnswerFile, lines: AnswerLines, answered: AnsweredRecords,
    isStopped: @escaping () -> Bool, observer: (any BatchObserver)?
  ) {
    self.source = source
    self.lines = lines
    self.answered = answered
    outputPath = file.name
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
  package mutating func take(waits: Bool = true) throws(BatchError) -> Poll<Question> {
    while !isStopped() {
      guard writer.hasCapacity(for: nextIndex) else { return .pending }
      switch try source.next(waits: waits) {
      case .finished:
        isAtEnd = true
        return .finished
      case .pending: if !waits { return .pending }
      case .ready(let parsed):
        switch answered.match(parsed.record) {
        case .unanswered: break
        case .answered:
          tally.resumedCount += 1
          continue
        case .otherQuestion(let hashes):
          // An id may occur with several questions, of which earlier runs have answered only others.
          guard try source.hasOther(parsed.record.key, askingOneOf: hashes) else {
            throw .questionChanged(path: outputPath, record: parsed.record.number, id: parsed.record.identifier)
          }
        }
        let index = nextIndex
        nextIndex += 1
        switch parsed.request {
        case .success(let request):
          records[index] = parsed.record
          return .ready(Question(request, index: index))
        case .failure(let failure): try finish(parsed.record, .failure(failure), at: index)
        }
      }
    }
    return .finished
  }

  /// Finishes records, and writes all answers up to the first unfinished record.
  ///
  /// - Throws: `BatchError` when they cannot be written.
  package mutating func finish(_ answers: [(Question, Result<RunReport, RecordFailure>)]) throws(BatchError) {
    for (question, outcome) in answers {
      guard let record = records.removeValue(forKey: question.index) else {
        preconditionFailure("record \(question.index) is finished already")
      }
      put(record, outcome.mapError { $0.quoting(question.request.images) }, at: question.index)
    }
    try commit()
  }

  private mutating func finish(
    _ record: BatchRecord, _ outcome: Result<RunReport, RecordFailure>, at index: Int
  ) throws(BatchError) {
    put(record, outcome, at: index)
    try commit()
  }

  private mutating func put(
    _ record: BatchRecord, _ outcome: Result<RunReport, RecordFailure>, at index: Int
  ) {
    writer.put(lines.line(record, outcome), at: index)
    tally.add(outcome)
    if case .failure(let failure) = outcome { observer?.didFail(record, failure) }
  }

  private mutating func commit() throws(BatchError) {
    if try writer.commit() > 0 { observer?.didWrite(tally, fractionRead: source.fractionRead) }
  }
}

/// An error that ends a batch: of its input, its output or its policy, not of a record.
public enum BatchError: UserFacingError, Equatable {
  case unreadable(path: String, reason: String)
  case unwritable(path: String, reason: String)
  /// The disk is full; `isResumable` if the answers are in a file that a later run can resume.
  case outOfSpace(path: String, reason: String, isResumable: Bool)
  case outputIsInput(path: String)
  case outputNotEmpty(path: String, byteCount: Int)
  case outputInUse(path: String)
  /// A run can resume only from a regular file.
  case outputNotAFile(path: String)
  case notAnAnswer(path: String, line: Int)
  /// The input is not UTF-8 text with a JSON object on each line.
  case foreignInput(path: String, found: String)
  /// The answer to a record, by its line or its number in the folder, is to another question.
  case questionChanged(path: String, record: Int, id: RecordIdentifier?)
  /// The schedule does not fit the model.
  case policy(DropPolicyError)

  public var category: ErrorCategory {
    if case .policy(let error) = self { error.category } else { .resource }
  }

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
    case .foreignInput(let path, let found): "\(path): is \(found)"
    case .questionChanged(let path, let record, let id):
      "\(path): the answer to record \(record)\(id.map { " (id \($0.excerpt))" } ?? "") is to another question "
        + "or image than the input has now; restore it"
    case .policy(let error): error.problem
    }
  }

  public var remedies: [Remedy] {
    switch self {
    case .outOfSpace(_, _, isResumable: true): [.freeSpaceAndResume]
    case .outputIsInput: [.otherOutput]
    case .outputNotEmpty: [.resume, .overwrite]
    case .questionChanged: [.otherOutput, .overwrite]
    default: []
    }
  }

  static func output(_ path: String, _ error: SystemError, isResumable: Bool = false) -> BatchError {
    error.isOutOfSpace
      ? .outOfSpace(path: path, reason: "\(error)", isResumable: isResumable)
      : .unwritable(path: path, reason: "\(error)")
  }
}
