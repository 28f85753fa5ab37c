import Foundation
import Kernels
import LLaVA
import ModelFormats
public import Storage
import Tokenizers

/// Where CLIP's text encoder comes from, which no LLaVA directory has and CDPruner compares the question with.
public enum CLIPSource: Sendable, Equatable {
  /// The directory of the model's vision encoder, or `clip` in or beside the model's directory, if it has one.
  case automatic
  /// Not used: CDPruner compares the question by the embeddings of the language model.
  case none
  /// A directory as `openai/clip-vit-large-patch14-336`.
  case directory(String)
}

/// An open CLIP directory with the tokenizer of its text encoder.
struct CLIPModel {
  let directory: CLIPDirectory
  let tokenizer: CLIPTokenizer

  /// - Parameter vision: The model's vision encoder, whose features CLIP's projection takes.
  /// - Throws: `CheckpointError`, or `VocabularyError` for the tokenizer.
  private init(_ path: String, for vision: VisionConfiguration?) throws {
    directory = try CLIPDirectory(path)
    let configuration = directory.configuration
    guard let vision, vision.family == .clip, vision.hiddenSize == configuration.visionHiddenSize else {
      throw CLIPError.otherVisionEncoder(
        directory: path, expected: vision.map { "\($0.family.rawValue) of hidden size \($0.hiddenSize)" } ?? "none",
        found: configuration.visionHiddenSize)
    }
    tokenizer = try CLIPTokenizer(directory: URL(filePath: path, directoryHint: .isDirectory))
    guard tokenizer.vocabularySize <= configuration.vocabularySize else {
      throw CLIPError.vocabulary(
        directory: path, tokens: tokenizer.vocabularySize, rows: configuration.vocabularySize)
    }
  }

  /// The CLIP directory of a model; `nil` without one.
  ///
  /// - Parameter notes: Receives the reason that a directory was found but not used.
  /// - Throws: Errors of a directory that the user named.
  static func open(_ source: CLIPSource, for files: any ModelFiles, notes: inout [LoadNote]) throws -> CLIPModel? {
    switch source {
    case .none: return nil
    case .directory(let path): return try CLIPModel(path, for: files.configuration.vision)
    case .automatic:
      for path in CLIPDirectory.candidates(files) {
        do { return try CLIPModel(path, for: files.configuration.vision) } catch {
          notes.append(.unusedCLIP("\(error)"))
        }
      }
      return nil
    }
  }
}

/// A CLIP directory that does not belong to the model.
public enum CLIPError: UserFacingError, Equatable {
  case otherVisionEncoder(directory: String, expected: String, found: Int)
  case vocabulary(directory: String, tokens: Int, rows: Int)

  public var category: ErrorCategory { .model }

  public var problem: String {
    switch self {
    case .otherVisionEncoder(let directory, let expected, let found):
      "\(directory): expected the CLIP of the model's vision encoder (\(expected)), found one of hidden size \(found); "
        + "give the CLIP directory that the model was trained with"
    case .vocabulary(let directory, let tokens, let rows):
      "\(directory): the tokenizer has \(tokens) tokens, the weights only \(rows); the files do not belong together"
    }
  }
}
