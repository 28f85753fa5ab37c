import Foundation
import ImageProcessing
package import PDrop

/// The kept-token map of an image with its captions, drawn as a panel for each stage.
package struct KeptMapFigure: Sendable {
  package var title: String
  package var map: KeptMap
  /// Whether patches are coloured by score.
  package var showsScores: Bool

  /// - Parameter title: Such as `bike.png, pyramiddrop`.
  package init(_ title: String, _ map: KeptMap, showsScores: Bool = false) {
    (self.title, self.map, self.showsScores) = (title, map, showsScores)
  }

  /// The caption of a panel: `after layer 8: 288 of 576 tokens (50%)`; `nil` is the panel of all tokens.
  package func caption(_ stage: KeptMap.Stage?) -> String {
    let newlines = map.newlines
    guard let stage else {
      let part = newlines.isEmpty ? "" : ", \(newlines.count) of them newlines"
      return "all \(map.tokenCount) tokens\(part)"
    }
    let percentage = (100 * Double(stage.keptCount) / Double(max(1, map.tokenCount))).readable(3)
    let kept = newlines.count { stage.tokens[$0].isKept }
    let part = newlines.isEmpty ? "" : ", \(kept) of \(newlines.count) newlines"
    let place = stage.layer == 0 ? "selected" : "after layer \(stage.layer)"
    return "\(place): \(stage.keptCount) of \(map.tokenCount) tokens (\(percentage)%)\(part)"
  }

  /// The meaning of the colours of a stage.
  package func scaleNote(_ stage: KeptMap.Stage) -> String? {
    guard showsScores, let scale = HeatScale(stage) else { return nil }
    let (lowest, highest) = (Double(scale.lowest).significant(2), Double(scale.highest).significant(2))
    let (less, kind) = (scale.isCut ? " or less" : "", scale.isLogarithmic ? " (log scale)" : "")
    return "scores: dark \(lowest)\(less), bright \(highest)\(kind)"
  }

  /// The title and all captions, one per line, for the description of a PNG file.
  package var summary: String {
    ([title, caption(nil)] + map.stages.map { caption($0) }).joined(separator: "\n")
  }
}

extension KeptMapFigure: Encodable {
  private struct Region: Encodable {
    var name: String
    var rows: Int
    var columns: Int
  }

  private struct Stage: Encodable {
    var layer: Int
    var kept: [Int]
    /// For each region, the number of kept tokens in each row and in each column.
    var keptPerRow: [[Int]]
    var keptPerColumn: [[Int]]

    enum CodingKeys: String, CodingKey {
      case layer, kept
      case keptPerRow = "kept_per_row"
      case keptPerColumn = "kept_per_column"
    }
  }

  private enum CodingKeys: String, CodingKey { case title, tokens, regions, stages }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(title, forKey: .title)
    try container.encode(map.tokenCount, forKey: .tokens)
    try container.encode(
      map.regions.map { Region(name: $0.name, rows: $0.rows, columns: $0.columns) }, forKey: .regions)
    try container.encode(
      map.stages.map { stage in
        let counts = map.regions.indices.map { map.keptCounts(stage, inRegion: $0) }
        return Stage(
          layer: stage.layer, kept: stage.tokens.indices.filter { stage.tokens[$0].isKept },
          keptPerRow: counts.map(\.rows), keptPerColumn: counts.map(\.columns))
      }, forKey: .stages)
  }
}

/// The shapes of a kept-token map.
///
/// Each panel has the images of the regions, and a rectangle with a tooltip over each patch. Bars beside each region
/// show the number of kept tokens in its rows and columns.
struct KeptMapDrawing {
  /// The length of the bar of a row or column with all tokens kept.
  private static let histogramSize = 36

  private let figure: KeptMapFigure
  private let panel: KeptMapPanel
  /// The prefix of the ids of shared images, unique in the document.
  private let name: String
  private let images: [String]

  /// - Throws: `ImageEncodingError`.
  init(_ figure: KeptMapFigure, name: String) throws {
    self.figure = figure
    self.name = name
    panel = KeptMapPanel(figure.map, histogramSize: Self.histogramSize)
    images = try figure.map.regions.map { region in
      "data:image/png;base64," + Data(try ImageEncoder().png(region.image)).base64EncodedString()
    }
  }

  /// The context for an HTML report: panels in a grid, with HTML captions.
  var context: Context {
    [
      "title": figure.title, "images": imageContexts, "isWide": panel.regions.count > 1, "panels": panels,
      "dimming": KeptMapColors.dimming.code, "dimmingOpacity": KeptMapColors.dimmingOpacity,
      "heatOpacity": KeptMapColors.heatOpacity, "newline": KeptMapColors.newline.code,
      "outline": KeptMapColors.outline.code,
    ]
  }

  // MARK: - SVG file

  private static let titleHeight = 34.0
  private static let captionHeight = 52.0

  /// The size of the drawing with its captions.
  var size: (width: Double, height: Double) {
    let count = 1 + figure.map.stages.count
    let columns = panel.columns(of: count)
    let rows = (count + columns - 1) / columns
    return (
      Double(columns * (panel.width + 3 * KeptMapPanel.gap)),
      Self.titleHeight + Double(rows) * (Double(panel.height) + Self.captionHeight)
    )
  }

