import Foundation
import ImageProcessing
import LLaVA
import PDrop
import TestSupport
import Testing
import TokenDropping

/// Patches of pure padding, which are dropped first.
@Suite struct PaddingTests {
  private static func model(_ mode: ImageMode, _ name: String = "tiny-llava-1.5") throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.imageMode = mode
    return try VisionLanguageModel(directory: Goldens.path("models/\(name)"), options: options)
  }

  /// The visual tokens of an image that show only padding.
  private func padding(_ model: VisionLanguageModel, width: Int, height: Int) throws -> [Int] {
    let image = try Image(width: width, height: height, pixels: Array(repeating: 9, count: width * height * 3))
    let preprocessor = try #require(model.preprocessor)
    let views = preprocessor(image)
    return model.llava.paddingTokens(views.layout, views.area)
  }

  /// The patches of a 24 × 24 grid outside the given rows and columns.
  private func patches(outsideRows rows: Range<Int>, columns: Range<Int>) -> [Int] {
    (0..<576).filter { !rows.contains($0 / 24) || !columns.contains($0 % 24) }
  }

  @Test func `patches outside the image are padding, patches that it touches are not`() throws {
    let model = try Self.model(.pad)
    // Aspect ratio 4:3: 3 of 24 rows of patches above and 3 below.
    #expect(try padding(model, width: 64, height: 48) == patches(outsideRows: 3..<21, columns: 0..<24))
    #expect(try padding(model, width: 48, height: 64) == patches(outsideRows: 0..<24, columns: 3..<21))
    #expect(try padding(model, width: 50, height: 50).isEmpty)
    // 10 of 99 pixel rows, 44 above: rows 10.67 to 13.09 of the patches.
    #expect(try padding(model, width: 99, height: 10) == patches(outsideRows: 10..<14, columns: 0..<24))
    #expect(try padding(Self.model(.crop), width: 64, height: 48).isEmpty)
  }

  @Test(arguments: [(640, 480), (336, 336), (1000, 200), (123, 457), (337, 671), (20, 30), (999, 1000)])
  func `LLaVA-NeXT has no padding to drop`(width: Int, height: Int) throws {
    let model = try Self.model(.auto, "tiny-llava-next-vicuna")
    #expect(model.preprocessor?.mode == .anyres)
    #expect(try padding(model, width: width, height: height).isEmpty)
  }

  @Test(.enabled(if: isOptimized, "slow without optimisation"), arguments: Ranking.all(seed: 1))
  func `padding is dropped before any patch of the image`(ranking: Ranking) throws {
    let model = try Self.model(.pad)
    let imagePatchCount = 18 * 24
    let policy = PyramidDrop(
      .listed(layers: [4, 8, 16], ratios: [0.9, 0.75, 0.4]), ranking: ranking, dropsPaddingFirst: true)
    var request = Request(
      question: "What is it?", images: [.file(Goldens.path("images/gray_300x400.png"))], policy: policy)
    request.options.maxTokens = 1
    let stages = try Session(model, request, threads: 2).report.stages.map { $0.images[0].kept }
    let image = Set(0..<576).subtracting(patches(outsideRows: 0..<24, columns: 3..<21))
    #expect(stages.map(\.count) == [518, imagePatchCount, 230])
    #expect(image.isSubset(of: stages[0]) && image == Set(stages[1]) && image.isSuperset(of: stages[2]))
  }
}
