import Foundation
import Kernels
import LLaVA
import ModelFormats
import TestSupport
import Testing
import TokenDropping

extension AnyResolution {
  /// The canvases of the released models with views of 336 pixels and 24 patches a side.
  static func released(_ sizeRule: AnyResolution.SizeRule) -> AnyResolution {
    AnyResolution(
      pinpoints: [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)], viewSize: 336, patchesPerSide: 24,
      sizeRule: sizeRule)
  }
}

@Suite struct AnyResolutionGeometryTests {
  private func geometry(_ width: Int, _ height: Int, _ rules: AnyResolution) -> AnyResolutionGeometry {
    AnyResolutionGeometry(PixelSize(height: height, width: width), rules)
  }

  // MARK: - Sizes of the reference

  private struct Golden: Decodable {
    struct Fit: Decodable {
      var bestHW: [Int]
      var resizedHW: [Int]
      var gridHW: [Int]
      var rows: Int
      var cols: Int
      var tokens: Int

      enum CodingKeys: String, CodingKey {
        case rows, cols, tokens
        case bestHW = "best_hw"
        case resizedHW = "resized_hw"
        case gridHW = "grid_hw"
      }
    }

    struct Row: Decodable {
      var hw: [Int]
      var pinpoints5: Fit
      var pinpoints8: Fit
    }

    var pinpoints5: [[Int]]
    var pinpoints8: [[Int]]
    var rows: [Row]
  }

  @Test func `gives the sizes of Hugging Face for 300 images`() throws {
    let golden = try Goldens.json("ops/geometry.json", as: Golden.self)
    #expect(golden.rows.count == 300)
    for (pinpoints, fit) in [(golden.pinpoints5, \Golden.Row.pinpoints5), (golden.pinpoints8, \.pinpoints8)] {
      let rules = AnyResolution(
        pinpoints: pinpoints.map { ($0[0], $0[1]) }, viewSize: 336, patchesPerSide: 24, sizeRule: .huggingFace)
      for row in golden.rows {
        let (found, expected) = (geometry(row.hw[1], row.hw[0], rules), row[keyPath: fit])
        let tiles = found.tiles
        #expect([found.canvas.height, found.canvas.width] == expected.bestHW, "\(row.hw)")
        #expect([found.resized.height, found.resized.width] == expected.resizedHW, "\(row.hw)")
        #expect([24 * tiles.rows, 24 * tiles.columns] == expected.gridHW, "\(row.hw)")
        #expect(576 + tiles.tokenCount == expected.tokens, "\(row.hw)")
        // The golden columns are features divided by rows, so there are none without rows.
        #expect(tiles.keptRows.count == expected.rows, "\(row.hw)")
        #expect(tiles.keptRows.isEmpty || tiles.keptColumns.count == expected.cols, "\(row.hw)")
      }
    }
  }

  // MARK: - Worked examples, with LLaVA's own size rule

  struct Example: CustomTestStringConvertible {
    var image: (Int, Int)
    var canvas: (Int, Int)
    var tiles: (Int, Int)
    var resized: (Int, Int)
    var paste: (Int, Int)
    var kept: (Int, Int)
    var tokens: Int
    var halves: [Int]
    var testDescription: String { "\(image.0)x\(image.1)" }
  }

