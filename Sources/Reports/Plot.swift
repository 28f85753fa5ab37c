import PDrop

/// Points over two axes, with lines between those of a series if it asks for them.
package struct Plot: Sendable, Encodable {
  package struct Point: Sendable, Encodable {
    package var x: Double
    package var y: Double
    /// The ends of the error bar.
    package var low: Double?
    package var high: Double?
    /// Stands beside the point.
    package var label: String?

    package init(_ x: Double, _ y: Double, low: Double? = nil, high: Double? = nil, label: String? = nil) {
      (self.x, self.y, self.low, self.high, self.label) = (x, y, low, high, label)
    }
  }

  package struct Series: Sendable, Encodable {
    /// Stands at the end of the line; not shown for points that have labels of their own.
    package var name: String
    package var points: [Point]
    package var connectsPoints: Bool

    package init(_ name: String, _ points: [Point], connectsPoints: Bool = true) {
      (self.name, self.points, self.connectsPoints) = (name, points, connectsPoints)
    }
  }

  package var title: String
  package var caption: String?
  package var x: Axis
  package var y: Axis
  package var series: [Series]

  package init(_ title: String, caption: String? = nil, x: Axis, y: Axis, series: [Series]) {
    (self.title, self.caption, self.x, self.y, self.series) = (title, caption, x, y, series)
  }
}

/// Bars in groups, one of each group for each series.
package struct BarPlot: Sendable, Encodable {
  /// A bar's length, and the ends of its error bar.
  package struct Bar: Sendable, Encodable {
    package var value: Double
    package var low: Double?
    package var high: Double?

    package init(_ value: Double, low: Double? = nil, high: Double? = nil) {
      (self.value, self.low, self.high) = (value, low, high)
    }
  }

  package struct Series: Sendable, Encodable {
    package var name: String
    /// One for each group; `nil` for none.
    package var bars: [Bar?]

    package init(_ name: String, _ bars: [Bar?]) { (self.name, self.bars) = (name, bars) }
  }

  package var title: String
  package var caption: String?
  /// What bars measure; begins at zero.
  package var axis: Axis
  package var groups: [String]
  package var series: [Series]

  /// - Precondition: Every series has a bar, or none, for each group.
  package init(_ title: String, caption: String? = nil, axis: Axis, groups: [String], series: [Series]) {
    precondition(
      series.allSatisfy { $0.bars.count == groups.count }, "BarPlot: bars of other than \(groups.count) groups")
    (self.title, self.caption, self.axis, self.groups, self.series) = (title, caption, axis, groups, series)
  }
}

/// How values of one kind are laid out and written.
package struct Axis: Sendable, Encodable {
  package enum Unit: String, Sendable, Encodable {
    case plain
    /// 0.5 is written 50%.
    case percent
  }

  package var label: String
  package var unit: Unit
  package var isLogarithmic: Bool
  /// Values that the axis has to reach, such as zero.
  package var reaches: [Double]

  package init(_ label: String, unit: Unit = .plain, isLogarithmic: Bool = false, reaches: [Double] = []) {
    (self.label, self.unit, self.isLogarithmic, self.reaches) = (label, unit, isLogarithmic, reaches)
  }
}

/// The numbers after drawings, where there are none.
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
