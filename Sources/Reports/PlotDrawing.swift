import Foundation

/// The values of a template.
package typealias Context = [String: Any]

/// The series colours of the style sheet, used in turn.
enum SeriesColor {
  private static let count = 6

  static func number(_ series: Int) -> Int { series % count }
}

/// The shapes of a plot. The sheet is 400 units wide, which fits a phone; long labels widen it.
package struct PlotDrawing {
  private static let height = 260.0

  private let width: Double
  private let plot: Plot
  private let x: Scale
  private let y: Scale
  private let area: Frame

  package init(_ plot: Plot) {
    self.plot = plot
    let points = plot.series.flatMap(\.points)
    let heights = points.flatMap { [$0.y, $0.low ?? $0.y, $0.high ?? $0.y] }
    // The margins fit the tick labels at the left, and the series names at the right.
    let ticks = Scale(plot.y, heights, from: 0, to: 1).ticks
    let left = 12 + (ticks.map { LabelPlacement.width($0.text) }.max() ?? 0)
    let names = plot.series.filter(Self.isNamedAtEnd).map { LabelPlacement.width($0.name) }
    let right = max(20, 12 + (names.max() ?? 0))
    let axisLabels = max(LabelPlacement.width(plot.x.label), LabelPlacement.width(plot.y.label) - left)
    let pointLabels = plot.series.flatMap(\.points).compactMap { $0.label.map(LabelPlacement.width) }
    let areaWidth = max(
      LabelPlacement.sheetWidth - left - right, LabelPlacement.sheetWidth / 2, axisLabels, pointLabels.max() ?? 0)
    width = left + areaWidth + right
    area = Frame(x: left, y: 24, width: areaWidth, height: Self.height - 24 - 40)
    x = Scale(plot.x, points.map(\.x), from: area.x, to: area.x + area.width, tickCount: 5)
    y = Scale(plot.y, heights, from: area.y + area.height, to: area.y)
  }

  /// Whether the name of a series is drawn at its end: none of its points has a label.
  private static func isNamedAtEnd(_ series: Plot.Series) -> Bool {
    !series.points.isEmpty && series.points.allSatisfy { $0.label == nil }
  }

  package var context: Context {
    var context: Context = [
      "title": plot.title, "width": width.coordinate, "height": Self.height.coordinate,
      "left": area.x.coordinate, "right": (area.x + area.width).coordinate, "top": area.y.coordinate,
      "bottom": (area.y + area.height).coordinate, "tickEnd": (area.y + area.height + 4).coordinate,
      "middle": (area.x + area.width / 2).coordinate,
      "xLabel": plot.x.label, "yLabel": plot.y.label, "xLabelY": (Self.height - 6).coordinate,
      "xTicks": x.ticks.map { ["x": x.position($0.value).coordinate, "text": $0.text] },
      "xTextY": (area.y + area.height + 16).coordinate,
      "yTicks": y.ticks.map {
        let position = y.position($0.value)
        return ["y": position.coordinate, "textY": (position + 4).coordinate, "text": $0.text]
      },
      "yTextX": (area.x - 6).coordinate, "series": series, "labels": labels, "legend": legend,
    ]
    context["caption"] = plot.caption
    return context
  }

  /// The names of series whose points have labels, if there are several series.
  private var legend: [Context] {
    guard plot.series.count > 1 else { return [] }
    return plot.series.enumerated().filter { !Self.isNamedAtEnd($1) && $1.points.count > 1 }
      .map { ["color": SeriesColor.number($0), "name": $1.name] }
  }

  private var series: [Context] {
    let formats = (x: plot.xFormat, y: plot.yFormat)
    return plot.series.enumerated().map { index, series in
      let points = series.points.map { point -> Context in
        var context: Context = [
          "x": x.position(point.x).coordinate, "y": y.position(point.y).coordinate,
          "title": title(point, series, formats),
        ]
        if let low = point.low, let high = point.high {
          let bar: Context = [
            "x": x.position(point.x).coordinate, "low": y.position(low).coordinate, "high": y.position(high).coordinate,
          ]
          context["bar"] = bar
        }
        return context
      }
      var context: Context = [
        "color": SeriesColor.number(index), "points": points, "radius": points.count > 30 ? 2 : 3.5,
      ]
      if series.connectsPoints, points.count > 1 { context["line"] = ["points": points] }
      return context
    }
  }

  private func title(
    _ point: Plot.Point, _ series: Plot.Series, _ formats: (x: NumberFormat, y: NumberFormat)
  ) -> String {
    var title = "\(point.label ?? series.name): \(plot.x.label) \(formats.x.text(point.x))"
    title += ", \(plot.y.label) \(formats.y.text(point.y))"
    if let low = point.low, let high = point.high { title += " (\(formats.y.text(low)) to \(formats.y.text(high)))" }
    return title
  }

  /// The series names at the ends of lines, and the labels of points.
  private var labels: [Context] {
    var labels: [Context] = []
    let named = plot.series.indices.filter { Self.isNamedAtEnd(plot.series[$0]) }
    let ends = named.map { plot.series[$0].points.last.map { (x.position($0.x), y.position($0.y)) } ?? (0, 0) }
    let heights = LabelPlacement.spread(ends.map(\.1), apart: 14, within: area.y...area.y + area.height)
    for (number, index) in named.enumerated() {
      labels.append(label(plot.series[index].name, index, x: ends[number].0 + 8, y: heights[number] + 4))
    }
    let sheet = Frame(x: area.x, y: 14, width: width - area.x, height: area.y + area.height - 14)
    var placement = LabelPlacement(in: sheet, around: strokes)
    for (index, series) in plot.series.enumerated() {
      for point in series.points {
        guard let text = point.label else { continue }
        let place = placement.place(text, besideX: x.position(point.x), y: y.position(point.y))
        labels.append(label(text, index, x: place.x, y: place.y))
      }
    }
    return labels
  }

  /// The approximate areas of points, lines and error bars.
  private var strokes: [Frame] {
    plot.series.flatMap { series -> [Frame] in
      let places = series.points.map { (x: x.position($0.x), y: y.position($0.y)) }
      let points = places.map { Frame(x: $0.x - 4, y: $0.y - 4, width: 8, height: 8) }
      let bars = series.points.compactMap { point -> Frame? in
        guard let low = point.low, let high = point.high else { return nil }
        return Frame(
          x: x.position(point.x) - 1, y: y.position(high), width: 2, height: y.position(low) - y.position(high))
      }
      return points + bars + (series.connectsPoints ? Self.squares(along: places) : [])
    }
  }

  /// Small squares that cover a line.
  private static func squares(along line: [(x: Double, y: Double)]) -> [Frame] {
    let squareSide = 3.0
    return zip(line, line.dropFirst()).flatMap { from, to in
      (0...12).map { step -> Frame in
        let fraction = Double(step) / 12
        let (x, y) = (from.x + fraction * (to.x - from.x), from.y + fraction * (to.y - from.y))
        return Frame(x: x - squareSide / 2, y: y - squareSide / 2, width: squareSide, height: squareSide)
      }
    }
  }

  private func label(_ text: String, _ series: Int, x: Double, y: Double) -> Context {
    ["text": text, "color": SeriesColor.number(series), "x": x.coordinate, "y": y.coordinate]
  }
}

