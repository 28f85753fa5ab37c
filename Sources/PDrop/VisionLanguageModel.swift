internal import Foundation
internal import Kernels
internal import LLaVA
internal import ModelFormats

/// A model directory, loaded: weights, tokenizer, prompt format and picture preparation.
///
/// Never changes, so any number of sessions may share it. Weights stay on disk and are mapped.
public struct VisionLanguageModel: Sendable {
  /// How a directory is to be read.
  public struct Options: Sendable {
    public var imageMode = ImageMode.auto
    /// The prompt format; `nil` for the directory's own.
    public var template: PromptTemplate?

    public init() {}
  }

  /// The directory's name.
  public let name: String
  public let tokenizer: Tokenizer
  /// The prompt format and what it was chosen by.
  public let templateChoice: TemplateChoice
  public let preprocessor: any ImagePreprocessor
  /// Tokens that end an answer.
  public let endTokens: Set<Int>
  /// Stored tensors that the model has no use for, which may mean that the directory is not what it seems.
  public let unusedTensors: [String]
  /// Bytes of all stored weights.
  public let weightBytes: Int
  public let loadTime: Duration
  let llava: LLaVAModel
  let identity = ModelIdentity()

  /// Loads a LLaVA directory in the Hugging Face layout.
  ///
  /// - Throws: `ModelError` naming the file, what was expected, what was found and the remedy.
  public init(directory: String, options: Options = Options()) throws(ModelError) {
    let start = ContinuousClock.now
    var isDirectory = false
    guard FileManager.default.fileExists(atPath: directory, isDirectory: &isDirectory), isDirectory else {
      throw ModelError(CheckpointError.notADirectory(path: directory))
    }
    name = URL(filePath: directory).standardizedFileURL.lastPathComponent
    do {
      let configuration = try LLaVAConfiguration(directory: directory)
      let checkpoint = try Checkpoint(directory: directory)
      let url = URL(filePath: directory, directoryHint: .isDirectory)
      llava = try LLaVAModel(checkpoint, configuration)
      tokenizer = try Tokenizer(directory: url)
      templateChoice =
        try options.template.map { TemplateChoice($0, .given) } ?? TemplateChoice(directory: url)
        ?? TemplateChoice(
          modelType: configuration.modelType, textModelType: configuration.text.modelType,
          vocabularySize: configuration.text.vocabularySize, name: name)
      let preparation = try JSONFile.readIfPresent(
        PreprocessorConfiguration.self, at: directory + "/preprocessor_config.json")
      preprocessor = try configuration.preprocessor(preparation, mode: options.imageMode)
      endTokens = try Self.endTokens(directory, tokenizer)
      unusedTensors = llava.unusedTensors(of: checkpoint)
      weightBytes = checkpoint.byteCount
    } catch {
      throw ModelError(error)
    }
    if let token = tokenizer.imageToken, Int(token) != llava.configuration.imageTokenID {
      throw ModelError(
        GenerationError.imageTokenMismatch(tokenizer: Int(token), configuration: llava.configuration.imageTokenID))
    }
    loadTime = ContinuousClock.now - start
  }

  public var template: PromptTemplate { templateChoice.template }
  public var layerCount: Int { llava.configuration.text.layerCount }
  /// The token that stands for a picture in a prompt.
  public var imageToken: Int { llava.configuration.imageTokenID }
  /// The longest sequence that the model was made for.
  public var contextLength: Int { llava.configuration.text.contextLength }

  /// The end tokens of `generation_config.json`, one or several, or else the tokenizer's.
  private static func endTokens(_ directory: String, _ tokenizer: Tokenizer) throws(CheckpointError) -> Set<Int> {
    struct File: Decodable {
      var eos_token_id: OneOrMore?
    }
    enum OneOrMore: Decodable {
      case one(Int)
      case more([Int])

      init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let one = try? container.decode(Int.self) {
          self = .one(one)
        } else {
          self = .more(try container.decode([Int].self))
        }
      }
    }
    switch try JSONFile.readIfPresent(File.self, at: directory + "/generation_config.json")?.eos_token_id {
    case .one(let token): return [token]
    case .more(let tokens): return Set(tokens)
    case nil: return Set(tokenizer.endToken.map { [Int($0)] } ?? [])
    }
  }
}

/// A model directory that cannot be used: one line that names the file, what was expected and what was found.
public struct ModelError: Error, CustomStringConvertible {
  public let underlying: any Error

  init(_ underlying: any Error) { self.underlying = underlying }

  public var description: String { "\(underlying)" }
}
