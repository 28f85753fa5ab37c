/// The size of an image in pixels, height first as in Hugging Face files.
package struct PixelSize: Sendable, Equatable, Hashable {
  package var height: Int
  package var width: Int

  package init(height: Int, width: Int) {
    self.height = height
    self.width = width
  }
}
