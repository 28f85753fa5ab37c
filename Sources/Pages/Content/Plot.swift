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
