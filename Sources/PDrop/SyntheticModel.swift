import Foundation
import ImageProcessing
import Kernels
import LLaVA
package import ModelFormats
import Tokenizers

extension VisionLanguageModel {
  /// A model of a given shape with random weights, which costs as much as a real one; its answers are noise.
  ///
  /// Weights are f32 for the compute type f32 and otherwise bf16, from which int8 and int4 are quantized as usual.
  ///
  /// - Parameters:
  ///   - name: The model's name in reports.
  ///   - distinctLayers: Whether each layer has weights of its own; otherwise all share those of the first, in a
  ///     fraction of the memory.
  ///   - options: Precision and threads; other options are not used.
  package init(
    synthetic configuration: LLaVAConfiguration, name: String, distinctLayers: Bool = false,
    options: Options = Options()
  ) throws(ModelError) {
    let start = ContinuousClock.now
    let workers = Workers(count: options.threads)
    precision = ModelPrecision(
      options.precision, vision: options.visionPrecision, cache: options.cachePrecision,
      scores: options.scorePrecision,
      weights: StoredWeights(
        byteCount: 2 * configuration.parameterCount, valueCount: configuration.parameterCount),
      memory: nil)
    let weights = SyntheticWeights(
      element: precision.computeType == ModelComputeTypes(.f32) ? .f32 : .bf16, sharesLayers: !distinctLayers,
      workers: workers)
    do {
      llava = try LLaVAModel(
        Checkpoint(weights), configuration, computeType: precision.computeType, workers: workers)
      preprocessor = try configuration.preprocessor(nil, mode: .auto)
    } catch {
      throw ModelError(loading: error, in: name)
    }
    self.name = name
    tokenizer = Tokenizer(
      .specialTokensOnly(
        imageToken: Int32(configuration.imageTokenID),
        before: configuration.imageSplitting == nil ? [] : TileMarkers.published))
    // Every character is a token, so the shortest template gives prompts of a realistic length.
    templateDetection = ChatTemplateDetection(.mistralInstruct, .nothing)
    eosTokens = []
    eosTokensFile = nil
    unusedTensors = []
    notes = []
    weightBytes = llava.weightBytes
    weightsCache = nil
    featureCache = nil
    promptCache = nil
    visionTower = nil
    (clipDirectory, clipTokenizer) = (nil, nil)
    ggufFiles = []
    loadTime = ContinuousClock.now - start
  }
}

extension Vocabulary {
  /// A vocabulary of special tokens and byte tokens only.
  ///
  /// - Parameter others: Added tokens with the ids before that of the image token.
  fileprivate static func specialTokensOnly(imageToken: Int32, before others: [String]) -> Vocabulary {
    let first = imageToken - Int32(others.count)
    return Vocabulary(
      tokens: [], merges: [:],
      addedTokens: (others + ["<image>"]).enumerated().map { index, text in
        AddedToken(id: first + Int32(index), content: text, isSpecial: true)
      },
      byteTokens: [], normalizer: Normalizer(prependScheme: .never),
      specialTokens: SpecialTokens(bos: 1, eos: 2, unk: 0, pad: nil, image: imageToken), fusesUNK: false)
  }
}
