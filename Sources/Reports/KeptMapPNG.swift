import Foundation
public import ImageProcessing
public import PDrop

extension KeptMap {
  /// All panels in one image: all tokens, then each stage with dropped patches dimmed.
  ///
  /// - Parameter showsScores: Whether patches are coloured by score; kept patches then have an outline.
  public func painted(showsScores: Bool = false) -> Image {
    let panel = KeptMapPanel(self)
    let columns = panel.columns(of: 1 + stages.count)
    let rows = (stages.count + columns) / columns
    let step = (across: panel.width + 2 * KeptMapPanel.gap, down: panel.height + 2 * KeptMapPanel.gap)
    var sheet = Sheet(
      width: columns * step.across - 2 * KeptMapPanel.gap, height: rows * step.down - 2 * KeptMapPanel.gap)
    for (index, stage) in ([nil] + stages.map(Optional.some)).enumerated() {
      paint(
        stage, showsScores: showsScores, panel, on: &sheet, left: index % columns * step.across,
        top: index / columns * step.down)
    }
    return sheet.image
  }

  /// Paints a panel; `nil` is the panel of all tokens.
  private func paint(
    _ stage: Stage?, showsScores: Bool, _ panel: KeptMapPanel, on sheet: inout Sheet, left: Int, top: Int
  ) {
    for (region, box) in zip(regions, panel.regions) { sheet.paste(region.image, left: left + box.x, top: top + box.y) }
    let scale = showsScores ? stage.flatMap(HeatScale.init) : nil
    for index in places.indices {
      guard let place = places[index], var box = panel.tokens[index] else { continue }
      (box.x, box.y) = (box.x + left, box.y + top)
      if place.column == regions[place.region].columns { sheet.tint(box, KeptMapColors.newline, opacity: 1) }
      guard let token = stage?.tokens[index] else { continue }
      if let scale, let score = token.score {
        sheet.tint(box, KeptMapColors.heat(scale.position(score)), opacity: KeptMapColors.heatOpacity)
        if token.isKept { sheet.outline(box, KeptMapColors.outline) }
      } else if !token.isKept {
        sheet.tint(box, KeptMapColors.dimming, opacity: KeptMapColors.dimmingOpacity)
      }
    }
  }
}

extension Image {
  /// Images stacked vertically with gaps; the width is that of the widest image.
  public static func stacked(_ images: [Image]) -> Image {
    precondition(!images.isEmpty, "stacked: no image")
    let gap = 3 * KeptMapPanel.gap
    var sheet = Sheet(
      width: images.map(\.width).max() ?? 1, height: images.reduce(-gap) { $0 + $1.height + gap })
    var top = 0
    for image in images {
      sheet.paste(image, left: 0, top: top)
      top += image.height + gap
    }
    return sheet.image
  }
}

/// A canvas with a plain background.
private struct Sheet {
  let width: Int
  let height: Int
  private var pixels: [UInt8]

  init(width: Int, height: Int) {
    (self.width, self.height) = (width, height)
    pixels = []
    pixels.reserveCapacity(3 * width * height)
    for _ in 0..<width * height { pixels += KeptMapColors.background.samples }
  }

  mutating func paste(_ image: Image, left: Int, top: Int) {
    for y in 0..<image.height {
      let target = 3 * ((top + y) * width + left)
      let row = 3 * y * image.width..<3 * (y + 1) * image.width
      pixels.replaceSubrange(target..<target + row.count, with: image.pixels[row])
    }
  }

  mutating func tint(_ box: KeptMapPanel.Box, _ color: Color, opacity: Double) {
    let samples = color.samples
    for y in box.y..<box.y + box.height {
      for x in box.x..<box.x + box.width {
        let pixel = 3 * (y * width + x)
        for channel in 0..<3 { pixels[pixel + channel] = mix(pixels[pixel + channel], samples[channel], opacity) }
      }
    }
  }

  mutating func outline(_ box: KeptMapPanel.Box, _ color: Color) {
    let (right, bottom) = (box.x + box.width - 1, box.y + box.height - 1)
    tint(KeptMapPanel.Box(x: box.x, y: box.y, width: box.width, height: 1), color, opacity: 1)
    tint(KeptMapPanel.Box(x: box.x, y: bottom, width: box.width, height: 1), color, opacity: 1)
    tint(KeptMapPanel.Box(x: box.x, y: box.y, width: 1, height: box.height), color, opacity: 1)
    tint(KeptMapPanel.Box(x: right, y: box.y, width: 1, height: box.height), color, opacity: 1)
  }

  var image: Image {
    guard let image = try? Image(width: width, height: height, pixels: pixels) else {
      preconditionFailure("Sheet: \(width) x \(height) with \(pixels.count) samples")
    }
    return image
  }
}

/// An RGB colour with 8 bits per channel.
public struct Color: Sendable, Equatable {
  public var red: UInt8
  public var green: UInt8
  public var blue: UInt8

  public init(_ red: UInt8, _ green: UInt8, _ blue: UInt8) { (self.red, self.green, self.blue) = (red, green, blue) }

  var samples: [UInt8] { [red, green, blue] }
}

