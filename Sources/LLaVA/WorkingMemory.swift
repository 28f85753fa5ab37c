package import Kernels
package import ModelFormats

/// Bytes that computing takes beside weights and caches, by the shapes of what is computed.
package struct WorkingMemory: Sendable, Equatable {
  /// The decoder's, which stays from one request to the next.
  package let decoder: Int
  /// The vision tower's and the projector's, and the features on their way into the prompt.
  package let tower: Int

  package var total: Int { decoder + tower }

  /// - Parameters:
  ///   - rows: Of the longest prompt.
  ///   - views: Of the picture with the most of them.
  ///   - visualTokens: Of all pictures of a prompt.
  ///   - sequences: Decoded together.
  package init(_ model: LLaVAModel, rows: Int, views: Int, visualTokens: Int, sequences: Int) {
    let (text, vision) = (model.configuration.text, model.configuration.vision)
    let float = ElementType.f32.byteCount
    func converted(_ arithmetic: Arithmetic) -> Int {
      switch arithmetic {
      case .f32: 0
      case .bf16: 2
      case .int8: 1
      }
    }

    // The matrices of `DecoderState`, a product's input in the numbers that it multiplies, and logits, twice.
    let heads = text.heads
    let columns = 2 * text.hiddenSize + 2 * heads.queryColumns + 2 * heads.keyValueColumns + 2 * text.intermediateSize
    let input =
      converted(model.languageModel.layers.first?.queries.arithmetic ?? .f32)
      * max(text.hiddenSize, text.intermediateSize)
    decoder = rows * (float * columns + input) + 2 * float * sequences * text.vocabularySize

    // The matrices of `VisionScratch` and their source, the pixels and the patches cut from them, and the projector's.
    let (towerRows, side) = (views * (1 + vision.patchCount), vision.imageSize)
    let towerColumns = 7 * vision.hiddenSize + vision.intermediateSize
    let towerInput =
      converted(model.vision.layers.first?.queries.arithmetic ?? .f32) * max(vision.hiddenSize, vision.intermediateSize)
    let embedding = float * 2 * views * 3 * side * side
    let projector = float * 2 * towerRows * text.hiddenSize
    tower =
      towerRows * (float * towerColumns + towerInput) + embedding + projector
      + 2 * float * visualTokens * text.hiddenSize
  }
}

extension KVCache {
  /// Bytes of caches that hold so many rows in each layer.
  package static func byteCount(
    rowsPerLayer: [Int], _ configuration: TextConfiguration, element: ElementType
  ) -> Int {
    rowsPerLayer.reduce(0, +) * 2 * configuration.heads.keyValueColumns * element.byteCount
  }
}
