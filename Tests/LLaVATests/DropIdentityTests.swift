import Foundation
import Kernels
import LLaVA
import ModelFormats
import TestSupport
import Testing
import TokenDropping

/// Identities of a drop that hold for any weights.
@Suite struct DropIdentityTests {
  private static let dropLayer = 8

  @Test func `keeping nothing equals running the remaining layers on the text alone`() throws {
    let (golden, _) = try GoldenCase.load("tiny-llava-1.5", "shapes_640x480")
    let whole = try TestModel("tiny-llava-1.5")
    let compute = ComputeContext(workers: Workers(count: 2))
    let text = whole.model.configuration.text

    var state = DecoderState(text)
    var layout = try whole.splice(&state.hidden, golden)
    let policy = PyramidDrop(.listed(layers: [Self.dropLayer], ratios: [0]))
    let plan = try DropPlan(policy, layerCount: text.layerCount, visualTokenCounts: golden.numImageTokens)
    let results = whole.model.languageModel.prefill(&state, KVCache(text), &layout, plan, on: compute)
    let dropped = whole.model.languageModel.logits(state, on: compute)
    #expect(results.map { $0.images[0].kept } == [[]])

    // The first layers run on all rows, then a model of the remaining layers on the text rows.
    let first = try Self.model(layers: 0..<Self.dropLayer)
    var firstState = DecoderState(first.configuration.text)
    layout = try whole.splice(&firstState.hidden, golden)
    let block = layout.visualBlocks[0]
    let image = block.start..<block.end
    _ = first.languageModel.prefill(
      &firstState, KVCache(first.configuration.text), &layout, .none, after: nil, on: compute)

    let rest = try Self.model(layers: Self.dropLayer..<text.layerCount)
    var restState = DecoderState(rest.configuration.text)
    restState.hidden.append(firstState.hidden)
    restState.hidden.keepRows((0..<layout.rowCount).filter { !image.contains($0) })
    var textLayout = SequenceLayout(rowCount: restState.hidden.rows)
    _ = rest.languageModel.prefill(&restState, KVCache(rest.configuration.text), &textLayout, .none, on: compute)
    expectClose(dropped, rest.languageModel.logits(restState, on: compute), 1e-4, "logits")
  }

  @Test func `text rows move up when all tokens of an image are dropped`() {
    var layout = SequenceLayout(rowCount: 7, visualSpans: [1..<3, 4..<6])
    #expect(layout.keep([[], [1]], positions: .original) == [0, 3, 5, 6])
    #expect(layout.positions == [0, 3, 5, 6])
    #expect(layout.visualBlocks.map(\.rows) == [[], [2]] && layout.visualBlocks.map(\.start) == [1, 2])
    #expect(layout.keep([[], []], positions: .compact) == [0, 1, 3])
    #expect(layout.positions == [0, 1, 2])
  }

  /// The golden checkpoint with some of its decoder layers, renumbered from 0.
  private static func model(layers: Range<Int>) throws -> LLaVAModel {
    let source = try Goldens.tensors("models/tiny-llava-1.5/model.safetensors")
    let prefix = "language_model.model.layers."
    var writer = SafetensorsWriter()
    for name in source.names {
      var target = name
      if name.hasPrefix(prefix) {
        let parts = name.dropFirst(prefix.count).split(separator: ".", maxSplits: 1)
        guard let layer = Int(parts[0]), layers.contains(layer) else { continue }
        target = "\(prefix)\(layer - layers.lowerBound).\(parts[1])"
      }
      writer.add(target, try source.floats(name), shape: try source.shape(name))
    }
    let folder = FileManager.default.temporaryDirectory.appending(path: "layers-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try writer.encoded().write(to: folder.appending(path: "model.safetensors"))
    var configuration = try LLaVAConfiguration(directory: Goldens.path("models/tiny-llava-1.5"))
    configuration.text.layerCount = layers.count
    // The weights remain mapped when the file is removed.
    return try LLaVAModel(Checkpoint(directory: folder.path(percentEncoded: false)), configuration)
  }
}
