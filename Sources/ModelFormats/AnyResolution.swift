import Foundation
import Kernels

/// How a LLaVA-NeXT model spreads images over several views (anyres).
package struct AnyResolution: Sendable, Equatable {
  /// Whose numbers decide where the two differ: on ties between canvases and where a product just misses an integer.
  package enum SizeRule: Sendable, CaseIterable {
    /// Canvases are listed as height and width; sizes are rounded to seven decimals before they are cut to integers.
    case huggingFace

    /// Canvases are listed as width and height; sizes are cut to integers as they come.
    case original
  }

  /// How the features of an image's views become one run of tokens.
  package enum Merge: Sendable, Equatable {
    /// The tiles as one map without its padding, a newline after each of its rows.
    case spatialUnpad

    /// All features of all views, one view after the other.
    case flat
  }

  /// What an image may be put on, in the order of the file: of two that fit equally well the first is taken.
  package var canvases: [PixelSize]
  /// The side `S` of a view; the canvases' sides are multiples of it.
  package var viewSize: Int
  /// How many patches the vision encoder cuts a view's side into.
  package var patchesPerSide: Int
  package var sizeRule: SizeRule
  package var merge = Merge.spatialUnpad

  /// - Parameter pinpoints: The canvases as the file lists them.
  package init(
    pinpoints: [(Int, Int)], viewSize: Int, patchesPerSide: Int, sizeRule: SizeRule, merge: Merge = .spatialUnpad
  ) {
    canvases = pinpoints.map { first, second in
      switch sizeRule {
      case .huggingFace: PixelSize(height: first, width: second)
      case .original: PixelSize(height: second, width: first)
      }
    }
    self.viewSize = viewSize
    self.patchesPerSide = patchesPerSide
    self.sizeRule = sizeRule
    self.merge = merge
  }

  /// What the reference library takes when the file is silent: the canvases of the released models.
  static let releasedPinpoints = [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)]

  /// Checks that a file's canvases are few and made of whole views.
  init(
    checking pinpoints: [(Int, Int)], _ vision: VisionConfiguration, sizeRule: SizeRule,
    merge: Merge = .spatialUnpad, _ check: ValueCheck
  ) throws(CheckpointError) {
    guard (1...64).contains(pinpoints.count) else {
      throw check.fault("image_grid_pinpoints", "1 to 64 pairs", "\(pinpoints.count)")
    }
    let side = vision.imageSize
    for (first, second) in pinpoints where !first.isMultiple(of: side) || !second.isMultiple(of: side) {
      throw check.fault("image_grid_pinpoints", "multiples of the vision encoder's \(side)", "[\(first), \(second)]")
    }
    self.init(
      pinpoints: pinpoints, viewSize: side, patchesPerSide: vision.patchesPerSide, sizeRule: sizeRule, merge: merge)
  }
}

extension ConfigurationFile {
  /// LLaVA-NeXT's way with images, or `nil` for models that look at an image once.
  func checkedAnyResolution(
    _ vision: VisionConfiguration, _ check: ValueCheck
  ) throws(CheckpointError) -> AnyResolution? {
    guard model_type == "llava_next" else { return nil }
    guard use_image_newline_parameter ?? true else {
      throw check.fault("use_image_newline_parameter", "true", "false, which is not supported")
    }
    // The class row has no place in a grid of features.
    guard vision_feature_select_strategy ?? "default" == "default" else {
      throw check.fault(
        "vision_feature_select_strategy", "'default' for llava_next", "'\(vision_feature_select_strategy ?? "")'")
    }
    let pinpoints = image_grid_pinpoints?.pairs ?? AnyResolution.releasedPinpoints
    return try AnyResolution(checking: pinpoints, vision, sizeRule: .huggingFace, check)
  }
}

/// The pairs that `image_grid_pinpoints` lists, or a string that holds such a list with square or round brackets.
struct GridPinpoints: Decodable {
  static let key = "image_grid_pinpoints"

