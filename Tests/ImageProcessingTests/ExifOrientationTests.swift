import Foundation
import ImageProcessing
import TestSupport
import Testing

@Suite struct ExifOrientationTests {
  struct Upright: Decodable, Sendable {
    var image: String
    var width: Int
    var height: Int
    var sha256: String
  }

  static let images =
    (try? JSONDecoder().decode([Upright].self, from: Data(contentsOf: Fixtures.url("images/exif.json")))) ?? []

  @Test func `has images of all orientations`() { #expect(Self.images.count == 12) }

  @Test(arguments: images)
  func `rotates images like Pillow`(expected: Upright) throws {
    var decoder = ImageDecoder()
    decoder.appliesOrientation = true
    let image = try decoder.decode(contentsOfFile: Fixtures.url("images/\(expected.image)").path(percentEncoded: false))
    #expect(image.width == expected.width && image.height == expected.height)
    #expect(sha256(image.pixels) == expected.sha256)
  }

  @Test func `keeps the stored orientation by default`() throws {
    let path = Fixtures.url("images/exif_6.jpg").path(percentEncoded: false)
    #expect(try ImageDecoder().decode(contentsOfFile: path).width == 13)
  }

  @Test func `survives the change of any byte of the Exif block`() throws {
    var decoder = ImageDecoder()
    decoder.appliesOrientation = true
    let whole = [UInt8](try Data(contentsOf: Fixtures.url("images/exif_6.jpg")))
    // The Exif block is within the first hundred bytes.
    for index in 2..<min(100, whole.count) {
      for value in [0, 1, 0x7F, 0xFF] as [UInt8] {
        var bytes = whole
        bytes[index] = value
        _ = try? decoder.decode(bytes)
      }
    }
  }

  /// Blocks with a size smaller than the name at their start.
  @Test(arguments: 0..<9)
  func `survives blocks shorter than their name`(size: UInt8) throws {
    var decoder = ImageDecoder()
    decoder.appliesOrientation = true
    var jpeg = [UInt8](try Data(contentsOf: Fixtures.url("images/exif_6.jpg")))
    jpeg.insert(contentsOf: [0xFF, 0xE1, 0, size] + Array("Exif\0\0".utf8), at: 2)
    _ = try? decoder.decode(jpeg)

    var webP = [UInt8](try Data(contentsOf: Fixtures.url("images/exif_6.webp")))
    let chunk = try #require(webP.firstRange(of: Array("EXIF".utf8)))
    let block = Array("Exif\0\0\0\0".utf8).prefix(Int(size)) + (size % 2 == 1 ? [0] : [])
    webP.replaceSubrange(chunk.upperBound..., with: [size, 0, 0, 0] + block)
    webP[4] = UInt8(webP.count - 8)
    #expect(try decoder.decode(webP).width == 13)
  }
}
