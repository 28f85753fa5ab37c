import Kernels
@testable import LLaVA
import ModelFormats
import TestSupport
import Testing
import TokenDropping
import TokenSelection

/// The packings of published codes against plain definitions: counts, order, padding and newlines of LLaVA-NeXT.
@Suite struct PackingTests {
  private let compute = ComputeContext(workers: Workers(count: 2))
  private let model: LLaVAModel
  /// The image's views without padding, 1598 tokens of which 14 are newlines.
  private let unpadded: ViewLayout
  /// Of all patches, `[views · 576, 64]`.
  private let values: [Float]
  private let inputs: SelectionInputs

  private let side = 24

  init() throws {
    model = try TestModel("tiny-llava-next-vicuna").model
    unpadded = try GoldenVisionTests.layout("wide_1000x200.png", model)
    var inputs: SelectionInputs?
    let pixels = try GoldenVisionTests.pixelValues("wide_1000x200.png", of: "llava_next")
    values =
      model.imageFeatures(
        pixels, unpadded.keepingAllPatches(side: 24), selectionInputs: &inputs, on: compute
      ).values
    self.inputs = try #require(inputs)
  }

  private var features: Matrix { Matrix(values, columns: 64) }

  /// The token of a patch of a view: the base view first, then the tiles as one grid, row by row.
  private func token(_ view: Int, _ patch: Int, _ columns: Int) -> Int {
    guard view > 0 else { return patch }
    let (tileRow, tileColumn) = ((view - 1) / columns, (view - 1) % columns)
    let (row, column) = (tileRow * side + patch / side, tileColumn * side + patch % side)
    return side * side + row * columns * side + column
  }

  @Test func `all patches of all views are tokens, row by row, without newlines`() throws {
    let tiles = try #require(unpadded.tiles)
    let layout = unpadded.keepingAllPatches(side: side)
    let features = features
    #expect(model.visualTokenCount(layout) == layout.viewCount * 576 && features.rows == layout.viewCount * 576)
    #expect(model.visualTokenCount(unpadded) == 1598)
    let places = model.visualTokenPlaces(layout)
    #expect(places.count == features.rows)
    let pixels = try GoldenVisionTests.pixelValues("wide_1000x200.png", of: "llava_next")
    let separate = model.viewFeatures(pixels, views: layout.viewCount, on: compute)
    for view in 0..<layout.viewCount {
      for patch in 0..<576 {
        let token = token(view, patch, tiles.columns)
        #expect(places[token] == .patch(view: view, row: patch / side, column: patch % side))
        #expect(features.rowValues(token) == separate.rowValues(view * 576 + patch))
      }
    }
  }

  @Test(arguments: [10, 40, 100]) func `each view gives its share, padding included`(perView: Int) throws {
    let layout = unpadded.keepingAllPatches(side: side)
    let columns = try #require(unpadded.tiles).columns
    let selection = Preselection(.classAttention, .tokens(perView * layout.viewCount), packing: .patches)
    let found = try model.selectedTokens(
      selection, features, inputs, layout, padding: [], question: .languageModel([]), on: compute)
    let expected = (0..<layout.viewCount).flatMap { view in
      let attention = Array(inputs.classAttention[view * 576..<(view + 1) * 576])
      let order = attention.indices.sorted { (attention[$0], $1) > (attention[$1], $0) }
      return order.prefix(perView).map { token(view, $0, columns) }
    }
    #expect(found == expected.sorted() && found.count == perView * layout.viewCount)
    // Padding is cut off in the model's own layout.
    let kept = try #require(unpadded.tiles).keptRows
    let rows = found.filter { $0 >= 576 }.map { ($0 - 576) / (columns * side) }
    #expect(rows.contains { !kept.contains($0) })
  }

  @Test func `all tokens of a packing are no selection`() throws {
    let layout = unpadded.keepingAllPatches(side: side)
    let all = try model.selectedTokens(
      Preselection(.scope(), .share(1), packing: .patches), features, inputs, layout, padding: [],
      question: .languageModel([]), on: compute)
    #expect(all == Array(0..<4 * 576))
  }

  @Test(arguments: [1, 60, 300]) func `newlines are tokens like others for DivPrune`(count: Int) throws {
    var inputs: SelectionInputs?
    let pixels = try GoldenVisionTests.pixelValues("wide_1000x200.png", of: "llava_next")
    let packed = model.imageFeatures(pixels, unpadded, selectionInputs: &inputs, on: compute)
    let selection = Preselection(.divPrune, .tokens(count), packing: .sequence)
    compute.ledger = CostLedger()
    let found = try model.selectedTokens(
      selection, packed, try #require(inputs), unpadded, padding: [], question: .languageModel([]), on: compute)
    let counted = compute.ledger.multiplyAdds.values.reduce(0, +)
    #expect(try found == selectByDiversity(packed, count: count, on: compute).sorted() && found.count == count)
    #expect(
      counted
        == model.configuration.selectionMultiplyAdds(selection, [unpadded], question: .languageModel([])))
  }

  @Test func `other methods refuse newlines as tokens`() throws {
    let policy = Preselected(Preselection(.scope(), .tokens(8), packing: .sequence), then: NoDropping())
    #expect(throws: DropPolicyError.packing(method: "scope")) {
      _ = try policy.stages(layerCount: 32, visualTokenCount: 8)
    }
    for method in Preselection.Method.all where method.paperPacking == .sequence { #expect(method == .divPrune) }
  }
}
