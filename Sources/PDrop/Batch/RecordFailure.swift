internal import LLaVA
internal import TokenDropping

/// Why a record could not be answered, in a word for programs and a line for people.
public struct RecordFailure: Error, Equatable, Sendable, CustomStringConvertible {
  /// The classes of reasons.
  public enum Reason: String, Codable, Sendable, CaseIterable {
    case badRecord = "bad_record"
    /// The record asks for something that changes answers and is not known here.
    case unsupportedOption = "unsupported_option"
    case imageMissing = "image_missing"
    case imageUnreadable = "image_unreadable"
    case imageDamaged = "image_damaged"
    case imageUnsupported = "image_unsupported"
    case imageTooLarge = "image_too_large"
    /// The picture is on a network, from which nothing is fetched.
    case imageRemote = "image_remote"
    case promptTooLong = "prompt_too_long"
    case outOfMemory = "out_of_memory"
    /// No schedule is as cheap as was asked for.
    case targetUnreachable = "target_unreachable"
    case notANumber = "not_a_number"
    case internalError = "internal_error"

    /// Whether the record is at fault, not the run.
    var isOfTheRecord: Bool { ![.outOfMemory, .targetUnreachable, .notANumber, .internalError].contains(self) }
  }

  public let reason: Reason
  public let message: String

  public var description: String { message }

  public init(_ reason: Reason, _ message: String) { (self.reason, self.message) = (reason, message) }

  /// Puts whatever ended an answer into its class.
  public init(_ error: any Error) {
    if let failure = error as? RecordFailure {
      self = failure
    } else {
      self.init(Self.reason(error), "\(error)")
    }
  }

  private static func reason(_ error: any Error) -> Reason {
    switch error {
    case let error as ImageError: reason(error)
    case PictureReferenceError.remote: .imageRemote
    case PictureReferenceError.malformedData: .imageDamaged
    case SequenceError.tooLong: .promptTooLong
    case SequenceError.placeholderMismatch, SequenceError.empty: .badRecord
    case is ConversationError, is PromptError: .badRecord
    case GenerationError.notANumber: .notANumber
    case is TargetError: .targetUnreachable
    default: .internalError
    }
  }

  private static func reason(_ error: ImageError) -> Reason {
    switch error {
    case .missingFile: .imageMissing
    case .notAFile, .unreadableFile: .imageUnreadable
    case .fileTooLarge, .tooManyPixels, .sideTooLong: .imageTooLarge
    case .unsupportedFormat, .unknownFormat, .animated: .imageUnsupported
    case .emptyFile, .damaged, .invalidPixels: .imageDamaged
    }
  }
}