/// The colours of kept-token maps.
public enum KeptMapColors {
  public static let background = Color(255, 255, 255)
  /// A newline token, which shows no part of the image.
  public static let newline = Color(96, 165, 250)
  /// The overlay of dropped patches. Grey is visible on both black and white.
  public static let dimming = Color(90, 96, 104)
  public static let dimmingOpacity = 0.8
  /// The outline of kept patches in maps with scores.
  public static let outline = Color(255, 255, 255)
  public static let heatOpacity = 0.7

  /// Colours from dark to bright, perceptually uniform, also with colour vision deficiency.
  ///
  /// Source: five of the 256 colours of viridis, by Smith and van der Walt, dedicated to the public.
  static let heat = [
    Color(68, 1, 84), Color(59, 82, 139), Color(33, 145, 140), Color(94, 201, 98), Color(253, 231, 37),
  ]

  /// The colour at a position on the scale, 0 to 1.
  public static func heat(_ fraction: Double) -> Color {
    let position = min(max(fraction, 0), 1) * Double(heat.count - 1)
    let index = min(Int(position), heat.count - 2)
    let (from, to) = (heat[index].samples, heat[index + 1].samples)
    let mixed = zip(from, to).map { mix($0, $1, position - Double(index)) }
    return Color(mixed[0], mixed[1], mixed[2])
  }
}

/// Alpha blending of a sample over another.
func mix(_ below: UInt8, _ above: UInt8, _ opacity: Double) -> UInt8 {
  UInt8((Double(below) + (Double(above) - Double(below)) * opacity).rounded())
}

/// The colour scale of the scores of a stage, from the lowest to the highest.
///
/// It is logarithmic if all scores are positive: attention to one token is often a thousand times that to another.
public struct HeatScale: Sendable, Equatable {
  /// The lower end of a logarithmic scale, relative to the highest score. Lower scores have the same colour.
  private static let smallestFraction: Float = 1e-4

  public let lowest: Float
  public let highest: Float
  public let isLogarithmic: Bool
  /// Whether some scores are below the lower end of the scale.
  public let isCut: Bool

  /// - Returns: `nil` for a stage without scores.
  public init?(_ stage: KeptMap.Stage) {
    let scores = stage.tokens.compactMap(\.score)
    guard let lowest = scores.min(), let highest = scores.max(), lowest.isFinite, highest.isFinite else { return nil }
    isLogarithmic = lowest > 0
    self.lowest = isLogarithmic ? max(lowest, highest * Self.smallestFraction) : lowest
    self.highest = highest
    isCut = lowest < self.lowest
  }

  /// The position of a score on the scale, 0 to 1.
  public func position(_ score: Float) -> Double {
    func scaled(_ score: Float) -> Double { isLogarithmic ? log(Double(score)) : Double(score) }
    let range = scaled(highest) - scaled(lowest)
    return range > 0 ? (scaled(max(score, lowest)) - scaled(lowest)) / range : 1
  }
}

/// The layout of a panel of a kept-token map: regions and patches, in pixels of the regions' images.
public struct KeptMapPanel: Sendable, Equatable {
  /// A rectangle, given by its top left corner and its size.
  public struct Box: Sendable, Equatable {
    public var x: Int
    public var y: Int
    public var width: Int
    public var height: Int
  }

  /// The gap between regions, and around newline tokens.
  public static let gap = 8
  /// The width of a newline token, drawn as a thin patch at the end of its row.
  public static let newlineWidth = 6

  /// The image of each region, side by side.
  public let regions: [Box]
  /// The rectangle of each token of the image; `nil` for tokens without a place, such as a class token.
  public let tokens: [Box?]
  public let width: Int
  public let height: Int

  /// - Parameters:
  ///   - map: The kept-token map to draw.
  ///   - histogramSize: The space for bars right of and below each region; 0 for no bars.
  public init(_ map: KeptMap, histogramSize: Int = 0) {
    let barSpace = histogramSize > 0 ? Self.gap / 2 + histogramSize : 0
    var regions: [Box] = []
    var right = 0
    for region in map.regions {
      let left = regions.isEmpty ? 0 : right + Self.gap
      regions.append(Box(x: left, y: 0, width: region.image.width, height: region.image.height))
      right = left + region.image.width + Self.newlineSpace(region) + barSpace
    }
    tokens = map.places.map { place in
      place.map { place in
        let (region, box) = (map.regions[place.region], regions[place.region])
        let size = region.patchSize
        return place.column < region.columns
          ? Box(x: box.x + place.column * size, y: box.y + place.row * size, width: size, height: size)
          : Box(
            x: box.x + box.width + Self.gap / 2, y: box.y + place.row * size, width: Self.newlineWidth, height: size)
      }
    }
    self.regions = regions
    width = right
    height = (regions.map(\.height).max() ?? 0) + barSpace
  }

  /// The space for newline tokens right of the image of a region.
  public static func newlineSpace(_ region: KeptMap.Region) -> Int {
    region.hasNewlines ? gap / 2 + newlineWidth : 0
  }

  /// The number of panels in a row: all panels for one view, two with tiles, one with wide tiles.
  public func columns(of panelCount: Int) -> Int {
    regions.count == 1 ? panelCount : 2 * width > 3 * height ? 1 : min(2, panelCount)
  }
}
