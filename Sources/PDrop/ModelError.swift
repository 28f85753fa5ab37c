import ImageProcessing
import ModelFormats
public import Storage
import Tokenizers

/// An error of a model directory: one line that names the file, what was expected and what was found.
public struct ModelError: UserFacingError {
  /// The part of the directory that cannot be used.
  public enum Reason: Sendable, CaseIterable {
    /// The path is not a model directory.
    case notADirectory
    /// A file is missing or cannot be read.
    case file
    /// A file has a value that is not supported or does not fit the others.
    case configuration
    /// The weights are missing, incomplete or damaged.
    case weights
    /// A file of weights refers to code, which is never run.
    case refusedWeights
    /// The vision encoder of an original checkpoint is missing, or was given for one that contains it.
    case visionTower
    case tokenizer
    case chatTemplate
    /// The images cannot be preprocessed as the files or the options require.
    case imagePreprocessing
  }

  public let reason: Reason
  package let underlying: any UserFacingError

  init(_ error: any UserFacingError) {
    underlying = error
    reason = Self.reason(error)
  }

  /// An error of loading the model in a directory; all of ours are written for users.
  init(loading error: any Error, in directory: String) {
    self.init(
      error as? any UserFacingError ?? CheckpointError.malformed(file: directory, reason: "\(error)"))
  }

  public var category: ErrorCategory { .model }
  public var problem: String { underlying.problem }
  public var remedies: [Remedy] { underlying.remedies }

  private static func reason(_ error: any UserFacingError) -> Reason {
    switch error {
    case let error as CheckpointError:
      switch error {
      case .file: .file
      case .notADirectory: .notADirectory
      case .badValue: .configuration
      case .forbiddenGlobal: .refusedWeights
      case .missingVisionTower, .missingTrainedVisionTower, .unneededVisionTower, .visionTowerOfGGUF,
        .ambiguousGGUF(_, isVisionEncoder: true, _), .unneededMMProj, .pairMismatch, .swappedGGUF:
        .visionTower
      case .noWeights, .adapterAlone, .unmergedAdapter, .quantized, .missingShards, .ambiguousShards, .projectorApart,
        .malformed, .missingTensor, .shapeMismatch, .unsupportedElement, .duplicateTensor,
        .stridedTensor, .convertible, .unsupportedTensorType, .ambiguousGGUF, .noLanguageModel, .notInGGUF:
        .weights
      }
    case is PromptError: .chatTemplate
    case is ImageModeError, is PreprocessorConfigurationError: .imagePreprocessing
    case is VocabularyError, is GenerationError: .tokenizer
    case is CLIPError: .visionTower
    case is FileError: .file
    default: .configuration
    }
  }
}
