internal import Kernels

/// The shapes of published checkpoints, to measure their cost without having them.
package enum PublishedShape: String, CaseIterable, Sendable {
  case llava15With7B = "llava-1.5-7b"
  case llava15With13B = "llava-1.5-13b"
  case llavaNext7B = "llava-next-7b"
  case llavaNextMistral7B = "llava-next-mistral-7b"

  package var configuration: LLaVAConfiguration {
    LLaVAConfiguration(
      layout: .huggingFace, modelType: isNext ? "llava_next" : "llava", imageTokenID: 32_000, visionFeatureLayer: -2,
      dropsClassToken: true, projectorActivation: .gelu, projectorHasBias: true, tiesWordEmbeddings: false,
      anyResolution: isNext ? .released : nil, text: text, vision: .clipLarge336)
  }

  private var isNext: Bool { self == .llavaNext7B || self == .llavaNextMistral7B }

  /// Source: the `config.json` files of `llava-hf/llava-1.5-{7b,13b}-hf` and `llava-hf/llava-v1.6-{vicuna,mistral}-7b-hf`.
  private var text: TextConfiguration {
    var text = TextConfiguration(
      kind: .llama, hiddenSize: 4096, intermediateSize: 11_008, layerCount: 32, headCount: 32, keyValueHeadCount: 32,
      headDimension: 128, vocabularySize: 32_064, contextLength: 4096, rmsNormEpsilon: 1e-5, ropeTheta: 10_000)
    switch self {
    case .llava15With7B, .llavaNext7B: break
    case .llava15With13B:
      (text.hiddenSize, text.intermediateSize, text.layerCount) = (5120, 13_824, 40)
      (text.headCount, text.keyValueHeadCount) = (40, 40)
    case .llavaNextMistral7B:
      text.kind = .mistral
      (text.intermediateSize, text.keyValueHeadCount) = (14_336, 8)
      (text.contextLength, text.ropeTheta) = (32_768, 1e6)
    }
    return text
  }
}

extension VisionConfiguration {
  /// CLIP ViT-L/14 at 336 pixels, the tower of all published LLaVA models.
  fileprivate static let clipLarge336 = VisionConfiguration(
    hiddenSize: 1024, intermediateSize: 4096, layerCount: 24, headCount: 16, imageSize: 336, patchSize: 14,
    layerNormEpsilon: 1e-5, activation: .quickGELU)
}

extension AnyResolution {
  /// The canvases of the released LLaVA-NeXT models.
  fileprivate static let released = AnyResolution(
    pinpoints: releasedPinpoints, viewSize: 336, patchesPerSide: 24, arithmetic: .huggingFace)
}
