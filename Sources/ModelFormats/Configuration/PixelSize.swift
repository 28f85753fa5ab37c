/// Rows and columns of a picture, in the order in which Hugging Face's files give them.
package struct PixelSize: Sendable, Equatable, Hashable {
  package var height: Int
  package var width: Int

  package init(height: Int, width: Int) {
    self.height = height
    self.width = width
  }
}
