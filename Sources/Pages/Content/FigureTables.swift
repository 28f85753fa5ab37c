internal import PDrop

/// The numbers behind drawings, where there are none.
extension Plot {
  var table: Table {
    Table(
      caption: caption.map { "\(title). \($0)" } ?? title,
      columns: [
        .init("series", heading: "series"), .init("x", heading: x.label), .init("y", heading: y.label),
        .init("interval", heading: "interval"),
      ],
      rows: series.flatMap { series in
        series.points.map { point in
          [
            .init([series.name, point.label].compactMap(\.self).joined(separator: ", ")), cell(point.x, x),
            cell(point.y, y), .init(interval(point.low, point.high, y)),
          ]
        }
      })
  }
}

extension BarPlot {
  var table: Table {
    Table(
      caption: caption.map { "\(title). \($0)" } ?? title,
      columns: [.init("group", heading: "")] + series.map { .init($0.name, heading: $0.name) },
      rows: groups.indices.map { group in
        [.init(groups[group])]
          + series.map { series in
            guard let bar = series.bars[group] else { return .init("") }
            let range = interval(bar.low, bar.high, axis)
            let value = cell(bar.value, axis)
            return .init(range.isEmpty ? value.text : "\(value.text) (\(range))", number: bar.value)
          }
      })
  }
}

extension KeptMapFigure {
  var table: Table {
    Table(
      caption: title, columns: [.init("stage", heading: "stage"), .init("kept", heading: "tokens")],
      rows: [[.init(caption(nil)), .init("\(map.tokenCount)", number: Double(map.tokenCount))]]
        + map.stages.map { [.init(caption($0)), .init("\($0.keptCount)", number: Double($0.keptCount))] })
  }
}

private func cell(_ value: Double, _ axis: Axis) -> Table.Cell { .init(axis.text(value), number: value) }

private func interval(_ low: Double?, _ high: Double?, _ axis: Axis) -> String {
  guard let low, let high else { return "" }
  return "\(axis.text(low)) to \(axis.text(high))"
}

extension Axis {
  /// A value as it is read beside its point.
  func text(_ value: Double) -> String {
    unit == .percent ? (100 * value).readable(3) + "%" : value.readable(4)
  }
}
