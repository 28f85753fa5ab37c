import Foundation
public import ImageProcessing
import Kernels
package import LLaVA
import ModelFormats
import Storage
public import Tokenizers

/// A loaded LLaVA model: weights, tokenizer, chat template and image preprocessor.
///
///     var options = VisionLanguageModel.Options()
///     options.precision = .int8
///     let model = try VisionLanguageModel(directory: "Models/tiny-textvqa", options: options)
///     print(model.template.name, model.contextLength, model.precision.reason)
///     var session = try Session(model, Request(question: "Hello"), threads: 4)
///     while let text = try session.next() { print(text, terminator: "") }
///
/// The model is immutable, so any number of sessions may share it. Weights that need no conversion stay mapped from
/// disk.
public struct VisionLanguageModel: Sendable {
  /// Options for loading a model.
  ///
  /// A language model in GGUF takes its vision encoder from a second file:
  ///
  ///     var options = VisionLanguageModel.Options()
  ///     options.mmproj = folder + "/mmproj-tiny-q4_k.gguf"  // not needed for the only one beside the model
  ///     let model = try VisionLanguageModel(directory: folder + "/tiny-q4_k.gguf", options: options)
  public struct Options: Sendable {
    /// Image preprocessing; `auto` for that of the directory.
    public var imageMode = ImageMode.auto
    /// Maximum tiles of an image, in models with tiles; `nil` for as many as the model allows. Fewer tiles than the model
    /// was trained with are faster and show less detail.
    public var maxTiles: Int?
    /// The chat template; `nil` for the directory's own.
    public var template: ChatTemplate?
    /// The CLIP or SigLIP directory for an original LLaVA checkpoint without a vision encoder; `nil` to search next to
    /// the model.
    public var visionTower: String?
    /// The GGUF file of the vision encoder and the projector for a model in GGUF; `nil` for the only one beside it.
    public var mmproj: String?
    /// CLIP's text encoder for the relevance of CDPruner.
    public var clipModel = CLIPSource.automatic
    /// Compute type of the decoder.
    public var precision = Precision.auto
    /// Compute type of the vision encoder and the projector; `auto` follows `precision`, but does not quantize.
    public var visionPrecision = Precision.auto
    /// Data type of the KV cache.
    public var cachePrecision = CachePrecision.auto
    /// Data type of attention scores.
    public var scorePrecision = ScorePrecision.auto
    /// Folder of converted weights for later loads, created if it does not exist; `nil` to convert weights at every
    /// load.
    public var weightsCache: String?
    /// Folder of encoded images for later runs; `nil` to encode images in every run.
    public var featureCache: FeatureCacheOptions?
    /// Folder of prefilled prompts for later requests and runs; `nil` to compute every prompt.
    public var promptCache: PromptCacheOptions?
    /// Number of threads that convert weights.
    public var threads = ProcessInfo.processInfo.activeProcessorCount

    public init() {}
  }

  /// The name of the directory, or of the GGUF file without its extension.
  public let name: String
  public let tokenizer: Tokenizer
  /// The chat template and the reason for the choice.
  public let templateDetection: ChatTemplateDetection
  /// The image preprocessor; `nil` for a language model without a vision encoder, which takes no images.
  public let preprocessor: (any ImagePreprocessor)?
  /// The EOS tokens, which end an answer.
  public let eosTokens: Set<Int>
  /// The file that defines `eosTokens`; `nil` for the EOS token of the tokenizer.
  public let eosTokensFile: String?
  /// Names of stored tensors that are not used, which may indicate a model of another kind.
  public let unusedTensors: [String]
  let notes: [LoadNote]
  /// Bytes of all weights after conversion.
  public let weightBytes: Int
  /// Compute types of the model.
  public let precision: ModelPrecision
  /// Result of `Options.weightsCache`; `nil` if it is not set.
  public let weightsCache: WeightsCacheStatistics?
  /// The CLIP or SigLIP directory of the vision encoder's weights; `nil` if the model includes them.
  public let visionTower: String?
  /// The directory of CLIP's text encoder, which CDPruner compares the question with; `nil` for the embeddings of the
  /// language model.
  public let clipDirectory: String?
  let clipTokenizer: CLIPTokenizer?
  /// The GGUF files of the model, that of the language model first; empty for other models.
  package let ggufFiles: [String]
  public let loadTime: Duration
  package let llava: LLaVAModel
  let identity = ModelIdentity()
  let grammars = GrammarCache()
  package let featureCache: FeatureCache?
  package let promptCache: PromptCache?

