package import LLaVA

/// What the vision encoder sees of one picture: one square, or one of the whole picture and several tiles of it.
public struct ImageViews: Sendable, Equatable {
  /// The number of squares.
  public let count: Int

  /// The side `S` of each square.
  public let size: Int

  /// The samples before rescaling, `[count, 3, S, S]`.
  public let pixels: [UInt8]

  /// How the tiles behind the first square make the picture; `nil` when there are none.
  package let tiles: TileGrid?

  /// Where the picture lies on the square, or on the canvas of the tiles; `nil` where it fills all of it.
  package let area: PictureArea?

  private let normalization: Normalization

  /// - Parameter pixels: `[views, 3, size, size]`.
  init(
    _ pixels: [UInt8], size: Int, tiles: TileGrid? = nil, area: PictureArea? = nil, _ normalization: Normalization
  ) {
    count = 1 + (tiles?.tileCount ?? 0)
    precondition(pixels.count == count * 3 * size * size, "ImageViews: \(pixels.count) samples for \(count) views")
    self.size = size
    self.pixels = pixels
    self.tiles = tiles
    self.area = area
    self.normalization = normalization
  }

  /// The samples, rescaled and normalised, `[count, 3, S, S]`; four times as large as the samples, so made when asked for.
  public var pixelValues: [Float] { normalization(pixels, plane: size * size) }
}
