import Foundation
public import ImageProcessing
import Kernels
package import LLaVA
import ModelFormats
import Storage
public import Tokenizers

/// A model directory, loaded: weights, tokenizer, chat template and image preparation.
///
/// Never changes, so any number of sessions may share it. Weights stay on disk and are mapped.
public struct VisionLanguageModel: Sendable {
  /// How a directory is to be read.
  public struct Options: Sendable {
    public var imageMode = ImageMode.auto
    /// The chat template; `nil` for the directory's own.
    public var template: ChatTemplate?
    /// The CLIP directory of an original LLaVA checkpoint without a vision encoder of its own; `nil` to look for it beside the model.
    public var visionTower: String?
    public var precision = Precision.auto
    /// For the vision encoder and the projector; `auto` follows `precision`, but does not quantise.
    public var visionPrecision = Precision.auto
    public var cachePrecision = CachePrecision.auto
    /// A folder that keeps converted weights for the next load, made if it is not there; `nil` to convert them each time.
    public var weightsCache: String?
    /// A folder that keeps encoded images from one run to the next; `nil` to encode them each time.
    public var featureCache: FeatureCacheOptions?
    /// How many threads convert weights.
    public var threads = ProcessInfo.processInfo.activeProcessorCount

    public init() {}
  }

  /// The directory's name.
  public let name: String
  public let tokenizer: Tokenizer
  /// The chat template and what it was chosen by.
  public let templateDetection: ChatTemplateDetection
  public let preprocessor: any ImagePreprocessor
  /// Tokens that end an answer.
  public let eosTokens: Set<Int>
  /// Stored tensors that the model has no use for, which may mean that the directory is not what it seems.
  public let unusedTensors: [String]
  /// Bytes of all weights as they are kept for computing.
  public let weightBytes: Int
  /// What the weights are multiplied in.
  public let precision: ModelPrecision
  /// What became of `Options.weightsCache`; `nil` where none was asked for.
  public let weightsCache: WeightsCacheStatistics?
  /// The CLIP directory whose weights the vision encoder has; `nil` where the model brings its own.
  public let visionTower: String?
  public let loadTime: Duration
  package let llava: LLaVAModel
  let identity = ModelIdentity()
  package let featureCache: FeatureCache?

  /// Loads a LLaVA directory, in the Hugging Face layout or as the original LLaVA code writes it.
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
      let files = try ModelDirectory(directory, visionTower: options.visionTower)
      let url = URL(filePath: directory, directoryHint: .isDirectory)
      var configuration = files.configuration
      var vocabulary = try Vocabulary.load(directory: url)
      if configuration.layout == .original {
        configuration.imageTokenID = Int(vocabulary.imageToken(orElse: Int32(LLaVAConfiguration.imageSentinel)))
      }
      let storedBytes = files.checkpoint.byteCount + (files.visionTower.checkpoint?.byteCount ?? 0)
      precision = ModelPrecision(
        options.precision, vision: options.visionPrecision, cache: options.cachePrecision, weightBytes: storedBytes)
      let workers = Workers(count: options.threads)
      let cache = options.weightsCache.map { [computeType = precision.computeType] in
        WeightsCache(
          directory: $0, sources: [files.checkpoint] + (files.visionTower.checkpoint.map { [$0] } ?? []),
          computeType: computeType.label, workers: workers)
      }
      llava = try LLaVAModel(
        files.checkpoint, configuration, visionTower: files.visionTower.checkpoint, computeType: precision.computeType,
        workers: workers, cache: cache)
      weightsCache = (cache?.finish()).map(WeightsCacheStatistics.init)
      tokenizer = Tokenizer(vocabulary)
      templateDetection =
        try options.template.map { ChatTemplateDetection($0, .given) } ?? ChatTemplateDetection(directory: url)
        ?? ChatTemplateDetection(
          modelType: configuration.modelType, textModelType: configuration.text.kind.rawValue,
          vocabularySize: configuration.text.vocabularySize, name: name)
      preprocessor = try configuration.preprocessor(files.preprocessor(), mode: options.imageMode)
      featureCache = options.featureCache.map { [llava, preprocessor, precision] in
        FeatureCache($0, FeatureCache.Model(files, llava, preprocessor, precision))
      }
      eosTokens = try files.eosTokens() ?? Set(tokenizer.eosToken.map { [Int($0)] } ?? [])
      unusedTensors = llava.unusedTensors(of: files.checkpoint)
      weightBytes = llava.weightBytes
      visionTower = files.visionTower.checkpoint == nil ? nil : files.visionTower.directory
    } catch {
      throw ModelError(loading: error)
    }
    if let token = tokenizer.imageToken, Int(token) != llava.configuration.imageTokenID {
      throw ModelError(
        GenerationError.imageTokenMismatch(tokenizer: Int(token), configuration: llava.configuration.imageTokenID))
    }
    loadTime = ContinuousClock.now - start
  }

  /// What `Options.featureCache` has done so far; `nil` where there is none.
  public var featureCacheReport: FeatureCacheStatistics? { featureCache?.report }
  public var template: ChatTemplate { templateDetection.template }
  public var layerCount: Int { llava.configuration.text.layerCount }
  /// The token that stands for an image in a prompt.
  public var imageToken: Int { llava.configuration.imageTokenID }
  /// The longest sequence that the model was made for.
  public var contextLength: Int { llava.configuration.text.contextLength }
}

/// What became of the cache of converted weights while a model was loaded.
public struct WeightsCacheStatistics: Sendable, Equatable, CustomStringConvertible {
  /// Whether all converted weights came from the cache.
  public let wasUsed: Bool
  /// Whether the cache could not be kept, so that the next load is no faster.
  public let hasFailed: Bool
  /// One line: which file was used, or written and why, or what is in the way.
  public let description: String

  init(_ outcome: WeightsCache.Outcome) {
    (wasUsed, hasFailed) =
      switch outcome {
      case .used: (true, false)
      case .failed: (false, true)
      case .notNeeded, .written, .leftToAnother: (false, false)
      }
    description = "\(outcome)"
  }
}
