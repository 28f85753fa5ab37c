/// A rectangle in a drawing.
package struct Frame: Equatable {
  package var x: Double
  package var y: Double
  package var width: Double
  package var height: Double

  package init(x: Double, y: Double, width: Double, height: Double) {
    (self.x, self.y, self.width, self.height) = (x, y, width, height)
  }

  /// The area that two rectangles share.
  func overlap(_ other: Frame) -> Double {
    let across = min(x + width, other.x + other.width) - max(x, other.x)
    let down = min(y + height, other.y + other.height) - max(y, other.y)
    return max(0, across) * max(0, down)
  }
}

/// Finds room for labels beside points.
package struct LabelPlacement {
  /// The size of letters in drawings, whose width is 400.
  static let fontSize = 12.0

  /// How wide a text is, about: nobody knows before it is drawn.
  package static func width(_ text: String) -> Double { 0.55 * fontSize * Double(text.count) }

  private let bounds: Frame
  private var taken: [Frame]

  /// - Parameters:
  ///   - bounds: Where labels may stand.
  ///   - taken: What they should not cover.
  package init(in bounds: Frame, around taken: [Frame]) { (self.bounds, self.taken) = (bounds, taken) }

  /// The left end of a label's base line: beside the point, or where it covers least.
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

  /// Heights for labels that want to stand at `wanted`, moved apart so that none covers another.
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
