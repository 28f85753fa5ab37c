import ImageProcessing
import LLaVA
public import PDrop
public import Storage
import TokenDropping

/// The format of a batch record, in which it is also answered.
public enum RecordFamily: Sendable, Equatable {
  /// LLaVA's `{"question_id", "image", "text"[, "category"]}`.
  case llava
  /// OpenAI's `{"custom_id", "method", "url", "body"}`.
  case openAI
}

/// The identifier of a record, which its answer repeats unchanged.
///
/// Texts are compared byte by byte: composed and decomposed characters differ.
public enum RecordIdentifier: Hashable, Sendable, Encodable {
  case number(Int)
  case text(String)

  public static func == (a: Self, b: Self) -> Bool {
    switch (a, b) {
    case (.number(let a), .number(let b)): a == b
    case (.text(let a), .text(let b)): ByteString(a) == ByteString(b)
    default: false
    }
  }

  public func hash(into hasher: inout Hasher) {
    switch self {
    case .number(let number): hasher.combine(number)
    case .text(let text): hasher.combine(ByteString(text))
    }
  }

  /// The identifier for a message.
  var excerpt: String {
    switch self {
    case .number(let number): "\(number)"
    case .text(let text): text.excerpt
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .number(let number): try container.encode(number)
    case .text(let text): try container.encode(text)
    }
  }
}

/// The fields of a question that are echoed in its answer.
public struct BatchRecord: Sendable {
  public var family: RecordFamily
  /// Line of the input, or number of the image in its folder, from 1.
  public var number: Int
  /// `nil` if there is none, or if the record is damaged before it.
  public var identifier: RecordIdentifier?
  /// The text of a LLaVA question.
  public var question: String?
  /// The category of a LLaVA question.
  public var category: String?
  /// The hash of the question's texts, by which a resumed run recognizes it; `nil` if it cannot be read.
  var questionHash: UInt64?
  /// The hash of the names of its images; `nil` for none, and for an image in a folder, whose path is its identifier.
  var imageHash: UInt64?
  /// The hashes of an answer to this question: with its images, and of one that does not tell them.
  var answerHashes: [UInt64] {
    guard let questionHash else { return [] }
    return [imageHash.map { QuestionHash.combined(questionHash, images: $0) }, questionHash].compactMap(\.self)
  }

  /// The key by which a resumed run finds the answer to this record.
  var key: RecordKey { RecordKey(identifier, number: number) }
}

/// The key of a record in its batch: its identifier, or its number if it has none.
enum RecordKey: Hashable {
  case identifier(RecordIdentifier)
  case number(Int)

  init(_ identifier: RecordIdentifier?, number: Int) {
    self = identifier.map(Self.identifier) ?? .number(number)
  }
}

/// The hash of a question, equal in all runs of the program.
struct QuestionHash {
  let value: UInt64

  /// The names of images without their folders, as a batch may be moved between two runs; `nil` for none.
  ///
  /// - Parameter references: The images as a question gives them: paths, URLs or data URLs.
  init?(images references: [String]) {
    guard !references.isEmpty else { return nil }
    let names = references.map { reference in
      reference.hasPrefix("data:") ? reference : reference.split(separator: "/").last.map(String.init) ?? ""
    }
    self.init(names.joined(separator: "\u{1F}"))
  }

  /// The hash of texts and images.
  static func combined(_ question: UInt64, images: UInt64) -> UInt64 {
    QuestionHash("\(question) \(images)").value
  }

  /// A LLaVA question.
  init(_ text: String) { value = SharedBytes(copying: Array(text.utf8)).checksum }

  /// The texts of the messages of a completion request.
  init(messages: JSONValue) {
    var text = ""
    for message in messages.array ?? [] {
      text += "\u{1E}" + (message["role"].string ?? "")
      for part in message["content"].array ?? [message["content"]] {
        text += "\u{1F}" + (part.string ?? part["text"].string ?? "")
      }
    }
    self.init(text)
  }
}

/// A parsed record: its request, or the reason why it is invalid.
struct ParsedRecord: Sendable {
  var record: BatchRecord
  var request: Result<Request, RecordFailure>
}

/// A stream of batch records, in memory for one.
protocol RecordSource {
  /// The next record of this run's shard.
  ///
  /// - Parameter waits: Whether to wait until there is one; a stopped run does not wait.
  /// - Throws: `BatchError` when the input cannot be read.
  mutating func next(waits: Bool) throws(BatchError) -> Poll<ParsedRecord>

  /// Fraction of the input that has been read, 0 to 1; `nil` if its length is not known.
  var fractionRead: Double? { get }

  /// Whether the whole input has a record with a key and one of these questions; false if it can be read only once.
  ///
  /// Reads the input again.
  func hasOther(_ key: RecordKey, askingOneOf hashes: Set<UInt64>) throws(BatchError) -> Bool
}

/// A shard of a batch: every n-th record, or a run of consecutive ones.
///
///     options.shard = BatchShard("3/8") ?? .all  // records 3, 11, 19 and so on
public struct BatchShard: Equatable, Sendable {
  private enum Rule { case everyNth, consecutive }

  private let index: Int
  private let count: Int
  private let rule: Rule

  /// The whole batch.
  public static let all = BatchShard(index: 1, count: 1, .everyNth)

  private init(index: Int, count: Int, _ rule: Rule) { (self.index, self.count, self.rule) = (index, count, rule) }

