/// Where the regions of a kept map and their patches lie in a panel, in pixels of the regions' pictures.
public struct KeptMapPanel: Sendable, Equatable {
  /// A rectangle, its top left corner first.
  public struct Box: Sendable, Equatable {
    public var x: Int
    public var y: Int
    public var width: Int
    public var height: Int
  }

  /// Between regions, and around newline tokens.
  public static let gap = 8
  /// The width of a newline token, which is drawn as a thin patch at its row's end.
  public static let newlineWidth = 6

  /// The picture of each region; regions stand side by side.
  public let regions: [Box]
  /// By the picture's own tokens; `nil` for those that show no one place.
  public let tokens: [Box?]
  public let width: Int
  public let height: Int

  /// - Parameter histogramSize: Room for bars right of and below each region; 0 for none.
  public init(_ map: KeptMap, histogramSize: Int = 0) {
    let room = histogramSize > 0 ? Self.gap / 2 + histogramSize : 0
    var regions: [Box] = []
    var right = 0
    for region in map.regions {
      let left = regions.isEmpty ? 0 : right + Self.gap
      regions.append(Box(x: left, y: 0, width: region.image.width, height: region.image.height))
      right = left + region.image.width + Self.newlineSpace(region) + room
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
    height = (regions.map(\.height).max() ?? 0) + room
  }

  /// How far newline tokens reach behind a region's picture.
  public static func newlineSpace(_ region: KeptMap.Region) -> Int {
    region.hasNewlines ? gap / 2 + newlineWidth : 0
  }

  /// How many panels stand in a row: all of them for one view, two where there are tiles, one where the tiles are wide.
  public func columns(of panelCount: Int) -> Int {
    regions.count == 1 ? panelCount : 2 * width > 3 * height ? 1 : min(2, panelCount)
  }
}
