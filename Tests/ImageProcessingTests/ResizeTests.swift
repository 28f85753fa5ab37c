import Foundation
import ImageProcessing
import TestSupport
import Testing

@Suite struct ResizeTests {
  private func resized(_ image: Image, width: Int, height: Int) -> [UInt8] {
    resampled(Canvas(image), width: width, height: height, columns: 0..<width, rows: 0..<height)
  }

  @Test(arguments: 0..<10)
  func `equals Pillow's bicubic`(index: Int) throws {
    let tensors = try Goldens.tensors("ops/bicubic_u8.safetensors")
    let from = try tensors.shape("\(index)/in")
    let to = try tensors.shape("\(index)/out")
    let image = try Image(width: from[1], height: from[0], pixels: tensors.bytes("\(index)/in"))
    #expect(resized(image, width: to[1], height: to[0]) == (try tensors.bytes("\(index)/out")))
  }

  @Test func `resizes rows and columns in Pillow's order`() throws {
    struct Resize: Decodable {
      var image: String
      var width: Int
      var height: Int
      var sha256: String
    }
    let resizes = try JSONDecoder().decode(
      [Resize].self, from: Data(contentsOf: Fixtures.url("images/resizes.json")))
    #expect(resizes.count > 20)
    for resize in resizes {
      let image = try ImageDecoder().decode(contentsOfFile: Goldens.path("images/\(resize.image)"))
      let pixels = resized(image, width: resize.width, height: resize.height)
      #expect(sha256(pixels) == resize.sha256, "\(resize.image) to \(resize.width) x \(resize.height)")
    }
  }

  @Test func `keeps an image of unchanged size`() throws {
    var random = SeededGenerator(1)
    let image = try random.image(width: 13, height: 7)
    #expect(resized(image, width: 13, height: 7) == image.pixels)
  }

  @Test(arguments: 0..<60)
  func `resizes a window like the cropped whole`(seed: Int) throws {
    var random = SeededGenerator(UInt64(seed))
    let image = try random.image(width: random.next(1...40), height: random.next(1...40))
    let width = random.next(1...50)
    let height = random.next(1...50)
    let left = random.next(0...width - 1)
    let top = random.next(0...height - 1)
    let columns = left..<random.next(left + 1...width)
    let rows = top..<random.next(top + 1...height)
    let whole = resized(image, width: width, height: height)
    let cropped = rows.flatMap { y in whole[3 * (y * width + columns.lowerBound)..<3 * (y * width + columns.upperBound)]
    }
    let window = resampled(Canvas(image), width: width, height: height, columns: columns, rows: rows)
    #expect(window == cropped, "\(image.width)x\(image.height) to \(width)x\(height), \(columns), \(rows)")
  }

  @Test(arguments: 0..<40)
  func `resizes a padded canvas like a padded image`(seed: Int) throws {
    var random = SeededGenerator(UInt64(1000 + seed))
    let image = try random.image(width: random.next(1...40), height: random.next(1...40))
    let canvas = Canvas(squaring: image, fill: [122, 0, 255])
    var pixels = (0..<canvas.width * canvas.height).flatMap { _ in canvas.fill }
    for y in 0..<image.height {
      let target = 3 * ((canvas.rows.lowerBound + y) * canvas.width + canvas.columns.lowerBound)
      pixels.replaceSubrange(
        target..<target + 3 * image.width, with: image.pixels[3 * y * image.width..<3 * (y + 1) * image.width])
    }
    let built = try Image(width: canvas.width, height: canvas.height, pixels: pixels)
    let side = random.next(1...50)
    let result = resampled(canvas, width: side, height: side, columns: 0..<side, rows: 0..<side)
    #expect(result == resized(built, width: side, height: side), "\(image.width)x\(image.height) to \(side)")
  }

  private func transposed(_ samples: [UInt8], width: Int) -> [UInt8] {
    var result: [UInt8] = []
    for x in 0..<width {
      for pixel in stride(from: 3 * x, to: samples.count, by: 3 * width) { result += samples[pixel..<pixel + 3] }
    }
    return result
  }

  @Test(arguments: [(7, 200, 9, 11), (1, 300, 20, 20), (5, 64, 3, 1), (40, 90, 40, 30), (3, 50, 1, 2)])
  func `resizes a tall image like the transposed wide one`(
    width: Int, height: Int, newWidth: Int, newHeight: Int
  ) throws {
    var random = SeededGenerator(UInt64(height))
    let tall = try random.image(width: width, height: height)
    let wide = try Image(width: height, height: width, pixels: transposed(tall.pixels, width: width))
    #expect(
      resized(tall, width: newWidth, height: newHeight)
        == transposed(resized(wide, width: newHeight, height: newWidth), width: newHeight))
    // On a larger background, and only a part of it.
    let fill: [UInt8] = [122, 0, 255]
    let (canvas, wideCanvas) = (Canvas(squaring: tall, fill: fill), Canvas(squaring: wide, fill: fill))
    let (columns, rows) = (2..<canvas.width - 3, 1..<canvas.width / 4)
    let (longSide, shortSide) = (canvas.width - 2, canvas.width / 4 + 1)
    let window = resampled(canvas, width: longSide, height: shortSide, columns: columns, rows: rows)
    let wideWindow = resampled(wideCanvas, width: shortSide, height: longSide, columns: rows, rows: columns)
    #expect(window == transposed(wideWindow, width: rows.count))
  }
}
