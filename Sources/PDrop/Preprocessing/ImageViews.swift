/// What the vision encoder sees of one picture: one square, or several tiles of the same size.
public struct ImageViews: Sendable, Equatable {
  /// The number of squares.
  public let count: Int

  /// The side `S` of each square.
  public let size: Int

  /// The samples before rescaling, `[count, 3, S, S]`.
  public let pixels: [UInt8]

  /// The samples, rescaled and normalised, `[count, 3, S, S]`.
  public let pixelValues: [Float]
}
