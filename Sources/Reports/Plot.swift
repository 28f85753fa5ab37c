import PDrop

/// A scatter or line plot.
package struct Plot: Sendable, Encodable {
  package struct Point: Sendable, Encodable {
    package var x: Double
    package var y: Double
    /// The lower and the upper end of the error bar.
    package var low: Double?
    package var high: Double?
    /// The text beside the point.
    package var label: String?

    package init(_ x: Double, _ y: Double, low: Double? = nil, high: Double? = nil, label: String? = nil) {
      (self.x, self.y, self.low, self.high, self.label) = (x, y, low, high, label)
    }
  }

  package struct Series: Sendable, Encodable {
    /// The label at the end of the line; not drawn if points have their own labels.
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

/// A grouped bar chart. Each group has one bar of each series.
package struct BarPlot: Sendable, Encodable {
  /// The length of a bar, and the ends of its error bar.
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
    /// One entry per group; `nil` for a missing bar.
    package var bars: [Bar?]

    package init(_ name: String, _ bars: [Bar?]) { (self.name, self.bars) = (name, bars) }
  }

  package var title: String
  package var caption: String?
  /// The axis of the values; a linear axis begins at zero.
  package var axis: Axis
  package var groups: [String]
  package var series: [Series]

  /// - Precondition: Each series has one entry per group.
  package init(_ title: String, caption: String? = nil, axis: Axis, groups: [String], series: [Series]) {
    precondition(
      series.allSatisfy { $0.bars.count == groups.count }, "BarPlot: bars of other than \(groups.count) groups")
    (self.title, self.caption, self.axis, self.groups, self.series) = (title, caption, axis, groups, series)
  }
}

/// The label, unit and scale of an axis.
package struct Axis: Sendable, Encodable {
  package enum Unit: String, Sendable, Encodable {
    case plain
    /// Fractions, shown as percentages: 0.5 is shown as 50%.
    case percent
  }

  package var label: String
  package var unit: Unit
  package var isLogarithmic: Bool
  /// Values that the axis must include, such as zero.
  package var reaches: [Double]

  package init(_ label: String, unit: Unit = .plain, isLogarithmic: Bool = false, reaches: [Double] = []) {
    (self.label, self.unit, self.isLogarithmic, self.reaches) = (label, unit, isLogarithmic, reaches)
  }
}

// MARK: - Tables in place of drawings

extension Plot {
  var table: Table {
    let (xFormat, yFormat) = (xFormat, yFormat)
    return Table(
      caption: caption.map { "\(title). \($0)" } ?? title,
      columns: [
        .init("series", heading: "series"), .init("x", heading: x.label), .init("y", heading: y.label),
        .init("interval", heading: "interval"),
      ],
      rows: series.flatMap { series in
        series.points.map { point in
          [
            .init([series.name, point.label].compactMap(\.self).joined(separator: ", ")),
            .init(xFormat.text(point.x), number: point.x), .init(yFormat.text(point.y), number: point.y),
            .init(yFormat.interval(point.low, point.high)),
          ]
        }
      })
  }

  /// The format of all x values.
  var xFormat: NumberFormat { NumberFormat(series.flatMap(\.points).map(\.x), x) }

  /// The format of all y values and of the ends of the error bars.
  var yFormat: NumberFormat {
    NumberFormat(series.flatMap(\.points).flatMap { [$0.y, $0.low, $0.high].compactMap(\.self) }, y)
  }
}

extension BarPlot {
  var table: Table {
    let format = format
    return Table(
      caption: caption.map { "\(title). \($0)" } ?? title,
      columns: [.init("group", heading: "")] + series.map { .init($0.name, heading: $0.name) },
      rows: groups.indices.map { group in
        [.init(groups[group])]
          + series.map { series in
            guard let bar = series.bars[group] else { return .init("") }
            let (value, range) = (format.text(bar.value), format.interval(bar.low, bar.high))
            return .init(range.isEmpty ? value : "\(value) (\(range))", number: bar.value)
          }
      })
  }

  /// The format of all values and of the ends of the error bars.
  var format: NumberFormat {
    let bars = series.flatMap(\.bars).compactMap(\.self)
    return NumberFormat(bars.flatMap { [$0.value, $0.low, $0.high].compactMap(\.self) }, axis)
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

extension NumberFormat {
  /// Such as `38.1% to 46.0%`; empty without an interval.
  fileprivate func interval(_ low: Double?, _ high: Double?) -> String {
    guard let low, let high else { return "" }
    return "\(text(low)) to \(text(high))"
  }
}
