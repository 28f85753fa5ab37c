internal import Kernels

/// Many records and the file of their answers.
package struct Batch {
  /// Where the questions come from.
  package enum Input: Sendable {
    /// A file with a JSON object on each line, `-` for standard input; relative paths of pictures begin in `folder`.
    case lines(path: String, folder: String?)
    /// All pictures of a folder, with one question.
    case pictures(folder: String, question: String)
  }

  /// What to do with answers that are there already.
  package enum Earlier: Sendable, Equatable {
    /// Refuse to run.
    case refuse
    /// Remove them.
    case overwrite
    /// Go on behind them; those with an error are kept, or answered again.
    case resume(retriesFailures: Bool)
  }

  package struct Options: Sendable {
    package var input: Input
    /// The number of the input's first line, for a piece of a longer file.
    package var firstLine = 1
    /// `-` for standard output.
    package var output = "-"
    package var earlier = Earlier.refuse
    package var shard = BatchShard.all
    /// Whether answers say what clocks said; without that, equal runs give equal bytes.
    package var keepsTimes = true

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
    case .pictures: input = nil
    case .lines("-", _): input = .standardInput
    case .lines(let path, _):
      do { input = try OpenFile(reading: path) } catch { throw .unreadable(path: path, reason: "\(error)") }
    }
    output = try AnswerFile(path: options.output, earlier: options.earlier, input: input)
  }

  /// Answers all records, or all that are begun when the run is stopped.
  ///
  /// - Parameters:
  ///   - base: How every question is asked; for a folder of pictures also what is asked.
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
      try source(base, isStopped), into: output, lines: AnswerLines(model: run.model, keepsTimes: options.keepsTimes),
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
  package func survey(like base: Request, first count: Int = 16) throws(BatchError) -> (
    requests: [Request], recordCount: Int
  ) {
    var (requests, recordCount): ([Request], Int) = ([], 0)
    var source = try source(base) { false }
    while case .value(let read) = try source.next(waits: true) {
      recordCount += 1
      if requests.count < count, case .success(let request) = read.request { requests.append(request) }
    }
    return (requests, recordCount)
  }

  private func source(_ base: Request, _ isStopped: @escaping () -> Bool) throws(BatchError) -> any RecordSource {
    switch options.input {
    case .pictures(let folder, let question):
      return try PictureFolder(folder, asking: question, base: base, shard: options.shard)
    case .lines(let path, let folder):
      guard let input else { preconditionFailure("a file of questions is opened by init") }
      let parser = RecordParser(base: base, folder: folder)
      return try QuestionLines(
        input, path: path, firstLine: options.firstLine, parser: parser, shard: options.shard, isStopped: isStopped)
    }
  }
}
