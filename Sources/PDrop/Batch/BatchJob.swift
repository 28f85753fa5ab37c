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
///     while case .value(let record) = try job.take() { try job.finish([(record, answer(record.request))]) }
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
  /// - Returns: `end` also when the run is stopped; `notYet` also when a record taken long ago is still to be finished.
  /// - Throws: `BatchError`.
  package mutating func take(waits: Bool = true) throws -> Taken<Question> {
    while !isStopped() {
      guard writer.hasRoom(for: nextIndex) else { return .notYet }
      switch try source.next(waits: waits) {
      case .end:
        isAtEnd = true
        return .end
      case .notYet: if !waits { return .notYet }
      case .value(let read):
        guard !answered.take(read.record.key) else {
          tally.answeredBefore += 1
          continue
        }
        let index = nextIndex
        nextIndex += 1
        switch read.request {
        case .success(let request): return .value(Question(request: request, record: read.record, index: index))
        case .failure(let failure): try finish(read.record, .failure(failure), at: index)
        }
      }
    }
    return .end
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