  /// Sizes are width and height; tiles and kept features are rows and columns.
  static let examples = [
    Example(
      image: (640, 480), canvas: (672, 672), tiles: (2, 2), resized: (672, 504), paste: (0, 84), kept: (36, 48),
      tokens: 2340, halves: [1170, 585, 292]),
    Example(
      image: (1000, 300), canvas: (1008, 336), tiles: (1, 3), resized: (1008, 303), paste: (0, 16), kept: (22, 72),
      tokens: 2182, halves: [1091, 545, 272]),
    Example(
      image: (336, 336), canvas: (336, 672), tiles: (2, 1), resized: (336, 336), paste: (0, 168), kept: (24, 24),
      tokens: 1176, halves: [588, 294, 147]),
    Example(
      image: (480, 640), canvas: (672, 672), tiles: (2, 2), resized: (504, 672), paste: (84, 0), kept: (48, 36),
      tokens: 2352, halves: [1176, 588, 294]),
    Example(
      image: (672, 672), canvas: (672, 672), tiles: (2, 2), resized: (672, 672), paste: (0, 0), kept: (48, 48),
      tokens: 2928, halves: [1464, 732, 366]),
    Example(
      image: (899, 1024), canvas: (672, 672), tiles: (2, 2), resized: (590, 672), paste: (41, 0), kept: (48, 42),
      tokens: 2640, halves: [1320, 660, 330]),
    Example(
      image: (1024, 899), canvas: (672, 672), tiles: (2, 2), resized: (672, 590), paste: (0, 41), kept: (42, 48),
      tokens: 2634, halves: [1317, 658, 329]),
    Example(
      image: (1920, 1080), canvas: (672, 672), tiles: (2, 2), resized: (672, 378), paste: (0, 147), kept: (28, 48),
      tokens: 1948, halves: [974, 487, 243]),
    Example(
      image: (200, 1000), canvas: (336, 1008), tiles: (3, 1), resized: (202, 1008), paste: (67, 0), kept: (72, 14),
      tokens: 1656, halves: [828, 414, 207]),
    Example(
      image: (1008, 336), canvas: (1008, 336), tiles: (1, 3), resized: (1008, 336), paste: (0, 0), kept: (24, 72),
      tokens: 2328, halves: [1164, 582, 291]),
    Example(
      image: (336, 1008), canvas: (336, 1008), tiles: (3, 1), resized: (336, 1008), paste: (0, 0), kept: (72, 24),
      tokens: 2376, halves: [1188, 594, 297]),
    Example(
      image: (100, 100), canvas: (336, 672), tiles: (2, 1), resized: (336, 336), paste: (0, 168), kept: (24, 24),
      tokens: 1176, halves: [588, 294, 147]),
    Example(
      image: (5000, 50), canvas: (1008, 336), tiles: (1, 3), resized: (1008, 11), paste: (0, 162), kept: (0, 72),
      tokens: 576, halves: [288, 144, 72]),
  ]

  @Test(arguments: examples)
  func `gives the sizes of the worked examples`(example: Example) throws {
    let found = geometry(example.image.0, example.image.1, .released(.original))
    #expect((found.canvas.width, found.canvas.height) == example.canvas)
    #expect((found.tiles.rows, found.tiles.columns) == example.tiles)
    #expect((found.resized.width, found.resized.height) == example.resized)
    #expect((found.left, found.top) == example.paste)
    #expect((found.tiles.keptRows.count, found.tiles.keptColumns.count) == example.kept)
    #expect(576 + found.tiles.tokenCount == example.tokens)
    let plan = try DropPlan(PyramidDrop(), layerCount: 32, visualTokenCounts: [example.tokens])
    #expect(plan.drops.map(\.keepCounts) == example.halves.map { [$0] })
  }

  // MARK: - The two size rules

  @Test func `chooses the transposed canvas on a tie when the file lists heights first`() {
    #expect(geometry(20, 30, .released(.original)).canvas == PixelSize(height: 672, width: 336))
    #expect(geometry(20, 30, .released(.huggingFace)).canvas == PixelSize(height: 336, width: 672))
  }

  /// 792 · (48 / 1408) is 26.999…96 in double: truncated to 26 it leaves margins of 11, rounded to 27 it leaves 10.
  @Test(arguments: [(792, 1408), (1408, 792)])
  func `rounds a size just below an integer only with the rule of Hugging Face`(width: Int, height: Int) {
    func kept(_ sizeRule: AnyResolution.SizeRule) -> [Int] {
      let tiles = geometry(width, height, .released(sizeRule)).tiles
      return [tiles.keptRows.count, tiles.keptColumns.count].sorted()
    }
    #expect(kept(.original) == [26, 48])
    #expect(kept(.huggingFace) == [28, 48])
  }

  // MARK: - Any size

