import Foundation
import ImageProcessing
import TestSupport
import Testing

/// The size and pixels of an image file as read by Pillow.
struct ReferenceImage: Decodable, CustomTestStringConvertible {
  var file: String
  var width: Int
  var height: Int
  var rgbSHA256: String
  var testDescription: String { file }

  enum CodingKeys: String, CodingKey {
    case file, width, height
    case rgbSHA256 = "rgb_sha256"
  }
}

@Suite struct ImageDecoderTests {
  static let goldens = (try? Goldens.json("images/images.json", as: [ReferenceImage].self)) ?? []
  static let fixtures =
    (try? JSONDecoder().decode(
      [ReferenceImage].self, from: Data(contentsOf: Fixtures.url("images/images.json")))) ?? []

  private func expectPixels(_ image: Image, _ reference: ReferenceImage) {
    #expect(image.width == reference.width && image.height == reference.height)
    #expect(sha256(image.pixels) == reference.rgbSHA256)
  }

  @Test func `finds all references`() {
    #expect(Self.goldens.count == 11 && Self.fixtures.count == 35)
  }

  /// Without the 16-bit grey image, which Pillow clips to white.
  @Test(arguments: goldens.filter { !$0.file.hasPrefix("gray16") })
  func `reads the goldens like Pillow`(reference: ReferenceImage) throws {
    let path = Goldens.url("images/\(reference.file)").path
    expectPixels(try ImageDecoder().decode(contentsOfFile: path), reference)
  }

  @Test(arguments: fixtures)
  func `reads all variants of JPEG, PNG and WebP like Pillow`(reference: ReferenceImage) throws {
    let data = try Data(contentsOf: Fixtures.url("images/\(reference.file)"))
    expectPixels(try ImageDecoder().decode(data), reference)
  }

  /// The profile exchanges red and blue.
  @Test func `ignores colour profiles like Pillow`() throws {
    let references = try JSONDecoder().decode(
      [ReferenceImage].self, from: Data(contentsOf: Fixtures.url("images/icc.json")))
    #expect(references.count == 3)
    for reference in references {
      let data = try Data(contentsOf: Fixtures.url("images/\(reference.file)"))
      expectPixels(try ImageDecoder().decode(data), reference)
    }
  }

  @Test func `keeps the high byte of 16-bit grey`() throws {
    let image = try ImageDecoder().decode(contentsOfFile: Goldens.url("images/gray16_256x192.png").path)
    #expect(image.width == 256 && image.height == 192)
    #expect(Set(image.pixels).count > 100)
    for i in stride(from: 0, to: image.pixels.count, by: 3) where image.pixels[i] != image.pixels[i + 1] {
      Issue.record("pixel \(i / 3) is not grey")
      return
    }
  }

  @Test func `reads through a symbolic link`() throws {
    let link = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).jpg")
    let target = Fixtures.url("images/gray.jpg")
    try FileManager.default.createSymbolicLink(at: link, withDestinationURL: target)
    defer { try? FileManager.default.removeItem(at: link) }
    let linked = try ImageDecoder().decode(contentsOfFile: link.path)
    #expect(try linked == ImageDecoder().decode(contentsOfFile: target.path))
  }

  @Test func `requires exactly the samples of its size`() throws {
    #expect(try Image(width: 2, height: 1, pixels: [1, 2, 3, 4, 5, 6]).pixels == [1, 2, 3, 4, 5, 6])
    for (width, height, count) in [(2, 1, 5), (0, 1, 0), (-1, -1, 3), (.max, 2, 6), (1, .max, 3)] {
      #expect(throws: ImageError.self) {
        try Image(width: width, height: height, pixels: [UInt8](repeating: 0, count: count))
      }
    }
  }
}
