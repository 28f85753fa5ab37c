import ImageProcessing
import TestSupport

extension SeededGenerator {
  /// An image of noise.
  mutating func image(width: Int, height: Int) throws -> Image {
    let pixels = (0..<width * height * 3).map { _ in UInt8.random(in: 0...255, using: &self) }
    return try Image(width: width, height: height, pixels: pixels)
  }
}
