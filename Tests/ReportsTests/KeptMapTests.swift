import Foundation
import ImageProcessing
import LLaVA
import ModelFormats
import PDrop
import Reports
import Testing

/// Kept-token maps of images small enough to count patches by hand: 4 x 4 pixels per view, 2 x 2 per patch.
enum SmallMap {
  static func image(_ width: Int, _ height: Int) throws -> Image {
    try Image(width: width, height: height, pixels: (0..<3 * width * height).map { UInt8($0 * 7 % 256) })
  }

  private static var configuration: PreprocessorConfiguration {
    var configuration = PreprocessorConfiguration()
    configuration.cropSize = .init(height: 4, width: 4)
    configuration.resizesTo = .shortestEdge(4)
    return configuration
  }

  private static func drop(_ scores: [Float], kept: [Int]) -> (layer: Int, DropResult.Image) {
    (layer: 8 * scores.count, DropResult.Image(start: 0, count: scores.count, kept: kept, scores: scores))
  }

  /// LLaVA-NeXT: 8 x 4 pixels in the middle of a canvas of 8 x 8, with 14 tokens.
  ///
  /// The tiles have 4 x 4 patches, and rows 1 and 2 show the image: 4 tokens of the base view, then 2 rows of 4 tokens
  /// and a newline.
  static func tiled() throws -> KeptMap {
    let rules = AnyResolution(pinpoints: [(8, 8)], viewSize: 4, patchesPerSide: 2, sizeRule: .huggingFace)
    let views = try AnyResolutionPreprocessor(configuration, rules)(image(8, 4))
    let places = VisualTokenPlace.all(of: views.layout, side: 2, hasNewline: true)
    return KeptMap(
      views, places, patchSize: 2,
      drops: [
        drop((0..<14).map(Float.init), kept: [2, 5, 8, 9, 13]), drop([5, 1, 9, 3, 3], kept: [2, 8]),
      ])
  }

  /// LLaVA-1.5: one view of four patches.
  static func single() throws -> KeptMap {
    let views = try CLIPPreprocessor(configuration, mode: .crop)(image(4, 4))
    return KeptMap(
      views, VisualTokenPlace.all(of: .single, side: 2, hasNewline: false), patchSize: 2,
      drops: [drop([0.1, 0.4, 0.2, 0.3], kept: [1, 3])])
  }
}

@Suite struct KeptMapTests {
  private func place(_ region: Int, _ row: Int, _ column: Int) -> [Int] { [region, row, column] }

  private func places(_ map: KeptMap) -> [[Int]] { map.places.map { $0.map { [$0.region, $0.row, $0.column] } ?? [] } }

  @Test func `orders the tokens of one view by row`() throws {
    let map = try SmallMap.single()
    #expect(map.regions.map(\.name) == ["image"])
    #expect(map.regions[0].image == (try SmallMap.image(4, 4)))
    #expect(places(map) == [place(0, 0, 0), place(0, 0, 1), place(0, 1, 0), place(0, 1, 1)])
    #expect(map.newlines.isEmpty)
    #expect(map.stages[0].tokens.map(\.rank) == [4, 1, 3, 2])
    let counts = map.keptCounts(map.stages[0], inRegion: 0)
    #expect(counts.rows == [1, 1] && counts.columns == [0, 2])
  }

  @Test func `joins tiles without padding, with a newline after each row`() throws {
    let map = try SmallMap.tiled()
    #expect(map.regions.map(\.name) == ["whole image", "tiles"])
    #expect(map.regions[1].rows == 2 && map.regions[1].columns == 4)
    // The unpadded tiles show the image itself.
    #expect(map.regions[1].image == (try SmallMap.image(8, 4)))
    let rows = (0..<2).flatMap { row in (0...4).map { place(1, row, $0) } }
    #expect(places(map) == [place(0, 0, 0), place(0, 0, 1), place(0, 1, 0), place(0, 1, 1)] + rows)
    #expect(map.newlines == [8, 13])
    let counts = (0..<2).map { map.keptCounts(map.stages[0], inRegion: $0) }
    #expect(counts[0].rows == [0, 1] && counts[0].columns == [1, 0])
    // Token 5 is the second of the first row, 9 the first of the second row.
    #expect(counts[1].rows == [1, 1] && counts[1].columns == [1, 1, 0, 0])
  }

