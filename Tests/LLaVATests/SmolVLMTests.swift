import Kernels
@testable import LLaVA
import ModelFormats
import TestSupport
import Testing
import TokenDropping

/// The vision encoder and the projector of SmolVLM against the reference library, and layouts with several spans.
@Suite struct SmolVLMTests {
  private let compute = ComputeContext(workers: Workers(count: 2))

  private func pixelValues(_ image: String, _ kind: String = "smolvlm") throws -> [Float] {
    try Goldens.tensors("preprocess/\(kind)/\(image).safetensors").bytes("pixels_u8").map {
      (Float($0) / 255 - 0.5) / 0.5
    }
  }

  @Test(arguments: [
    ("shapes_640x480.png", 3, 4), ("wide_1000x200.png", 1, 4), ("gray_300x400.png", 4, 3), ("tiny_20x30.png", 4, 3),
  ])
  func `gives the features of the reference`(image: String, rows: Int, columns: Int) throws {
    let llava = try TestModel("tiny-smolvlm").model
    let layout = ViewLayout.split(rows: rows, columns: columns)
    let golden = try Goldens.tensors("features/tiny-smolvlm/\(image).safetensors")
    let features = llava.imageFeatures(try pixelValues(image), layout, on: compute)
    #expect(features.rows == 9 * (rows * columns + 1) && llava.visualTokenCount(layout) == features.rows)
    #expect(llava.visualTokenPlaces(layout).count == features.rows)
    #expect(llava.configuration.visualSpans(layout) == Array(repeating: 9, count: rows * columns + 1))
    #expect(llava.visualTokenCounts == 9...9 * 17)
    try expectClose(features.values, golden.floats("features"), 2e-5, image)
  }

  @Test func `one view gives the features of the reference`() throws {
    let llava = try TestModel("tiny-smolvlm").model
    let golden = try Goldens.tensors("features/tiny-smolvlm-whole/shapes_640x480.png.safetensors")
    let features = llava.imageFeatures(
      try pixelValues("shapes_640x480.png", "smolvlm_whole"), .single, on: compute)
    try expectClose(features.values, golden.floats("features"), 2e-5, "one view")
  }

  @Test(arguments: [ComputeType.bf16, .int8])
  func `other compute types stay close`(type: ComputeType) throws {
    let pixels = try pixelValues("wide_1000x200.png")
    let features = try [ComputeType.f32, type].map {
      try TestModel("tiny-smolvlm", $0).model.imageFeatures(pixels, .split(rows: 1, columns: 4), on: compute).values
    }
    let difference = zip(features[0], features[1]).map { Double(($0 - $1) * ($0 - $1)) }.reduce(0, +)
    let norm = features[0].map { Double($0 * $0) }.reduce(0, +)
    #expect((difference / norm).squareRoot() < (type == .bf16 ? 0.02 : 0.1), "\((difference / norm).squareRoot())")
  }

  @Test func `a pixel shuffle joins squares of neighbouring patches`() {
    // Two views of 4 by 4 patches; the value of a patch is its row.
    let source = Matrix((0..<32).map(Float.init), columns: 1)
    let joined = PixelShuffle(side: 4, factor: 2)(source)
    #expect((joined.rows, joined.columns) == (8, 4))
    #expect(
      joined.values.prefix(16).map { Int($0) } == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15])
    #expect(joined.values.suffix(4).map { Int($0) } == [26, 27, 30, 31])
  }

  // MARK: - Layouts

  /// Text, two spans of 3 with a marker between them, text, an image in one span of 2, text.
  private let tokens = [1, 9, 2, 9, 3, 9, 4]

  @Test func `an image of several spans keeps one list of tokens`() throws {
    var layout = try #require(
      SequenceLayout(tokens, placeholder: 9, visualTokenCounts: [6, 2], spans: [[3, 3], [2]]))
    #expect(layout.visualSpans == [[1, 3], [5, 3], [9, 2]] && layout.rowCount == 12)
    #expect(layout.visualBlocks.map(\.rows) == [[1, 2, 3, 5, 6, 7], [9, 10]])
    #expect(layout.textRows == [0, 4, 8, 11])
    #expect(layout.keep([[0, 4, 5], [1]], positions: .compact) == [0, 1, 4, 6, 7, 8, 10, 11])
    #expect(
      layout.visualBlocks.map(\.rows) == [[1, 3, 4], [6]] && layout.visualBlocks.map(\.tokens) == [[0, 4, 5], [1]])
    #expect(layout.textRows == [0, 2, 5, 7] && layout.visualBlocks.map(\.end) == [5, 7])
    // The markers of a span without tokens remain, and so does the end of the image.
    #expect(layout.keep([[0], []], positions: .original) == [0, 1, 2, 5, 7])
    #expect(layout.visualSpans == [[1, 1], [4, 0]] && layout.visualBlocks.map(\.end) == [3, 4])
  }

  @Test func `selected tokens enter at the places of their spans`() throws {
    func layout(_ selected: [[Int]]?, counts: [Int] = [2, 1]) -> SequenceLayout? {
      SequenceLayout(tokens, placeholder: 9, visualTokenCounts: counts, spans: [[3, 3], [2]], selected: selected)
    }
    #expect(layout([[1, 3], [1]])?.visualBlocks.map(\.rows) == [[1, 3], [5]])
    #expect(layout([[4, 5], [0]])?.visualBlocks.map(\.rows) == [[2, 3], [5]])
    #expect(layout([[0, 2], [0]])?.visualBlocks.map(\.rows) == [[1, 2], [5]])
    // The end of the images does not depend on the selection.
    for selected in [[[1, 3], [1]], [[4, 5], [0]], nil] {
      #expect(layout(selected)?.visualBlocks.map(\.end) == [4, 6])
    }
    #expect(layout([[1], [1]]) == nil && layout(nil, counts: [2, 1, 1]) == nil)
    #expect(SequenceLayout(tokens, placeholder: 9, visualTokenCounts: [6, 2]) == nil)
  }
}