/// The shapes of a grouped bar chart: for each group its name, and below it a line per series with name, bar and value.
///
/// The sheet is 400 units wide; long labels widen it.
package struct BarDrawing {
  private static let barHeight = 16.0
  private static let top = 6.0
  /// The minimum length of the axis, and the margin for half of a tick label at its ends.
  private static let (minAxisLength, minMargin) = (150.0, 20.0)

  private let plot: BarPlot
  private let format: NumberFormat
  private let scale: Scale
  private let width: Double
  /// The position of zero; series names stand left of it.
  private let left: Double
  private let bottom: Double

  package init(_ plot: BarPlot) {
    self.plot = plot
    let format = plot.format
    self.format = format
    let bars = plot.series.flatMap(\.bars).compactMap(\.self)
    let names = plot.series.count > 1 ? plot.series.map { LabelPlacement.width($0.name) + 6 } : []
    let values = bars.map { LabelPlacement.width(format.text($0.value)) + 10 }
    // Group names are bold and begin at the left edge.
    let groupNames = plot.groups.map { 1.1 * LabelPlacement.width($0) }
    left = max(Self.minMargin, names.max() ?? 0)
    let right = max(Self.minMargin, values.max() ?? 0)
    width = max(
      LabelPlacement.sheetWidth, left + Self.minAxisLength + right, left + LabelPlacement.width(plot.axis.label),
      groupNames.max() ?? 0)
    var axis = plot.axis
    if !axis.isLogarithmic { axis.reaches.append(0) }
    scale = Scale(
      axis, bars.flatMap { [$0.value, $0.high ?? $0.value] }, from: left, to: width - right, tickCount: 4,
      endsAtData: true)
    let heights = plot.groups.indices.map { Self.groupHeight(plot, $0) }
    bottom = Self.top + heights.reduce(0, +)
  }

  private static func groupHeight(_ plot: BarPlot, _ group: Int) -> Double {
    26 + Double(plot.series.count { $0.bars[group] != nil }) * (barHeight + 2)
  }

  package var context: Context {
    var context: Context = [
      "title": plot.title, "width": width.coordinate, "height": (bottom + 40).coordinate,
      "top": Self.top.coordinate, "bottom": bottom.coordinate, "label": plot.axis.label,
      "textY": (bottom + 15).coordinate, "labelY": (bottom + 34).coordinate, "left": left.coordinate,
      "ticks": scale.ticks.map { ["x": scale.position($0.value).coordinate, "text": $0.text] }, "groups": groups,
    ]
    context["caption"] = plot.caption
    return context
  }

  private var groups: [Context] {
    var y = Self.top
    return plot.groups.indices.map { group in
      let nameY = y + 18
      var barY = y + 24
      y += Self.groupHeight(plot, group)
      let bars = plot.series.indices.compactMap { index -> Context? in
        guard let bar = plot.series[index].bars[group] else { return nil }
        defer { barY += Self.barHeight + 2 }
        return context(bar, index, y: barY)
      }
      return ["group": plot.groups[group], "y": nameY.coordinate, "bars": bars]
    }
  }

  private func context(_ bar: BarPlot.Bar, _ series: Int, y: Double) -> Context {
    let start = scale.position(max(0, scale.domain.lowerBound))
    let end = max(start, scale.position(bar.value))
    let middle = y + Self.barHeight / 2
    var context: Context = [
      "color": SeriesColor.number(series), "x": start.coordinate, "y": y.coordinate,
      "width": (end - start).coordinate, "height": Self.barHeight.coordinate, "text": format.text(bar.value),
      "textX": (max(end, bar.high.map(scale.position) ?? end) + 6).coordinate, "textY": (middle + 4).coordinate,
    ]
    if plot.series.count > 1 {
      let name: Context = ["name": plot.series[series].name, "x": (left - 6).coordinate, "y": (middle + 4).coordinate]
      context["seriesName"] = name
    }
    if let low = bar.low, let high = bar.high {
      let range: Context = [
        "low": scale.position(low).coordinate, "high": scale.position(high).coordinate, "y": middle.coordinate,
      ]
      context["range"] = range
    }
    return context
  }
}

