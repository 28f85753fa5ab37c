import Kernels
import LLaVA
import ModelFormats
import TestSupport
import Testing

/// SigLIP and the features of LLaVA-OneVision against the reference library.
@Suite struct OneVisionTests {
  private let compute = ComputeContext(workers: Workers(count: 2))

  @Test(arguments: [0, 1, 2, 3, 4, 5])
  func `reduces maps like the reference`(index: Int) throws {
    let golden = try Goldens.tensors("ops/bilinear.safetensors")
    let (from, to) = (try golden.shape("\(index)/in"), try golden.shape("\(index)/out"))
    let source = Matrix(try golden.floats("\(index)/in"), columns: 3)
    let map = ReducedMap(
      Array(0..<source.rows), MapSize(rows: from[0], columns: from[1]), to: MapSize(rows: to[0], columns: to[1]))
    var result = Matrix(rows: to[0] * to[1], columns: 3)
    var target = result.mutableSpan
    for i in 0..<to[0] * to[1] {
      var row = target.row(i, columns: 3)
      map.interpolate(i / to[1], i % to[1], source.span, 3, &row)
    }
    try expectClose(result.values, golden.floats("\(index)/out"), 1e-6, "map \(index)")
  }

  @Test func `a reduced map has the nearest features where it is not between two`() {
    let map = ReducedMap(Array(10..<19), MapSize(rows: 3, columns: 3), to: MapSize(rows: 3, columns: 3))
    #expect((0..<9).map { map.nearest($0 / 3, $0 % 3) } == Array(10..<19))
  }

  @Test(arguments: [
    ("shapes_640x480.png", 351), ("wide_1000x200.png", 332), ("tiny_20x30.png", 66),
    ("shapes_640x480.png.several", 37), ("gray_300x400.png.several", 37),
  ])
  func `gives the features of the reference`(image: String, tokenCount: Int) throws {
    let llava = try TestModel("tiny-llava-onevision").model
    let pixels = try Self.pixelValues(image)
    let sizes = ["shapes_640x480.png": (480, 640), "wide_1000x200.png": (200, 1000), "tiny_20x30.png": (30, 20)]
    let rules = try #require(llava.configuration.anyResolution)
    let layout =
      sizes[image].map { height, width in
        ViewLayout.tiled(AnyResolutionGeometry(PixelSize(height: height, width: width), rules).tiles)
      } ?? .single
    let golden = try Goldens.tensors("features/tiny-llava-onevision/\(image).safetensors")
    let features = llava.imageFeatures(pixels, layout, on: compute)
    #expect(features.rows == tokenCount && llava.visualTokenCount(layout) == tokenCount)
    #expect(llava.visualTokenPlaces(layout).count == tokenCount)
    try expectClose(features.values, golden.floats("features"), 2e-4, image)
  }

  @Test(arguments: [ComputeType.bf16, .int8])
  func `other compute types stay close, whatever the widths`(type: ComputeType) throws {
    let pixels = try Self.pixelValues("tiny_20x30.png")
    let layout = ViewLayout.tiled(
      TileGrid(rows: 1, columns: 1, keptRows: 0..<6, keptColumns: 1..<5))
    let features = try [ComputeType.f32, type].map {
      try TestModel("tiny-llava-onevision", $0).model.imageFeatures(pixels, layout, on: compute).values
    }
    let difference = zip(features[0], features[1]).map { Double(($0 - $1) * ($0 - $1)) }.reduce(0, +)
    let norm = features[0].map { Double($0 * $0) }.reduce(0, +)
    #expect((difference / norm).squareRoot() < (type == .bf16 ? 0.02 : 0.1), "\((difference / norm).squareRoot())")
  }

  @Test func `a video has the features of the reference`() throws {
    let llava = try TestModel("tiny-llava-onevision").model
    let golden = try Goldens.tensors("features/tiny-llava-onevision/video.safetensors")
    // The base view of an image is the frame's view.
    let pixels = try ["shapes_640x480.png", "wide_1000x200.png"].flatMap {
      try Self.pixelValues($0).prefix(3 * 90 * 90)
    }
    let features = llava.imageFeatures(pixels, .video(frames: 2), on: compute)
    #expect(features.rows == 2 * 9 + 1 && llava.visualTokenCount(.video(frames: 3)) == 28)
    let expected = try golden.floats("features")
    expectClose(Array(features.values.prefix(18 * 64)), Array(expected.prefix(18 * 64)), 2e-4, "video")
    #expect(Array(features.values.suffix(64)) == Array(expected.suffix(64)))
  }

  @Test func `numbers of tokens have bounds`() throws {
    let llava = try TestModel("tiny-llava-onevision").model
    // At most 1.21 · 9 · 36 features and 36 newlines beside the 36 of the base view.
    #expect(llava.visualTokenCounts == 36...464)
  }

  private static func pixelValues(_ image: String) throws -> [Float] {
    let bytes = try Goldens.tensors("preprocess/llava_onevision/\(image).safetensors").bytes("pixels_u8")
    return bytes.map { (Float($0) / 255 - 0.5) / 0.5 }
  }
}