  @Test func `places the 2340 tokens of an image of 640 x 480`() {
    let rules = AnyResolution(
      pinpoints: [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)], viewSize: 336, patchesPerSide: 24,
      sizeRule: .original)
    let tiles = AnyResolutionGeometry(PixelSize(height: 480, width: 640), rules).tiles
    let places = VisualTokenPlace.all(of: .tiled(tiles), side: 24, hasNewline: true)
    // 576 of the base view, then 36 rows of 48 patches and a newline; 6 rows of padding are cut off above.
    #expect(places.count == 2340)
    #expect(places[575] == .patch(view: 0, row: 23, column: 23))
    #expect(places[576] == .patch(view: 1, row: 6, column: 0))
    #expect(places[576 + 24] == .patch(view: 2, row: 6, column: 0))
    #expect(places[576 + 48] == .newline(row: 6))
    #expect(places[576 + 18 * 49] == .patch(view: 3, row: 0, column: 0))
    #expect(places[2339] == .newline(row: 41) && places[2338] == .patch(view: 4, row: 17, column: 23))
    #expect(VisualTokenPlace.all(of: .single, side: 24, hasNewline: true).last == .newline(row: nil))
    let class24 = VisualTokenPlace.all(of: .single, side: 24, hasClassToken: true, hasNewline: false)
    #expect(class24.count == 577 && class24[0] == .wholeView(0))
  }

  @Test func `scores only the tokens that earlier stages kept`() throws {
    let stage = try SmallMap.tiled().stages[1]
    #expect(stage.tokens.map(\.score) == [nil, nil, 5, nil, nil, 1, nil, nil, 9, 3, nil, nil, nil, 3])
    #expect([2, 5, 8, 9, 13].map { stage.tokens[$0].rank } == [2, 5, 1, 3, 4])
    #expect(stage.keptCount == 2 && stage.tokens[8].isKept && !stage.tokens[9].isKept)
  }

  // MARK: - PNG

  private func pixel(_ image: Image, _ x: Int, _ y: Int) -> [UInt8] {
    Array(image.pixels[3 * (y * image.width + x)..<3 * (y * image.width + x) + 3])
  }

  /// 0.2 of the sample plus 0.8 of the dimming colour.
  private func dimmed(_ sample: [UInt8]) -> [UInt8] {
    zip(sample, [90.0, 96, 104]).map { UInt8((0.2 * Double($0) + 0.8 * $1).rounded()) }
  }

  @Test func `a PNG file contains all panels with dropped patches dimmed`() throws {
    let (map, source) = (try SmallMap.tiled(), try SmallMap.image(8, 4))
    var encoder = ImageEncoder()
    encoder.description = "α: é\nsecond"
    let file = try encoder.png(map.painted())
    let image = try ImageDecoder().decode(file)
    // The width: base view 4, gap 8, tiles 8, half a gap 4, newline 6. Three panels are stacked vertically.
    #expect(image.width == 30 && image.height == 3 * 4 + 2 * 16)
    #expect(image == map.painted())
    #expect(Data(file).range(of: Data("?: \u{E9}\nsecond".unicodeScalars.map { UInt8($0.value) })) != nil)
    for y in 0..<4 { for x in 0..<8 { #expect(pixel(image, 12 + x, y) == pixel(source, x, y)) } }
    // Panel 2 begins at row 20. The first patch of the tiles is dropped, the second is kept.
    #expect(pixel(image, 12, 20) == dimmed(pixel(source, 0, 0)))
    #expect(pixel(image, 13, 21) == dimmed(pixel(source, 1, 1)))
    #expect(pixel(image, 14, 20) == pixel(source, 2, 0))
    // Both newlines are kept in panel 2; the second is dropped in panel 3.
    #expect(pixel(image, 24, 20) == [96, 165, 250] && pixel(image, 24, 42) == dimmed([96, 165, 250]))
    #expect(pixel(image, 5, 10) == [255, 255, 255])
  }

  @Test func `places panels of one view side by side and stacks images`() throws {
    let image = try SmallMap.single().painted()
    #expect(image.width == 2 * 4 + 16 && image.height == 4)
    let both = Image.stacked([image, try SmallMap.tiled().painted()])
    #expect(both.width == 30 && both.height == 4 + 24 + 44)
    #expect(pixel(both, 27, 2) == [255, 255, 255])
  }

  @Test func `colours scores from the lowest to the highest`() throws {
    let map = try SmallMap.single()
    let scale = try #require(HeatScale(map.stages[0]))
    #expect(scale.isLogarithmic && scale.position(0.1) == 0 && scale.position(0.4) == 1)
    // The geometric mean is in the middle of the scale.
    #expect(abs(scale.position(0.2) - 0.5) < 1e-6)
    #expect(try #require(HeatScale(SmallMap.tiled().stages[0])).isLogarithmic == false)
    #expect(KeptMapColors.heat(0) == Color(68, 1, 84) && KeptMapColors.heat(1) == Color(253, 231, 37))
    #expect(KeptMapColors.heat(0.5) == Color(33, 145, 140) && KeptMapColors.heat(0.125) == Color(64, 42, 112))
    let image = map.painted(showsScores: true)
    // Kept patches have a white outline, which covers a whole patch of 2 x 2 pixels.
    #expect(pixel(image, 20 + 2, 0) == [255, 255, 255])
    let below = pixel(try SmallMap.image(4, 4), 0, 0)
    let tinted = zip(below, [68.0, 1, 84]).map { UInt8((0.3 * Double($0) + 0.7 * $1).rounded()) }
    #expect(pixel(image, 20, 0) == tinted)
  }

  // MARK: - SVG and HTML

  @Test func `an SVG file has a rectangle with a tooltip per patch, and a bar per row and column`() throws {
    let figure = KeptMapFigure("<a> & \"b\"", try SmallMap.tiled())
    let check = XMLCheck(try KeptMapFile.svg([figure, KeptMapFigure("second", try SmallMap.single())]))
    #expect(check.error == nil)
    // 1 background; 3 panels of 14 tokens and 2 of 4; bars of rows and columns: 2 + 2 and 2 + 4 per stage, and 2 + 2.
    #expect(check.counts["rect"] == 1 + 3 * 14 + 2 * 4 + 2 * 10 + 4)
    #expect(check.counts["image"] == 3)
    #expect(check.text.contains("<a> & \"b\""))
    #expect(check.text.contains("after layer 112: 5 of 14 tokens (35.7%), 2 of 2 newlines"))
    #expect(check.text.contains("tiles, row 1, column 2: kept, score 5, rank 9"))
    #expect(check.text.contains("tiles, row 1, column 1: dropped earlier"))
    #expect(check.text.contains("tiles, row 2, newline: dropped, score 3, rank 4"))
    #expect(check.text.contains("column 1: 1 of 2 kept"))
    #expect(check.attributes.count { $0.hasPrefix("href=data:image/png;base64,") } == 3)
  }

  @Test func `HTML has a panel for each stage, and JSON the kept tokens`() throws {
    let figure = KeptMapFigure("map", try SmallMap.single(), showsScores: true)
    let report = Report("p", sections: [Report.Section("s", [.keptMap(figure)])])
    let check = XMLCheck(try report.html.replacing("<!DOCTYPE html>\n", with: ""))
    #expect(check.error == nil && check.counts["rect"] == 2 * 4 + 4)
    #expect(check.text.contains("scores: dark 0.1, bright 0.4 (log scale)"))
    #expect(check.attributes.contains("fill=#fde725"))
    #expect(report.markdown.contains("| after layer 32: 2 of 4 tokens (50%) | 2 |"))
    let json = String(decoding: try report.json, as: UTF8.self).filter { !$0.isWhitespace }
    #expect(json.contains("\"kept\":[1,3]") && json.contains("\"kept_per_column\":[[0,2]]"))
  }
}
