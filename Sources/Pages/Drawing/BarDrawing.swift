/// Grouped bars as shapes on a sheet 400 wide: each group's name, and its bars below, each with series and value beside it.
struct BarDrawing {
  private static let width = 400.0
  private static let barHeight = 16.0
  /// Room for half of what stands below the axis at zero.
  private static let left = 14.0
  private static let top = 6.0

  private let plot: BarPlot
  private let scale: Scale
  private let bottom: Double

  init(_ plot: BarPlot) {
    self.plot = plot
    let bars = plot.series.flatMap(\.bars).compactMap(\.self)
    var axis = plot.axis
    if !axis.isLogarithmic { axis.reaches.append(0) }
    scale = Scale(
      axis, bars.flatMap { [$0.value, $0.high ?? $0.value] }, from: Self.left, to: Self.width - 130, tickCount: 4,
      endsAtData: true)
    let groups = plot.groups.indices.map { Self.groupHeight(plot, $0) }
    bottom = Self.top + groups.reduce(0, +)
  }

  private static func groupHeight(_ plot: BarPlot, _ group: Int) -> Double {
    26 + Double(plot.series.count { $0.bars[group] != nil }) * (barHeight + 2)
  }

  var context: Context {
    var context: Context = [
      "title": plot.title, "width": Self.width.coordinate, "height": (bottom + 40).coordinate,
      "top": Self.top.coordinate, "bottom": bottom.coordinate, "label": plot.axis.label,
      "textY": (bottom + 15).coordinate, "labelY": (bottom + 34).coordinate, "left": Self.left.coordinate,
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
      return [
        "name": plot.groups[group], "x": Self.left.coordinate, "y": nameY.coordinate, "bars": bars,
      ]
    }
  }

  private func context(_ bar: BarPlot.Bar, _ series: Int, y: Double) -> Context {
    let start = scale.position(max(0, scale.domain.lowerBound))
    let end = max(start, scale.position(bar.value))
    let middle = y + Self.barHeight / 2
    let value = plot.axis.text(bar.value)
    var context: Context = [
      "x": start.coordinate, "y": y.coordinate, "width": (end - start).coordinate, "height": Self.barHeight.coordinate,
      "color": SeriesColor.number(series),
      "text": plot.series.count > 1 ? "\(value) \(plot.series[series].name)" : value,
      "textX": ((bar.high.map(scale.position) ?? end) + 6).coordinate, "textY": (middle + 4).coordinate,
    ]
    if let low = bar.low, let high = bar.high {
      let range: Context = [
        "low": scale.position(low).coordinate, "high": scale.position(high).coordinate, "y": middle.coordinate,
      ]
      context["range"] = range
    }
    return context
  }
}