  @Test(arguments: AnyResolution.SizeRule.allCases)
  func `counts tokens like a plain implementation`(sizeRule: AnyResolution.SizeRule) {
    var numbers = SeededGenerator(7)
    let lists = [
      [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)],
      [(672, 672), (336, 1344), (1344, 336), (1008, 672), (336, 336), (2016, 2016)],
    ]
    var (empty, differing) = (0, 0)
    for index in 0..<10_000 {
      // Every fourth image is a strip.
      let limits = index.isMultiple(of: 4) ? (60, 9000) : (3000, 3000)
      let sides = (numbers.next(1...limits.0), numbers.next(1...limits.1))
      let (width, height) = index.isMultiple(of: 8) ? sides : (sides.1, sides.0)
      let pinpoints = lists[index % 3 / 2]
      let rules = AnyResolution(pinpoints: pinpoints, viewSize: 336, patchesPerSide: 24, sizeRule: sizeRule)
      let found = geometry(width, height, rules).tiles
      let plain = PlainAnyResolution(pinpoints: pinpoints, sizeRule == .huggingFace)
      let expected = plain.newlinesAndFeatures(width: width, height: height)
      if found.keptRows.count != expected.newlines || found.tokenCount != expected.newlines + expected.features {
        differing += 1
        if differing < 10 { Issue.record("\(width)x\(height): \(found), \(expected)") }
      }
      if expected.features == 0 { empty += 1 }
    }
    #expect(differing == 0)
    #expect(empty > 100, "the images must include strips without features")
  }

  /// Canvas, map after the limit and tokens of LLaVA-OneVision.
  @Test(arguments: [
    (336, 336, 384, 384, 27, 27, 1485), (640, 480, 768, 768, 40, 54, 2929), (480, 640, 768, 768, 54, 40, 2943),
    (1000, 300, 384, 1152, 25, 81, 2779), (1280, 720, 768, 1536, 54, 96, 5967), (1024, 899, 1152, 1152, 71, 81, 6551),
    (1920, 1080, 1152, 1920, 60, 108, 7269), (4032, 3024, 1920, 2304, 70, 93, 7309),
    (2304, 2304, 2304, 2304, 81, 81, 7371),
  ])
  func `limits the map of LLaVA-OneVision`(
    width: Int, height: Int, canvasHeight: Int, canvasWidth: Int, rows: Int, columns: Int, tokens: Int
  ) {
    let found = geometry(width, height, .oneVision)
    #expect(found.canvas == PixelSize(height: canvasHeight, width: canvasWidth))
    #expect(found.tiles.map == MapSize(rows: rows, columns: columns))
    #expect(729 + found.tiles.tokenCount == tokens)
  }

  @Test(arguments: AnyResolution.SizeRule.allCases)
  func `counts tokens of LLaVA-OneVision like a plain implementation`(sizeRule: AnyResolution.SizeRule) {
    var numbers = SeededGenerator(11)
    var rules = AnyResolution.oneVision
    rules.sizeRule = sizeRule
    let pinpoints = (1...6).flatMap { row in (1...6).map { (384 * row, 384 * $0) } }
    let plain = PlainAnyResolution(
      pinpoints: pinpoints, true, tile: 384, patches: 27, rounds: sizeRule == .huggingFace)
    var (limited, largest) = (0, 0)
    for index in 0..<10_000 {
      let longest = index.isMultiple(of: 3) ? 4000 : 9000
      let (width, height) = (numbers.next(1...longest), numbers.next(1...(index.isMultiple(of: 5) ? 60 : 4000)))
      let found = AnyResolutionGeometry(PixelSize(height: height, width: width), rules).tiles
      let expected = plain.limited(width: width, height: height)
      #expect(found.tokenCount == expected.newlines + expected.features, "\(width)x\(height)")
      limited += found.reduced == nil ? 0 : 1
      largest = max(largest, 729 + found.tokenCount)
    }
    #expect(limited > 2000 && largest <= 8829)
  }

  @Test func `counts tokens of LLaVA-OneVision like the reference`() throws {
    struct Count: Decodable {
      var hw: [Int]
      var canvas_hw: [Int]
      var tokens: Int
    }
    let counts = try Goldens.json("ops/onevision_counts.json", as: [Count].self)
    #expect(counts.count == 300)
    for count in counts {
      let found = geometry(count.hw[1], count.hw[0], .oneVision)
      #expect([found.canvas.height, found.canvas.width] == count.canvas_hw, "\(count.hw)")
      #expect(729 + found.tiles.tokenCount == count.tokens, "\(count.hw)")
    }
  }

  @Test func `uses canvases within a limit of tiles`() {
    var rules = AnyResolution.oneVision
    rules.tileLimit = 4
    #expect(rules.maxTileCount == 4 && rules.usableCanvases.count == 8)
    #expect(geometry(1920, 1080, rules).tiles.tileCount <= 4)
    #expect(geometry(100, 4000, rules).canvas == PixelSize(height: 1536, width: 384))
  }

  @Test(arguments: AnyResolution.SizeRule.allCases)
  func `accepts any size`(sizeRule: AnyResolution.SizeRule) {
    let sides = [1, 2, 335, 336, 337, 1_000_000, 1 << 31, 1 << 53, .max]
    for (width, height) in sides.flatMap({ width in sides.map { (width, $0) } }) {
      let found = geometry(width, height, .released(sizeRule))
      #expect(found.resized.width >= 1 && found.resized.height >= 1)
      #expect(found.left >= 0 && found.top >= 0 && found.tiles.tokenCount <= 2928 - 576, "\(width)x\(height)")
    }
  }

  @Test func `uses the vision encoder's number of patches`() {
    let rules = AnyResolution(pinpoints: [(84, 42)], viewSize: 42, patchesPerSide: 3, sizeRule: .huggingFace)
    let tiles = geometry(10, 10, rules).tiles
    #expect((tiles.rows, tiles.columns) == (2, 1))
    #expect((tiles.keptRows, tiles.keptColumns) == (1..<5, 0..<3))
  }
}

