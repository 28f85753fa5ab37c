package import Kernels

/// The shapes of published checkpoints, for cost measurements without their weights.
package enum ModelPreset: String, CaseIterable, Sendable {
  case llava15With7B = "llava-1.5-7b"
  case llava15With13B = "llava-1.5-13b"
  case llavaNext7B = "llava-next-7b"
  case llavaNextMistral7B = "llava-next-mistral-7b"

  /// LLaVA-NeXT-7B with canvases of up to eight tiles: the shape of PyramidDrop's Table 2. Its list of canvases is not
  /// published.
  case llavaNext7BWith9Patches = "llava-next-7b-p9"
  case llavaOneVision05B = "llava-onevision-0.5b"
  case llavaOneVision7B = "llava-onevision-7b"
  case smolVLM256M = "smolvlm-256m"
  case smolVLM500M = "smolvlm-500m"

  package var configuration: LLaVAConfiguration {
    switch self {
    case .smolVLM256M, .smolVLM500M: smolVLM
    case .llavaOneVision05B, .llavaOneVision7B: oneVision
    default: llava
    }
  }

  private var smolVLM: LLaVAConfiguration {
    LLaVAConfiguration(
      layout: .huggingFace, modelType: "smolvlm", imageTokenID: 49_190, visionFeatureLayer: -1, dropsClassToken: false,
      projectorActivation: .gelu, projectorHasBias: false, tiesWordEmbeddings: false,
      imageSplitting: ImageSplitting(for: .smolVLM512), pixelShuffle: 4, text: text, vision: .smolVLM512)
  }

  private var llava: LLaVAConfiguration {
    let anyResolution: AnyResolution? =
      switch self {
      case .llavaNext7B, .llavaNextMistral7B: .released
      case .llavaNext7BWith9Patches: .upToEightTiles
      default: nil
      }
    return LLaVAConfiguration(
      layout: .huggingFace, modelType: anyResolution == nil ? "llava" : "llava_next", imageTokenID: 32_000,
      visionFeatureLayer: -2, dropsClassToken: true, projectorActivation: .gelu, projectorHasBias: true,
      tiesWordEmbeddings: false, anyResolution: anyResolution, text: text, vision: .clipLarge336)
  }

  private var oneVision: LLaVAConfiguration {
    LLaVAConfiguration(
      layout: .huggingFace, modelType: "llava_onevision", imageTokenID: 151_646, videoTokenID: 151_647,
      visionFeatureLayer: -1, dropsClassToken: false, projectorActivation: .gelu, projectorHasBias: true,
      tiesWordEmbeddings: self == .llavaOneVision05B, anyResolution: .oneVision, text: text, vision: .siglipSo400m384)
  }

  /// Source: the `config.json` files of `llava-hf/llava-1.5-{7b,13b}-hf`, `llava-hf/llava-v1.6-{vicuna,mistral}-7b-hf`,
  /// `llava-hf/llava-onevision-qwen2-{0.5b,7b}-ov-hf` and `HuggingFaceTB/SmolVLM-{256M,500M}-Instruct`.
  private var text: TextConfiguration {
    var text = TextConfiguration(
      kind: .llama, hiddenSize: 4096, intermediateSize: 11_008, layerCount: 32, headCount: 32, keyValueHeadCount: 32,
      headDimension: 128, vocabularySize: 32_064, contextLength: 4096, rmsNormEpsilon: 1e-5, ropeTheta: 10_000)
    switch self {
    case .llava15With7B, .llavaNext7B: break
    case .llavaNext7BWith9Patches: text.contextLength = 8192
    case .llava15With13B:
      (text.hiddenSize, text.intermediateSize, text.layerCount) = (5120, 13_824, 40)
      (text.headCount, text.keyValueHeadCount) = (40, 40)
    case .llavaNextMistral7B:
      text.kind = .mistral
      (text.intermediateSize, text.keyValueHeadCount) = (14_336, 8)
      (text.contextLength, text.ropeTheta) = (32_768, 1e6)
    case .llavaOneVision05B, .llavaOneVision7B:
      text.kind = .qwen2
      text.attentionBias = .queriesKeysValues
      (text.contextLength, text.ropeTheta, text.rmsNormEpsilon) = (32_768, 1e6, 1e-6)
      if self == .llavaOneVision05B {
        (text.hiddenSize, text.intermediateSize, text.layerCount) = (896, 4864, 24)
        (text.headCount, text.keyValueHeadCount, text.headDimension) = (14, 2, 64)
        text.vocabularySize = 152_000
      } else {
        (text.hiddenSize, text.intermediateSize, text.layerCount) = (3584, 18_944, 28)
        (text.headCount, text.keyValueHeadCount, text.headDimension) = (28, 4, 128)
        text.vocabularySize = 152_128
      }
    case .smolVLM256M, .smolVLM500M:
      (text.contextLength, text.ropeTheta, text.vocabularySize) = (8192, 100_000, 49_280)
      text.headDimension = 64
      if self == .smolVLM256M {
        (text.hiddenSize, text.intermediateSize, text.layerCount) = (576, 1536, 30)
        (text.headCount, text.keyValueHeadCount) = (9, 3)
      } else {
        (text.hiddenSize, text.intermediateSize, text.layerCount) = (960, 2560, 32)
        (text.headCount, text.keyValueHeadCount) = (15, 5)
      }
    }
    return text
  }
}