/// A rectangle in a drawing.
package struct Frame: Equatable {
  package var x: Double
  package var y: Double
  package var width: Double
  package var height: Double

  package init(x: Double, y: Double, width: Double, height: Double) {
    (self.x, self.y, self.width, self.height) = (x, y, width, height)
  }

  /// The area of the intersection with another rectangle.
  func overlap(_ other: Frame) -> Double {
    let across = min(x + width, other.x + other.width) - max(x, other.x)
    let down = min(y + height, other.y + other.height) - max(y, other.y)
    return max(0, across) * max(0, down)
  }
}

/// The placement of labels beside points.
package struct LabelPlacement {
  /// The default width of drawings, and the font size in them.
  static let (sheetWidth, fontSize) = (400.0, 12.0)

  /// An estimate of the width of a text, on the high side, since the font is not known here.
  package static func width(_ text: String) -> Double {
    fontSize * text.unicodeScalars.reduce(0) { $0 + widthInEms($1) }
  }

  private static func widthInEms(_ scalar: Unicode.Scalar) -> Double {
    switch scalar {
    case " ", ",", ".", ":", ";", "'", "|", "!", "i", "j", "l", "I", "(", ")", "[", "]": 0.4
    case "W", "M", "m", "w", "%", "@", "&": 0.96
    case "A"..."Z": 0.72
    default: scalar.value < 0x1100 ? 0.63 : 1
    }
  }

  private let bounds: Frame
  /// The areas that labels avoid: shapes, and the labels placed so far.
  private var taken: [Frame]

  /// - Parameters:
  ///   - bounds: The area for labels.
  ///   - taken: The areas to avoid.
  package init(in bounds: Frame, around taken: [Frame]) { (self.bounds, self.taken) = (bounds, taken) }

  /// The left end of a label's baseline: beside the point, at the place with the least overlap.
  package mutating func place(_ text: String, besideX x: Double, y: Double) -> (x: Double, y: Double) {
    let (width, height) = (Self.width(text), Self.fontSize)
    let (near, far) = (7.0, 6.0)
    let corners = [
      (x + near, y - height / 2), (x - near - width, y - height / 2), (x - width / 2, y - far - height),
      (x - width / 2, y + far), (x + near, y - far - height), (x + near, y + far), (x - near - width, y - far - height),
      (x - near - width, y + far),
    ]
    let frames = corners.map { Frame(x: $0.0, y: $0.1, width: width, height: height) }
    func cost(_ frame: Frame) -> Double {
      taken.reduce(width * height - frame.overlap(bounds)) { $0 + frame.overlap($1) }
    }
    let costs = frames.map(cost)
    let best = costs.indices.min { costs[$0] < costs[$1] - 1e-6 } ?? 0
    taken.append(frames[best])
    return (frames[best].x, frames[best].y + 0.8 * height)
  }

  /// Label heights near `wanted`, moved apart so that no label covers another.
  package static func spread(_ wanted: [Double], apart distance: Double, within limits: ClosedRange<Double>) -> [Double]
  {
    let order = wanted.indices.sorted { wanted[$0] < wanted[$1] }
    var heights = wanted
    var last = limits.lowerBound - distance
    for index in order {
      heights[index] = max(wanted[index], last + distance)
      last = heights[index]
    }
    var next = limits.upperBound + distance
    for index in order.reversed() {
      heights[index] = min(heights[index], next - distance)
      next = heights[index]
    }
    return heights
  }
}