/// An independent implementation of the rules: a sorted list of candidates, rounding by decimal text, features counted
/// one by one.
private struct PlainAnyResolution {
  private let canvases: [(width: Int, height: Int)]
  private let rounds: Bool
  private let tile: Int
  private let patches: Int

  init(pinpoints: [(Int, Int)], _ isHuggingFace: Bool, tile: Int = 336, patches: Int = 24, rounds: Bool? = nil) {
    canvases = pinpoints.map { isHuggingFace ? ($0.1, $0.0) : ($0.0, $0.1) }
    self.rounds = rounds ?? isHuggingFace
    (self.tile, self.patches) = (tile, patches)
  }

  /// As `newlinesAndFeatures`, after the limit of nine views: the largest integers whose products with the ratio
  /// are not above the sides.
  func limited(width: Int, height: Int) -> (newlines: Int, features: Int) {
    let (rows, features) = newlinesAndFeatures(width: width, height: height)
    guard features > 0 else { return (rows, features) }
    let ratio = (Double(features) / Double(9 * patches * patches)).squareRoot()
    guard ratio > 1.1 else { return (rows, features) }
    func fitting(_ side: Int) -> Int {
      var count = 0
      // The product minus the side, rounded once.
      while (-Double(side)).addingProduct(Double(count + 1), ratio) <= 0 { count += 1 }
      return count
    }
    return (fitting(rows), fitting(rows) * fitting(features / rows))
  }

  func newlinesAndFeatures(width: Int, height: Int) -> (newlines: Int, features: Int) {
    let candidates = canvases.enumerated().map { index, canvas in
      let scale = Double.minimum(Double(canvas.width) / Double(width), Double(canvas.height) / Double(height))
      let fitted = Int(Double(width) * scale) * Int(Double(height) * scale)
      let effective = fitted < width * height ? fitted : width * height
      return [-effective, canvas.width * canvas.height - effective, index]
    }
    let best = canvases[candidates.sorted { $0.lexicographicallyPrecedes($1) }[0][2]]
    let (mapWidth, mapHeight) = (best.width / tile * patches, best.height / tile * patches)

    var (cutRows, cutColumns) = (0, 0)
    if Double(width) / Double(height) > Double(mapWidth) / Double(mapHeight) {
      cutRows = (mapHeight - integer(Double(height) * (Double(mapWidth) / Double(width)))) / 2
    } else {
      cutColumns = (mapWidth - integer(Double(width) * (Double(mapHeight) / Double(height)))) / 2
    }
    var (newlines, features) = (0, 0)
    for row in 0..<mapHeight where row >= cutRows && row < mapHeight - cutRows {
      newlines += 1
      for column in 0..<mapWidth where column >= cutColumns && column < mapWidth - cutColumns { features += 1 }
    }
    return (newlines, features)
  }

  private func integer(_ value: Double) -> Int {
    guard rounds else { return Int(value) }
    return Int(String(format: "%.7f", value).prefix { $0 != "." }) ?? -1
  }
}

extension AnyResolution {
  /// The rules of the published LLaVA-OneVision models.
  fileprivate static var oneVision: AnyResolution {
    var rules = AnyResolution(
      pinpoints: (1...6).flatMap { row in (1...6).map { (384 * row, 384 * $0) } }, viewSize: 384, patchesPerSide: 27,
      sizeRule: .huggingFace)
    rules.maxMapViews = 9
    return rules
  }
}