  /// The context for an SVG file: the figure at `top`, with drawn captions.
  func context(top: Double) -> Context {
    var context = context
    let columns = panel.columns(of: 1 + figure.map.stages.count)
    context["titleY"] = (top + 20).coordinate
    context["panels"] = panels.enumerated().map { index, panel -> Context in
      var panel = panel
      let left = Double(index % columns * (self.panel.width + 3 * KeptMapPanel.gap))
      let y = top + Self.titleHeight + Double(index / columns) * (Double(self.panel.height) + Self.captionHeight)
      panel["x"] = left.coordinate
      panel["y"] = (y + 36).coordinate
      panel["captionY"] = (y + 12).coordinate
      panel["noteY"] = (y + 29).coordinate
      return panel
    }
    return context
  }

  // MARK: - Parts

  private var imageContexts: [Context] {
    zip(figure.map.regions, images).enumerated().map { index, part in
      [
        "id": "\(name)-\(index)", "width": part.0.image.width, "height": part.0.image.height, "url": part.1,
      ]
    }
  }

  private var panels: [Context] { ([nil] + figure.map.stages.map(Optional.some)).map(context) }

  /// The context of a panel; `nil` is the panel of all tokens.
  private func context(_ stage: KeptMap.Stage?) -> Context {
    let regions = panel.regions.enumerated().map { index, box -> Context in
      ["href": "#\(name)-\(index)", "x": box.x, "y": box.y]
    }
    var context: Context = [
      "width": panel.width, "height": panel.height, "caption": figure.caption(stage), "regions": regions,
      "patches": patches(stage), "histograms": stage.map(histograms) ?? [],
    ]
    context["note"] = stage.flatMap(figure.scaleNote)
    return context
  }

  private func patches(_ stage: KeptMap.Stage?) -> [Context] {
    let scale = figure.showsScores ? stage.flatMap(HeatScale.init) : nil
    return figure.map.places.indices.compactMap { index in
      guard let place = figure.map.places[index], let box = panel.tokens[index] else { return nil }
      let region = figure.map.regions[place.region]
      let token = stage?.tokens[index]
      var context: Context = [
        "x": box.x, "y": box.y, "width": box.width, "height": box.height,
        "title": title(place, region, token), "isNewline": place.column == region.columns,
      ]
      if let token {
        if let scale, let score = token.score {
          context["heat"] = KeptMapColors.heat(scale.position(score)).code
          context["isOutlined"] = token.isKept
        } else {
          context["isDropped"] = !token.isKept
        }
      }
      return context
    }
  }

  private func title(_ place: KeptMap.Place, _ region: KeptMap.Region, _ token: KeptMap.Token?) -> String {
    let column = place.column < region.columns ? "column \(place.column + 1)" : "newline"
    let start = (figure.map.regions.count > 1 ? "\(region.name), " : "") + "row \(place.row + 1), \(column)"
    guard let token else { return start }
    guard let score = token.score, let rank = token.rank else { return start + ": dropped earlier" }
    return "\(start): \(token.isKept ? "kept" : "dropped"), score \(Double(score).significant(3)), rank \(rank)"
  }

  private func histograms(_ stage: KeptMap.Stage) -> [Context] {
    zip(figure.map.regions, panel.regions).enumerated().flatMap { index, part -> [Context] in
      let ((region, box), size) = (part, Double(Self.histogramSize))
      let (rows, columns) = figure.map.keptCounts(stage, inRegion: index)
      let right = box.x + box.width + KeptMapPanel.newlineSpace(region) + KeptMapPanel.gap / 2
      let below = box.y + box.height + KeptMapPanel.gap / 2
      func bar(_ kind: String, _ number: Int, _ count: Int, of all: Int, _ x: Int, _ y: Int) -> Context {
        let length = (size * Double(count) / Double(all)).coordinate
        let thickness = "\(region.patchSize - 2)"
        return [
          "x": x, "y": y, "width": kind == "row" ? length : thickness, "height": kind == "row" ? thickness : length,
          "title": "\(kind) \(number + 1): \(count) of \(all) kept",
        ]
      }
      return rows.enumerated().map { row, count in
        bar("row", row, count, of: region.columns, right, box.y + row * region.patchSize + 1)
      }
        + columns.enumerated().map { column, count in
          bar("column", column, count, of: region.rows, box.x + column * region.patchSize + 1, below)
        }
    }
  }
}

extension Color {
  /// The CSS notation, such as `#fde725`.
  var code: String { String(format: "#%02x%02x%02x", red, green, blue) }
}

/// Kept-token maps as one SVG file with embedded images.
package enum KeptMapFile {
  private static let margin = 12.0

  /// - Throws: `ImageEncodingError`.
  package static func svg(_ figures: [KeptMapFigure]) throws -> String {
    let drawings = try figures.enumerated().map { try KeptMapDrawing($1, name: "figure-\($0)") }
    var (top, width) = (0.0, 0.0)
    var contexts: [Context] = []
    for drawing in drawings {
      contexts.append(drawing.context(top: top))
      top += drawing.size.height
      width = max(width, drawing.size.width)
    }
    return Templates.render(
      "drawing",
      [
        "width": (width + 2 * margin).coordinate, "height": (top + 2 * margin).coordinate,
        "left": (-margin).coordinate, "figures": contexts,
        "title": figures.map(\.title).joined(separator: ", "),
      ])
  }
}