  /// Loads a LLaVA model: a directory in the layout of Hugging Face or of the original LLaVA code, the GGUF file of a
  /// language model, or a directory with one such file and that of its vision encoder.
  ///
  /// - Throws: `ModelError` naming the file, what was expected, what was found and the remedy.
  public init(directory: String, options: Options = Options()) throws(ModelError) {
    let start = ContinuousClock.now
    let url = URL(filePath: directory).standardizedFileURL
    do {
      let files = try ModelSearch.open(directory, visionTower: options.visionTower, mmproj: options.mmproj)
      name = files.metadata == nil ? url.lastPathComponent : url.deletingPathExtension().lastPathComponent
      ggufFiles = files.ggufFiles
      var configuration = files.configuration
      let loaded = try ModelVocabulary(files)
      var vocabulary = loaded.vocabulary
      if configuration.layout == .huggingFace {
        guard let token = vocabulary.specialTokens.image else {
          throw GenerationError.noImageToken(
            configuration: configuration.imageTokenID,
            text: Int32(exactly: configuration.imageTokenID).flatMap { Tokenizer(vocabulary).pieces(of: [$0])[0] })
        }
        guard Int(token) == configuration.imageTokenID else {
          throw GenerationError.imageTokenMismatch(tokenizer: Int(token), configuration: configuration.imageTokenID)
        }
      } else {
        configuration.imageTokenID = Int(vocabulary.imageToken(orElse: Int32(LLaVAConfiguration.imageSentinel)))
      }
      try configuration.limitTiles(to: options.maxTiles)
      var clipNotes: [LoadNote] = []
      let clip = try CLIPModel.open(options.clipModel, for: files, notes: &clipNotes)
      configuration.clip = clip?.directory.configuration
      (clipDirectory, clipTokenizer) = (clip?.directory.path, clip?.tokenizer)
      let checkpoints = [files.checkpoint] + (files.visionCheckpoint.map { [$0] } ?? [])
      precision = ModelPrecision(
        options.precision, vision: options.visionPrecision, cache: options.cachePrecision,
        scores: options.scorePrecision, weights: StoredWeights(checkpoints))
      let workers = Workers(count: options.threads)
      let cache = options.weightsCache.map { [computeType = precision.computeType] in
        WeightsCache(
          directory: $0, sources: checkpoints, computeType: computeType.label, workers: workers)
      }
      llava = try LLaVAModel(
        files.checkpoint, configuration, visionTower: files.visionCheckpoint, clip: clip?.directory.checkpoint,
        computeType: precision.computeType, workers: workers, cache: cache)
      weightsCache = (cache?.finish()).map(WeightsCacheStatistics.init)
      tokenizer = Tokenizer(vocabulary)
      templateDetection = try ChatTemplateDetection(
        given: options.template, tokenizer,
        files: { [tokenizer] () throws(PromptError) in try loaded.chatTemplates(tokenizer) },
        family: ChatTemplateDetection(
          modelType: configuration.modelType, textModelType: configuration.text.kind.rawValue,
          architectures: configuration.architectures, nameOrPath: configuration.nameOrPath,
          vocabularySize: configuration.text.vocabularySize,
          name: files.ggufFiles.first.map { URL(filePath: $0).deletingPathExtension().lastPathComponent } ?? name,
          isGGUF: !files.ggufFiles.isEmpty))
      preprocessor = try configuration.preprocessor(files.preprocessor(), mode: options.imageMode)
      featureCache = options.featureCache.flatMap { [llava, preprocessor, precision] options in
        preprocessor.map { FeatureCache(options, FeatureCache.Model(files, llava, $0, precision)) }
      }
      promptCache = options.promptCache.map { [preprocessor, precision] options in
        PromptCache(
          options, clipKey: clip.map { "\($0.directory.checkpoint.contentKey) \($0.directory.configuration)" },
          modelKey: ModelKey.checksum(
            files,
            [
              "images \(preprocessor?.summary ?? "none")", "compute types \(precision.computeType.label)",
              "KV cache \(precision.cacheType.rawValue)",
            ] + precision.scoresKey))
      }
      let configured = try loaded.eosTokens ?? files.eosTokens()
      eosTokens = configured?.tokens ?? Set(tokenizer.eosToken.map { [Int($0)] } ?? [])
      eosTokensFile = configured?.file
      unusedTensors = llava.unusedTensors(of: files.checkpoint)
      let imageToken = vocabulary.addedTokens.first { $0.id == vocabulary.specialTokens.image }?.content
      notes =
        try files.notes(imageToken: imageToken ?? "<image>") + clipNotes
        + LoadNote.notes(unusedTensors: unusedTensors, layerCount: configuration.text.layerCount)
      weightBytes = llava.weightBytes
      for checkpoint in checkpoints { checkpoint.releasePages() }
      clip?.directory.checkpoint.releasePages()
      visionTower = files.visionCheckpoint == nil ? nil : files.visionDirectory
    } catch {
      throw ModelError(loading: error, in: directory)
    }
    loadTime = ContinuousClock.now - start
  }

  /// Counts of the feature cache so far; `nil` without `Options.featureCache`.
  public var featureCacheStatistics: FeatureCacheStatistics? { featureCache?.report }
  /// Counts of the prompt cache so far; `nil` without `Options.promptCache`.
  public var promptCacheStatistics: PromptCacheStatistics? { promptCache?.report }
  /// Remarks about the directory's files that may explain unexpected answers, one line each.
  package var warnings: [String] {
    notes.filter(\.isWarning).map(\.description) + (precision.memoryNote.map { [$0] } ?? [])
  }
  /// All other remarks about the directory's files.
  package var remarks: [String] { notes.filter { !$0.isWarning }.map(\.description) }
  public var template: ChatTemplate { templateDetection.template }
  /// Number of decoder layers.
  public var layerCount: Int { llava.configuration.text.layerCount }
  /// The token that represents an image in a prompt.
  public var imageToken: Int { llava.configuration.imageTokenID }
  /// Context length of the model in tokens, images included.
  public var contextLength: Int { llava.configuration.text.contextLength }
}

/// Result of the weights cache while a model was loaded.
public struct WeightsCacheStatistics: Sendable, Equatable, CustomStringConvertible {
  /// Whether all converted weights came from the cache.
  public let wasUsed: Bool
  /// Whether the cache could not be written, so that the next load will convert again.
  public let hasFailed: Bool
  /// Description in one line: the file that was used or written and why, or the error.
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