  /// As they stand in the file; Hugging Face means height and width, LLaVA width and height.
  var pairs: [(Int, Int)]

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let lists: [[Int]]
    if let text = try? container.decode(String.self) {
      let list = text.map { $0 == "(" ? "[" : $0 == ")" ? "]" : String($0) }.joined()
      guard let decoded = try? JSONDecoder().decode([[Int]].self, from: Data(list.utf8)) else {
        throw PreprocessorConfigurationError.invalidValue(
          key: Self.key, expected: "a list of pairs of numbers", found: "\"\(text.prefix(60))\"")
      }
      lists = decoded
    } else {
      lists = try container.decode([[Int]].self)
    }
    pairs = try lists.map { list in
      guard list.count == 2 else {
        throw PreprocessorConfigurationError.invalidValue(
          key: Self.key, expected: "pairs of numbers", found: "\(list.prefix(8))")
      }
      return (try checkedSide(list[0], key: Self.key), try checkedSide(list[1], key: Self.key))
    }
  }
}

/// The largest side in pixels that a file may ask for.
private let largestSide = 4096

/// A side in pixels that is neither absurd nor nothing.
func checkedSide(_ side: Int, key: String) throws(PreprocessorConfigurationError) -> Int {
  guard (1...largestSide).contains(side) else {
    throw .invalidValue(key: key, expected: "from 1 to \(largestSide)", found: "\(side)")
  }
  return side
}

/// Rows and columns of an image, in the order in which Hugging Face's files give them.
package struct PixelSize: Sendable, Equatable, Hashable {
  package var height: Int
  package var width: Int

  package init(height: Int, width: Int) {
    self.height = height
    self.width = width
  }
}

/// The tiles of an image as a grid, and which of their features show the image and not its padding.
///
/// The features of all tiles make one map in the order of the image: `rows · S` by `columns · S` of them, where `S` is
/// how many patches the vision encoder cuts a view's side into.
package struct TileGrid: Sendable, Equatable {
  package var rows: Int
  package var columns: Int
  /// Rows of the map that are kept; none when the image is a flat strip.
  package var keptRows: Range<Int>
  /// Columns of the map that are kept; none when the image is an upright strip.
  package var keptColumns: Range<Int>

  package var tileCount: Int { rows * columns }

  /// The visual tokens of the tiles: the kept features and the newline after each row of them.
  package var tokenCount: Int { keptRows.count * (keptColumns.count + 1) }

  package init(rows: Int, columns: Int, keptRows: Range<Int>, keptColumns: Range<Int>) {
    self.rows = rows
    self.columns = columns
    self.keptRows = keptRows
    self.keptColumns = keptColumns
  }
}

