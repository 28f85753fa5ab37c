internal import Foundation

/// A colour, 8 bits a channel.
public struct Color: Sendable, Equatable {
  public var red: UInt8
  public var green: UInt8
  public var blue: UInt8

  public init(_ red: UInt8, _ green: UInt8, _ blue: UInt8) { (self.red, self.green, self.blue) = (red, green, blue) }

  var samples: [UInt8] { [red, green, blue] }
}

/// What kept maps are drawn in.
public enum KeptMapColors {
  public static let background = Color(255, 255, 255)
  /// A newline token, which has no picture.
  public static let newline = Color(96, 165, 250)
  /// Lies over dropped patches: neither black nor white, so that it shows on either.
  public static let dimming = Color(90, 96, 104)
  public static let dimmingOpacity = 0.8
  /// Goes around kept patches where scores cover the picture.
  public static let outline = Color(255, 255, 255)
  public static let heatOpacity = 0.7

  /// From dark to bright; equal steps look equal, also to those who see few colours.
  ///
  /// Source: five of the 256 colours of viridis, by Smith and van der Walt, dedicated to the public.
  static let heat = [
    Color(68, 1, 84), Color(59, 82, 139), Color(33, 145, 140), Color(94, 201, 98), Color(253, 231, 37),
  ]

  /// The colour of a share of the scale, 0 to 1.
  public static func heat(_ share: Double) -> Color {
    let position = min(max(share, 0), 1) * Double(heat.count - 1)
    let index = min(Int(position), heat.count - 2)
    let (from, to) = (heat[index].samples, heat[index + 1].samples)
    let mixed = zip(from, to).map { mix($0, $1, position - Double(index)) }
    return Color(mixed[0], mixed[1], mixed[2])
  }
}

/// A sample with a share of another.
func mix(_ below: UInt8, _ above: UInt8, _ share: Double) -> UInt8 {
  UInt8((Double(below) + (Double(above) - Double(below)) * share).rounded())
}

/// The scale on which the scores of a stage are coloured: from the lowest to the highest, logarithmic where all are above
/// zero, since attention to one token is often a thousand times that to another.
public struct HeatScale: Sendable, Equatable {
  /// What is smaller than this share of the highest score looks alike on a logarithmic scale: it is next to nothing.
  private static let smallestShare: Float = 1e-4

  public let lowest: Float
  public let highest: Float
  public let isLogarithmic: Bool
  /// Whether there are scores below the lowest of the scale.
  public let isCut: Bool

  /// - Returns: `nil` for a stage that scored nothing.
  public init?(_ stage: KeptMap.Stage) {
    let scores = stage.tokens.compactMap(\.score)
    guard let lowest = scores.min(), let highest = scores.max(), lowest.isFinite, highest.isFinite else { return nil }
    isLogarithmic = lowest > 0
    self.lowest = isLogarithmic ? max(lowest, highest * Self.smallestShare) : lowest
    self.highest = highest
    isCut = lowest < self.lowest
  }

  /// Where a score lies on the scale, 0 to 1.
  public func share(_ score: Float) -> Double {
    func position(_ score: Float) -> Double { isLogarithmic ? log(Double(score)) : Double(score) }
    let range = position(highest) - position(lowest)
    return range > 0 ? (position(max(score, lowest)) - position(lowest)) / range : 1
  }
}
