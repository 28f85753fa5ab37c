/// Kept maps as a drawing of their own: one SVG file, the pictures in it.
package enum KeptMapFile {
  private static let margin = 12.0

  /// - Throws: `ImageEncodingError`.
  package static func svg(_ figures: [KeptMapFigure]) throws -> String {
    let drawings = try figures.enumerated().map { try KeptMapDrawing($1, name: "figure-\($0)") }
    var (top, width) = (0.0, 0.0)
    var contexts: [Context] = []
    for drawing in drawings {
      contexts.append(drawing.context(top: top))
      top += drawing.size.height
      width = max(width, drawing.size.width)
    }
    return Templates.render(
      "drawing",
      [
        "width": (width + 2 * margin).coordinate, "height": (top + 2 * margin).coordinate,
        "left": (-margin).coordinate, "figures": contexts,
        "title": figures.map(\.title).joined(separator: ", "),
      ])
  }
}
