import Foundation
import ImageProcessing
import ModelFormats
import TestSupport
import Testing

@Suite struct CLIPPreprocessorTests {
  struct Reference: Decodable, CustomTestStringConvertible {
    var image: String
    var u8_sha256: String
    var testDescription: String { image }
  }

  private struct References: Decodable { var images: [Reference] }

  private struct Geometry: Decodable {
    struct Row: Decodable {
      var hw: [Int]
      var clip_resize_hw: [Int]
    }
    var rows: [Row]
  }

  /// The references of a folder, without the 16-bit image, which Pillow clips to white.
  private static func references(_ folder: String) -> [Reference] {
    let all = (try? Goldens.json("preprocess/\(folder).json", as: References.self))?.images ?? []
    return all.filter { !$0.image.hasPrefix("gray16") }
  }

  private func views(_ image: String, mode: ImageMode) throws -> ImageViews {
    let image = try ImageDecoder().decode(contentsOfFile: Goldens.url("images/\(image)").path)
    return try CLIPPreprocessor(PreprocessorConfiguration(), mode: mode)(image)
  }

  private func expect(_ views: ImageViews, equal reference: Reference, in folder: String) throws {
    #expect(views.count == 1 && views.size == 336)
    #expect(sha256(views.pixels) == reference.u8_sha256)
    // The goldens have a digest of every image, and tensors of some.
    let file = "preprocess/\(folder)/\(reference.image).safetensors"
    guard FileManager.default.fileExists(atPath: Goldens.url(file).path) else { return }
    let tensors = try Goldens.tensors(file)
    #expect(views.pixels == (try tensors.bytes("pixels_u8")))
    guard tensors.names.contains("pixel_values") else { return }
    let values = try tensors.floats("pixel_values")
    #expect(values.count == views.pixelValues.count)
    let worst = zip(values, views.pixelValues).map { abs($0 - $1) }.max() ?? .infinity
    #expect(worst <= 1e-6)
  }

  @Test func `finds all references`() {
    #expect(Self.references("llava15").count == 10 && Self.references("llava15_pad").count == 3)
  }

  @Test(arguments: references("llava15"))
  func `crops like Hugging Face's processor`(reference: Reference) throws {
    try expect(views(reference.image, mode: .crop), equal: reference, in: "llava15")
  }

  @Test(arguments: references("llava15_pad"))
  func `pads like LLaVA`(reference: Reference) throws {
    try expect(views(reference.image, mode: .pad), equal: reference, in: "llava15_pad")
  }

  @Test func `resizes the shortest edge like Hugging Face's processor`() throws {
    let preprocessor = try CLIPPreprocessor(PreprocessorConfiguration(), mode: .crop)
    for row in try Goldens.json("ops/geometry.json", as: Geometry.self).rows {
      let size = preprocessor.resizedSize(width: row.hw[1], height: row.hw[0])
      #expect([size.height, size.width] == row.clip_resize_hw, "height, width \(row.hw)")
    }
  }

  @Test(arguments: [(1, 1), (1, 300), (1, 30000), (30000, 1)])
  func `accepts very narrow images in both modes`(width: Int, height: Int) throws {
    let image = try Image(width: width, height: height, pixels: [UInt8](repeating: 200, count: width * height * 3))
    let cropped = try CLIPPreprocessor(PreprocessorConfiguration(), mode: .crop)(image)
    #expect(cropped.pixels.allSatisfy { $0 == 200 })
    let padded = try CLIPPreprocessor(PreprocessorConfiguration(), mode: .pad)(image)
    #expect(padded.pixels[0] == (width == height ? 200 : 122))
  }

  /// A 3x2 image in a 6x6 crop: rows 2..<4 and columns 2..<5, by the rounding up of `center_crop` in transformers.
  @Test func `pads an image smaller than the crop with black`() throws {
    var configuration = PreprocessorConfiguration()
    configuration.resizes = false
    configuration.cropSize = .init(height: 6, width: 6)
    let image = try Image(width: 3, height: 2, pixels: [UInt8](1...18))
    let views = try CLIPPreprocessor(configuration, mode: .crop)(image)
    var red = [UInt8](repeating: 0, count: 36)
    for (i, value) in stride(from: UInt8(1), to: 18, by: 3).enumerated() { red[(2 + i / 3) * 6 + 2 + i % 3] = value }
    #expect(Array(views.pixels[..<36]) == red)
  }

  @Test func `skips the steps that the file disables`() throws {
    var configuration = PreprocessorConfiguration()
    configuration.rescales = false
    configuration.normalizes = false
    let image = try Image(width: 1, height: 1, pixels: [7, 8, 9])
    let views = try CLIPPreprocessor(configuration, mode: .crop)(image)
    #expect(views.pixelValues == views.pixels.map { Float($0) })
    #expect(views.pixels[0] == 7 && views.pixels[336 * 336] == 8 && views.pixels[2 * 336 * 336] == 9)
  }

  @Test func `refuses a file whose views would not be squares of one size`() {
    var configuration = PreprocessorConfiguration()
    configuration.cropSize = .init(height: 336, width: 224)
    #expect(throws: PreprocessorConfigurationError.self) { try CLIPPreprocessor(configuration, mode: .crop) }
    configuration.centerCrops = false
    #expect(throws: PreprocessorConfigurationError.self) { try CLIPPreprocessor(configuration, mode: .crop) }
    #expect(throws: Never.self) { try CLIPPreprocessor(configuration, mode: .pad) }
    configuration.resizesTo = .exact(.init(height: 224, width: 224))
    #expect(throws: Never.self) { try CLIPPreprocessor(configuration, mode: .crop) }
  }

  @Test func `resolves auto from the checkpoint's files`() {
    let plain = PreprocessorConfiguration()
    var padding = plain
    padding.padsToSquare = true
    #expect(ImageMode.auto.resolved(plain, imageAspectRatio: nil) == .crop)
    #expect(ImageMode.auto.resolved(plain, imageAspectRatio: "anyres") == .crop)
    #expect(ImageMode.auto.resolved(plain, imageAspectRatio: "pad") == .pad)
    #expect(ImageMode.auto.resolved(padding, imageAspectRatio: nil) == .pad)
    #expect(ImageMode.auto.resolved(nil, imageAspectRatio: nil) == .pad)
    #expect(ImageMode.crop.resolved(padding, imageAspectRatio: "pad") == .crop)
    #expect(ImageMode.pad.resolved(plain, imageAspectRatio: nil) == .pad)
  }
}
