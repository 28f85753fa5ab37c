import Kernels
import ModelFormats

/// What the selection of visual tokens needs to know of an image besides its features.
package struct SelectionInputs: Sendable, Equatable {
  /// Features of the patches of all views, as the projector sees them, `[views · patches, C]`.
  package var patchFeatures: [Float]
  /// Columns of the features, `C`.
  package var columns: Int
  /// Attention of the class token to each patch in the second last layer, mean over heads, `[views · patches]`; empty
  /// for a vision encoder without class token.
  package var classAttention: [Float]
  /// The same in an early layer, the sixth of 24.
  package var localAttention: [Float]

  package init(patchFeatures: [Float], columns: Int, classAttention: [Float], localAttention: [Float]) {
    (self.patchFeatures, self.columns) = (patchFeatures, columns)
    (self.classAttention, self.localAttention) = (classAttention, localAttention)
  }

  package var byteCount: Int {
    (patchFeatures.count + classAttention.count + localAttention.count) * ElementType.f32.byteCount
  }
}

/// The attention of the class token in two layers of the vision encoder, recorded while it runs.
package struct ClassAttention: Sendable {
  /// `[views · patches]`.
  package fileprivate(set) var local: [Float] = []
  package fileprivate(set) var global: [Float] = []

  package init() {}

  /// The 0-based layers of both, or the last that runs: 5 and 22 of 24.
  static func layers(_ configuration: VisionConfiguration, running count: Int) -> (local: Int, global: Int) {
    let global = min(max(configuration.layerCount - 2, 0), max(count - 1, 0))
    return (min(max(configuration.layerCount / 4 - 1, 0), global), global)
  }

  /// Appends the attention after a layer, whose queries and keys are in its working memory.
  ///
  /// The operations are those of a selection, which counts them where it uses the result.
  mutating func record(
    layer: Int, of count: Int, _ scratch: borrowing EncoderScratch, views: Int, _ configuration: VisionConfiguration,
    on compute: ComputeContext
  ) {
    let layers = Self.layers(configuration, running: count)
    guard layer == layers.local || layer == layers.global else { return }
    let ledger = compute.ledger
    defer { compute.ledger = ledger }
    let rowsPerView = configuration.rowsPerView
    var attention: [Float] = []
    for view in 0..<views {
      let first = view * rowsPerView
      var query = Matrix(rows: 0, columns: configuration.hiddenSize)
      var keys = Matrix(rows: 0, columns: configuration.hiddenSize)
      query.assign(scratch.queries, rows: first..<first + 1)
      keys.assign(scratch.keys, rows: first..<first + rowsPerView)
      attention += columnMeans(
        compute.lastRowProbabilities(queries: query, keys: keys, heads: configuration.heads)
      ).dropFirst()
    }
    if layer == layers.local { local += attention }
    if layer == layers.global { global += attention }
  }
}
