import Foundation
import ImageProcessing
import Kernels
import LLaVA
package import ModelFormats
import Tokenizers

extension VisionLanguageModel {
  /// A model of a given shape with random weights: its answers are noise, its cost is the real one's.
  ///
  /// Weights are in f32 for products in f32 and else in bf16, from which int8 is quantised as for real ones.
  ///
  /// - Parameters:
  ///   - name: What reports call it.
  ///   - distinctLayers: Whether each layer has weights of its own; else the first one's serve all, in a fraction of the memory.
  ///   - options: Precision and threads; the rest is for directories.
  package init(
    synthetic configuration: LLaVAConfiguration, name: String, distinctLayers: Bool = false,
    options: Options = Options()
  ) throws(ModelError) {
    let start = ContinuousClock.now
    let workers = Workers(count: options.threads)
    precision = ModelPrecision(
      options.precision, vision: options.visionPrecision, cache: options.cachePrecision,
      weightBytes: 2 * configuration.parameterCount)
    let weights = SyntheticWeights(
      element: precision.computeType == ModelComputeTypes(.f32) ? .f32 : .bf16, sharesLayers: !distinctLayers,
      workers: workers)
    do {
      llava = try LLaVAModel(
        Checkpoint(weights), configuration, computeType: precision.computeType, workers: workers)
      preprocessor = try configuration.preprocessor(nil, mode: .auto)
    } catch {
      throw ModelError(loading: error)
    }
    self.name = name
    tokenizer = Tokenizer(.wordless(imageToken: Int32(configuration.imageTokenID)))
    // Every character is a token to it: the shortest format makes prompts about as long as words would.
    templateDetection = ChatTemplateDetection(.mistralInstruct, .nothing)
    eosTokens = []
    unusedTensors = []
    weightBytes = llava.weightBytes
    weightsCache = nil
    featureCache = nil
    visionTower = nil
    loadTime = ContinuousClock.now - start
  }
}

extension Vocabulary {
  /// No words at all, only the tokens that mean something to the program.
  fileprivate static func wordless(imageToken: Int32) -> Vocabulary {
    Vocabulary(
      pieces: [], merges: [:], addedTokens: [AddedToken(id: imageToken, content: "<image>", isSpecial: true)],
      bytePieces: [], preparation: Normalizer(prefix: .never),
      specialTokens: SpecialTokens(bos: 1, eos: 2, unk: 0, pad: nil, image: imageToken), fusesUNK: false)
  }
}