/// How LLaVA-NeXT spreads an image over tiles: on which canvas, at which size, and what of the tiles' features is kept.
///
/// The rules are continuous arithmetic cut to integers, so every product and quotient stands here in the order in which
/// the reference takes it.
///
/// Source: `select_best_resolution`, `resize_and_pad_image` in LLaVA's `llava/mm_utils.py`, `unpad_image` in its
/// `llava/model/llava_arch.py`, and the functions of the same tasks in transformers.
package struct AnyResolutionGeometry: Sendable, Equatable {
  /// What the image is put on, in pixels.
  package let canvas: PixelSize
  /// The image's own size on the canvas, in pixels.
  package let resized: PixelSize
  package let tiles: TileGrid

  /// - Parameters:
  ///   - image: The image's size, at least one pixel.
  ///   - rules: The model's canvases and views.
  package init(_ image: PixelSize, _ rules: AnyResolution) {
    precondition(
      image.width > 0 && image.height > 0 && !rules.canvases.isEmpty, "AnyResolutionGeometry: \(image)")
    canvas = Self.canvas(for: image, rules.canvases)
    resized = Self.resized(image, to: canvas)
    let (rows, columns) = (canvas.height / rules.viewSize, canvas.width / rules.viewSize)
    let map = PixelSize(height: rows * rules.patchesPerSide, width: columns * rules.patchesPerSide)
    let (keptRows, keptColumns) = Self.unpadded(map, of: image, rules.sizeRule)
    tiles = TileGrid(rows: rows, columns: columns, keptRows: keptRows, keptColumns: keptColumns)
  }

  /// Canvas rows above the image; an odd row more is below it.
  package var top: Int { (canvas.height - resized.height) / 2 }

  /// Canvas columns left of the image; an odd column more is on its right.
  package var left: Int { (canvas.width - resized.width) / 2 }

  /// Where the image lies on the canvas.
  package var area: ImageArea {
    ImageArea(
      rows: Double(top)..<Double(top + resized.height), columns: Double(left)..<Double(left + resized.width))
  }

  /// The canvas on which most of the image's pixels survive, and of several the one that it fills best.
  private static func canvas(for image: PixelSize, _ canvases: [PixelSize]) -> PixelSize {
    let (width, height) = (Double(image.width), Double(image.height))
    let (product, overflow) = image.width.multipliedReportingOverflow(by: image.height)
    let area = overflow ? Int.max : product
    var best = (canvas: canvases[0], effective: -1, waste: 0)
    for canvas in canvases {
      let scale = min(Double(canvas.width) / width, Double(canvas.height) / height)
      let effective = min(Int(width * scale) * Int(height * scale), area)
      let waste = canvas.width * canvas.height - effective
      if effective > best.effective || (effective == best.effective && waste < best.waste) {
        best = (canvas, effective, waste)
      }
    }
    return best.canvas
  }

  /// The size at which the image just fits the canvas, grown if need be.
  private static func resized(_ image: PixelSize, to canvas: PixelSize) -> PixelSize {
    let (width, height) = (Double(image.width), Double(image.height))
    let (across, down) = (Double(canvas.width) / width, Double(canvas.height) / height)
    return across < down
      ? PixelSize(height: min(Int((height * across).rounded(.up)), canvas.height), width: canvas.width)
      : PixelSize(height: canvas.height, width: min(Int((width * down).rounded(.up)), canvas.width))
  }

  /// The rows and columns of a feature map that show the image.
  ///
  /// The same margin is cut off both sides, so where the padding is odd one padded row or column stays.
  private static func unpadded(
    _ map: PixelSize, of image: PixelSize, _ sizeRule: AnyResolution.SizeRule
  ) -> (rows: Range<Int>, columns: Range<Int>) {
    let (width, height) = (Double(image.width), Double(image.height))
    let (mapWidth, mapHeight) = (Double(map.width), Double(map.height))
    if width / height > mapWidth / mapHeight {
      let margin = (map.height - sizeRule.integer(height * (mapWidth / width))) / 2
      return (margin..<map.height - margin, 0..<map.width)
    } else {
      let margin = (map.width - sizeRule.integer(width * (mapHeight / height))) / 2
      return (0..<map.height, margin..<map.width - margin)
    }
  }
}

extension AnyResolution.SizeRule {
  /// A length that is not negative, cut to an integer.
  fileprivate func integer(_ length: Double) -> Int {
    switch self {
    case .original: return Int(length)
    case .huggingFace:
      // Rounding to seven decimals reaches the next integer from less than half a unit of the seventh below it, and
      // the distance to that integer is exact.
      let next = length.rounded(.up)
      return next - length < 5e-8 ? Int(next) : Int(length)
    }
  }
}

/// Where an image lies on what the vision encoder looks at, in pixels: on the one view, or on the canvas that tiles make.
///
/// The rest is padding. Edges need not fall on whole pixels.
package struct ImageArea: Sendable, Equatable {
  package var rows: Range<Double>
  package var columns: Range<Double>

  package init(rows: Range<Double>, columns: Range<Double>) { (self.rows, self.columns) = (rows, columns) }

  /// Whether a square shows none of the image.
  ///
  /// - Parameters:
  ///   - row: Which square from the top.
  ///   - column: Which square from the left.
  ///   - side: The sides of the squares.
  package func misses(row: Int, column: Int, side: Int) -> Bool {
    func range(_ index: Int) -> Range<Double> { Double(index * side)..<Double((index + 1) * side) }
    return !rows.overlaps(range(row)) || !columns.overlaps(range(column))
  }
}