extension AnyResolution {
  /// The canvases of the released LLaVA-NeXT models.
  fileprivate static let released = AnyResolution(
    pinpoints: releasedPinpoints, viewSize: 336, patchesPerSide: 24, sizeRule: .huggingFace)

  /// All canvases of up to eight tiles.
  fileprivate static let upToEightTiles = AnyResolution(
    pinpoints: grid(from: (1, 1), to: (8, 8), side: 336).filter { $0.0 * $0.1 <= 8 * 336 * 336 }, viewSize: 336,
    patchesPerSide: 24, sizeRule: .huggingFace)

  /// The canvases and the limit of LLaVA-OneVision.
  fileprivate static let oneVision: AnyResolution = {
    var rules = AnyResolution(
      pinpoints: oneVisionPinpoints, viewSize: 384, patchesPerSide: 27, sizeRule: .huggingFace)
    (rules.maxMapViews, rules.tilesOnlySingleImages) = (9, true)
    return rules
  }()
}

/// Random weights, generated on demand for any shape and determined by name and seed.
///
/// The cost of a matmul does not depend on the values, so a model of a published shape can be measured without its
/// weights. Values are scaled so that activations keep their size and stay finite through any number of layers: the
/// weights of a linear layer have a standard deviation of 1 / √inputs, norm weights a mean of 1.
package struct SyntheticWeights: Sendable {
  /// The element type of the tensors, `f32` or `bf16`.
  package let element: ElementType
  /// Whether all layers of a stack share the weights of the first: the same compute time, a fraction of the memory.
  package let sharesLayers: Bool
  package let seed: UInt64
  package let workers: Workers

  package init(element: ElementType, sharesLayers: Bool, seed: UInt64 = 0, workers: Workers) {
    self.element = element
    self.sharesLayers = sharesLayers
    self.seed = seed
    self.workers = workers
  }

  /// The tensor of a name, in the shape that the model expects.
  func tensor(_ name: String, shape: [Int]) -> Tensor {
    let name = sharedName(name) ?? name
    let isVector = shape.count == 1
    let isNormWeight =
      isVector && name.hasSuffix(".weight") && name.split(separator: ".").dropLast().last?.contains("norm") == true
    let inputs = shape.dropFirst().reduce(1, *)
    return Tensor(
      randomShape: shape, mean: isNormWeight ? 1 : 0, deviation: isVector ? 0.02 : 1 / Float(inputs).squareRoot(),
      element: element, seed: seed ^ Self.hash(name), workers: workers)
  }

  /// The corresponding name in the first layer of a stack, `layers.7.mlp` → `layers.0.mlp`; `nil` if layers share no
  /// weights or the name is outside a stack.
  func sharedName(_ name: String) -> String? {
    guard sharesLayers else { return nil }
    var parts = name.split(separator: ".")
    guard let stack = parts.firstIndex(of: "layers"), stack + 1 < parts.count else { return nil }
    parts[stack + 1] = "0"
    return parts.joined(separator: ".")
  }

  /// A hash that is equal in every run, unlike the standard library's.
  ///
  /// Source: the 64-bit FNV-1a hash of Fowler, Noll and Vo.
  private static func hash(_ name: String) -> UInt64 {
    name.utf8.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }
}
