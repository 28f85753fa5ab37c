public import PDrop
public import Storage

/// Many records and the file of their answers.
package struct Batch {
  /// Where the questions come from.
  package enum Input: Sendable {
    /// A file with a JSON object on each line, `-` for standard input; relative paths of images begin in `folder`.
    case lines(path: String, folder: String?)
    /// All images of a folder, with one question.
    case images(folder: String, question: String)
  }

  /// What to do with answers that are there already.
  package enum ExistingOutput: Sendable, Equatable {
    /// Refuse to run.
    case refuse
    /// Remove them.
    case overwrite
    /// Go on after them; those with an error are kept, or answered again.
    case resume(retriesFailures: Bool)
  }

  package struct Options: Sendable {
    package var input: Input
    /// The number of the input's first line, for a piece of a longer file.
    package var firstLine = 1
    /// `-` for standard output.
    package var output = "-"
    package var earlier = ExistingOutput.refuse
    package var shard = BatchShard.all
    /// Whether answers say what clocks said; without that, equal runs give equal bytes.
    package var keepsTimes = true
    /// The words for remedies in error messages; a program gives its options.
    package var spelling: @Sendable (Remedy) -> String = { $0.description }

    package init(input: Input) { self.input = input }
  }

  /// Answers the records that a job gives out, until it gives no more.
  package typealias Engine = (inout BatchJob) throws -> Void

  private let options: Options
  private let input: OpenFile?
  private let output: AnswerFile

  /// Opens the files, without a change to what is in them.
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
    output = try AnswerFile(path: options.output, earlier: options.earlier, input: input)
  }

  /// Answers all records, or all that are begun when the run is stopped.
  ///
  /// - Parameters:
  ///   - base: How every question is asked; for a folder of images also what is asked.
  ///   - isStopped: Whether no more records are to be begun.
  ///   - willBegin: Told what an earlier run has answered, before the first record.
  /// - Throws: `BatchError`, and what the engine throws.
  package func run(
    like base: Request, by run: BatchRunDescription, isStopped: @escaping () -> Bool = { false },
    observer: (any BatchObserver)? = nil, engine: Engine
  ) throws -> BatchReport {
    let earlier = try output.begin()
    if let earlier { observer?.didFind(answered: earlier.answered.count, failed: earlier.failureCount) }
    var job = BatchJob(
      try source(base, isStopped), into: output,
      lines: AnswerLines(model: run.model, keepsTimes: options.keepsTimes, spelling: options.spelling),
      answered: earlier?.answered ?? AnsweredRecords(), isStopped: isStopped, observer: observer)
    let start = ContinuousClock.now
    job.tally.failedBefore = earlier?.failureCount ?? 0
    try engine(&job)
    return BatchReport(
      job.tally, run, wall: ContinuousClock.now - start, stopped: !job.isAtEnd,
      peakResidentBytes: peakResidentBytes())
  }

  /// The first records that make requests, at most `count` of them, and how many records there are.
  ///
  /// - Throws: `BatchError`.
  package func preview(like base: Request, first count: Int = 16) throws(BatchError) -> (
    requests: [Request], recordCount: Int
  ) {
    var (requests, recordCount): ([Request], Int) = ([], 0)
    var source = try source(base) { false }
    while case .ready(let read) = try source.next(waits: true) {
      recordCount += 1
      if requests.count < count, case .success(let request) = read.request { requests.append(request) }
    }
    return (requests, recordCount)
  }

  private func source(_ base: Request, _ isStopped: @escaping () -> Bool) throws(BatchError) -> any RecordSource {
    switch options.input {
    case .images(let folder, let question):
      return try ImageFolder(folder, asking: question, base: base, shard: options.shard)
    case .lines(let path, let folder):
      guard let input else { preconditionFailure("a file of questions is opened by init") }
      let parser = RecordParser(base: base, folder: folder)
      return try QuestionLines(
        input, path: path, firstLine: options.firstLine, parser: parser, shard: options.shard, isStopped: isStopped)
    }
  }
}

/// Told of what happens in a batch, for people who wait.
package protocol BatchObserver: AnyObject {
  /// An earlier run has answered so many records, some of them with an error.
  func didFind(answered: Int, failed: Int)
  /// Records are answered and on the disk.
  ///
  /// - Parameter share: That of the input which has been read, if its length is known.
  func didWrite(_ tally: BatchTally, share: Double?)
  func didFail(_ record: BatchRecord, _ failure: RecordFailure)
}

/// The two ends of a batch, between which an engine answers: records come out, answers go in, in any order.
///
/// An engine takes records and finishes every record that it has taken:
///
///     while case .ready(let record) = try job.take() { try job.finish([(record, answer(record.request))]) }
///
/// One that answers many at a time takes without waiting while others are being answered, and finishes those that end
/// together in one call, which costs one sync of the disk.
package struct BatchJob {
  /// A record that is to be answered.
  package struct Question: Sendable {
    package let request: Request
    let record: BatchRecord
    /// Its place among the answers of this run.
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

  /// The next record to be answered; those that make no request get their error record here.
  ///
  /// - Parameter waits: Whether to wait until there is one.
  /// - Returns: `end` also when the run is stopped; `pending` also when a record taken long ago is still to be finished.
  /// - Throws: `BatchError`.
  package mutating func take(waits: Bool = true) throws -> Poll<Question> {
    while !isStopped() {
      guard writer.hasCapacity(for: nextIndex) else { return .pending }
      switch try source.next(waits: waits) {
      case .finished:
        isAtEnd = true
        return .finished
      case .pending: if !waits { return .pending }
      case .ready(let read):
        guard !answered.take(read.record.key) else {
          tally.resumedCount += 1
          continue
        }
        let index = nextIndex
        nextIndex += 1
        switch read.request {
        case .success(let request): return .ready(Question(request: request, record: read.record, index: index))
        case .failure(let failure): try finish(read.record, .failure(failure), at: index)
        }
      }
    }
    return .finished
  }

  /// Takes answers to records, and writes those whose turn has come.
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
    if try writer.commit() > 0 { observer?.didWrite(tally, share: source.share) }
  }
}

/// Why a batch cannot begin or go on: its input or its output is at fault, not a record.
public enum BatchError: UserFacingError, Equatable {
  case unreadable(path: String, reason: String)
  case unwritable(path: String, reason: String)
  /// On a disk whose file of answers can be gone on with, or where it cannot.
  case outOfSpace(path: String, reason: String, isResumable: Bool)
  case outputIsInput(path: String)
  case outputNotEmpty(path: String, byteCount: Int)
  case outputInUse(path: String)
  /// To go on from answers there must be a file of them.
  case outputNotAFile(path: String)
  case notAnAnswer(path: String, line: Int)

  public var category: ErrorCategory { .resource }
  public var problem: String {
    switch self {
    case .unreadable(let path, let reason): "\(path): cannot be read (\(reason))"
    case .unwritable(let path, let reason): "\(path): cannot be written to (\(reason))"
    case .outOfSpace(let path, let reason, true):
      "\(path): no room for the next answer (\(reason)); all before it are kept"
    case .outOfSpace(let path, let reason, false): "\(path): no room for the next answer (\(reason))"
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