  /// Every n-th record, by a text `i/n` with `i` from 1 to `n`. 0 is the same as `n`, so counting from 0 works as well.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { Int($0) }
    guard parts.count == 2, let index = parts[0], let count = parts[1], count > 0, (0...count).contains(index) else {
      return nil
    }
    self.init(index: index, count: count, .everyNth)
  }

  /// One of `count` runs of consecutive records, with `index` from 0; `nil` if there is no such run.
  ///
  /// The length of a run is rounded up, so the last run may be shorter, and the last ones may be empty.
  ///
  /// Source: `get_chunk` in LLaVA's `llava/eval/model_vqa.py`.
  public init?(chunk index: Int, of count: Int) {
    guard count > 0, (0..<count).contains(index) else { return nil }
    self.init(index: index, count: count, .consecutive)
  }

  /// The records of the shard.
  enum Members: Sendable {
    case every(Int, from: Int)
    case run(Range<Int>)

    /// Whether a record is in the shard, by its number from 1.
    func contains(_ ordinal: Int) -> Bool {
      switch self {
      case .every(let step, let first): ordinal % step == first % step
      case .run(let range): range.contains(ordinal - 1)
      }
    }
  }

  /// - Parameter recordCount: Number of records in the batch, evaluated only for consecutive runs.
  func members<Failure: Error>(of recordCount: () throws(Failure) -> Int) throws(Failure) -> Members {
    guard rule == .consecutive else { return .every(count, from: index) }
    let total = try recordCount()
    let length = total / count + (total % count == 0 ? 0 : 1)
    let (start, overflow) = length.multipliedReportingOverflow(by: index)
    guard !overflow, start < total else { return .run(0..<0) }
    return .run(start..<min(total, start + length))
  }
}

/// The error of a record: a code for programs and a line of text.
public struct RecordFailure: UserFacingError, Equatable, Sendable {
  /// The error codes in answers.
  public enum Reason: String, Codable, Sendable, CaseIterable {
    case badRecord = "bad_record"
    /// The record has an option that would change the answer and is not supported.
    case unsupportedOption = "unsupported_option"
    case imageMissing = "image_missing"
    case imageUnreadable = "image_unreadable"
    case imageDamaged = "image_damaged"
    case imageUnsupported = "image_unsupported"
    case imageTooLarge = "image_too_large"
    /// The image is on a network; nothing is downloaded.
    case imageRemote = "image_remote"
    case promptTooLong = "prompt_too_long"
    case outOfMemory = "out_of_memory"
    /// No schedule meets the cost target.
    case targetUnreachable = "target_unreachable"
    /// The model's output is not a number.
    case notANumber = "not_a_number"
    case internalError = "internal_error"

    var category: ErrorCategory {
      switch self {
      case .badRecord, .promptTooLong: .input
      case .unsupportedOption, .targetUnreachable: .usage
      case .imageMissing, .imageUnreadable, .imageDamaged, .imageUnsupported, .imageTooLarge, .imageRemote: .resource
      case .outOfMemory: .resource
      case .notANumber, .internalError: .internal
      }
    }

    /// Whether the error is one of the record, not of the run.
    var isRecordError: Bool { ![.outOfMemory, .targetUnreachable, .notANumber, .internalError].contains(self) }
  }

  public let reason: Reason
  public let problem: String
  public let remedies: [Remedy]
  /// Whether the form of the answer cannot be followed.
  package private(set) var concernsForm = false

  public var category: ErrorCategory { reason.category }

  public init(_ reason: Reason, _ problem: String, remedies: [Remedy] = []) {
    (self.reason, self.problem, self.remedies) = (reason, problem, remedies)
  }

  /// The failure for the error that ended a record.
  public init(_ error: any Error) {
    switch error {
    case let failure as RecordFailure: self = failure
    case let error as RequestError:
      self.init(error.underlying)
      if case .constraint = error { concernsForm = true }
    case ConversationError.image(let error): self.init(error)
    case let error as any UserFacingError:
      self.init(Self.reason(error), error.problem, remedies: error.remedies)
    default: self.init(.internalError, "\(error)")
    }
  }

  /// The failure with an excerpt in place of a path that is longer than real ones are.
  package func quoting(_ images: [Request.Image]) -> RecordFailure {
    let paths = images.compactMap { image -> String? in
      if case .file(let path) = image, path.utf8.count > 255 { path } else { nil }
    }
    return RecordFailure(
      reason, paths.reduce(problem) { $0.replacing($1, with: $1.excerpt) }, remedies: remedies)
  }

  private static func reason(_ error: any UserFacingError) -> Reason {
    switch error {
    case let error as ImageError: reason(error)
    case ImageReferenceError.empty: .imageUnreadable
    case ImageReferenceError.invalidPath: .imageMissing
    case ImageReferenceError.remote, ImageReferenceError.refused: .imageRemote
    case ImageReferenceError.malformedData: .imageDamaged
    case SequenceError.tooLong, SequenceError.beyondModel: .promptTooLong
    case is TargetError: .targetUnreachable
    case GenerationError.notANumber: .notANumber
    case is PromptError: .badRecord
    case ConversationError.unsupported, GenerationError.noVisionEncoder, is DropPolicyError: .unsupportedOption
    default: error.category == .input ? .badRecord : .internalError
    }
  }

  private static func reason(_ error: ImageError) -> Reason {
    switch error {
    case .missingFile: .imageMissing
    case .notAFile, .unreadableFile: .imageUnreadable
    case .fileTooLarge, .tooManyPixels, .sideTooLong, .tooMuchMemory: .imageTooLarge
    case .unsupportedFormat, .unknownFormat, .notAnImage, .gitLFSPointer: .imageUnsupported
    case .emptyFile, .damaged, .invalidPixels: .imageDamaged
    }
  }
}
