/// A picture on a larger, plain background that is never built: only its colour and the picture's place are known.
package struct Canvas {
  package let image: Image
  package let width: Int
  package let height: Int

  /// The columns of the canvas that the picture covers.
  package let columns: Range<Int>

  /// The rows of the canvas that the picture covers.
  package let rows: Range<Int>

  /// The colour of the background.
  package let fill: [UInt8]

  /// The picture alone.
  package init(_ image: Image) {
    self.image = image
    width = image.width
    height = image.height
    columns = 0..<image.width
    rows = 0..<image.height
    fill = [0, 0, 0]
  }

  /// The picture in the middle of a square; the odd pixel is on the right or at the bottom.
  ///
  /// Source: `expand2square` in LLaVA's `llava/mm_utils.py`.
  package init(squaring image: Image, fill: [UInt8]) {
    precondition(fill.count == 3, "Canvas: fill has \(fill.count) channels")
    let side = max(image.width, image.height)
    let left = (side - image.width) / 2
    let top = (side - image.height) / 2
    self.image = image
    width = side
    height = side
    columns = left..<left + image.width
    rows = top..<top + image.height
    self.fill = fill
  }

  /// The canvas with rows and columns exchanged.
  var transposed: Canvas { Canvas(transposing: self) }

  private init(transposing canvas: Canvas) {
    image = canvas.image.transposed
    (width, height) = (canvas.height, canvas.width)
    (columns, rows) = (canvas.rows, canvas.columns)
    fill = canvas.fill
  }
}
