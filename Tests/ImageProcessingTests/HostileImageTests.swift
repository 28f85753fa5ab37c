import Foundation
import ImageProcessing
import Storage
import TestSupport
import Testing

@Suite struct HostileImageTests {
  static let samples = [
    "baseline_420.jpg", "progressive.jpg", "restart.jpg", "gray.jpg", "cmyk.jpg", "rgb.png", "palette.png",
    "palette_4bit.png", "interlaced.png", "rgb_16bit.png", "gray_alpha.png", "lossy.webp", "lossless.webp",
    "lossy_alpha.webp", "lossless_alpha.webp", "with_metadata.webp", "animated.webp",
  ]

  private func fixture(_ name: String) throws -> [UInt8] {
    try [UInt8](Data(contentsOf: Fixtures.url("images/\(name)")))
  }

  private func error(_ bytes: [UInt8]) -> ImageError? {
    do {
      _ = try ImageDecoder().decode(bytes, name: "test")
      return nil
    } catch { return error }
  }

  @Test(arguments: samples) func `refuses a file truncated at any length`(name: String) throws {
    let bytes = try fixture(name)
    for count in 0..<bytes.count where error(Array(bytes[..<count])) == nil {
      Issue.record("\(name) truncated to \(count) of \(bytes.count) bytes was read")
    }
  }

  @Test(arguments: samples) func `survives flipped bits and overwritten bytes`(name: String) throws {
    let bytes = try fixture(name)
    // Small images only: a changed header may describe a large image, which is valid and slow.
    var decoder = ImageDecoder()
    decoder.pixelLimit = 1 << 18
    var random = SeededGenerator(7)
    for _ in 0..<400 {
      var damaged = bytes
      for _ in 0..<random.next(1...4) {
        let i = random.next(0...bytes.count - 1)
        damaged[i] = random.next(0...1) == 0 ? damaged[i] ^ 1 << UInt8(random.next(0...7)) : UInt8(random.next(0...255))
      }
      if let image = try? decoder.decode(damaged) {
        #expect(image.pixels.count == image.width * image.height * 3)
      }
    }
  }

  @Test(arguments: samples) func `survives a file with noise at the end`(name: String) throws {
    let bytes = try fixture(name)
    var decoder = ImageDecoder()
    decoder.pixelLimit = 1 << 18
    var random = SeededGenerator(8)
    for _ in 0..<100 {
      let kept = random.next(12...bytes.count - 1)
      let noise = (kept..<bytes.count).map { _ in UInt8(random.next(0...255)) }
      _ = try? decoder.decode(bytes[..<kept] + noise)
    }
  }

  @Test func `refuses an empty file`() {
    #expect(error([]) == .emptyFile(name: "test"))
  }

  @Test func `refuses text and lists its first bytes`() {
    #expect(error(Array("hello world".utf8)) == .unknownFormat(name: "test", firstBytes: Array("hello wo".utf8)))
  }

  @Test func `refuses an animation by name`() throws {
    #expect(try error(fixture("animated.webp")) == .animated(name: "test", format: .webP))
  }

  @Test(arguments: [
    ("GIF89a......", "GIF"), ("GIF87a......", "GIF"), ("BM..........", "BMP"), ("II*\0........", "TIFF"),
    ("MM\0*........", "TIFF"), ("\0\0\0\u{1c}ftypavif....", "AVIF"), ("\0\0\0\u{1c}ftypheic....", "HEIC"),
    ("\0\0\0\u{1c}ftypmif1....", "HEIC"), ("\0\0\0\u{1c}ftypmif1....miafavif", "AVIF"),
    ("\0\0\0\u{1c}ftypheix....mif1heic", "HEIC"), ("\0\0\0\u{14}ftypmsf1....hevcavif", "HEIC"),
    ("II+\0........", "TIFF"), ("MM\0+........", "TIFF"), ("\0\0\0\u{0c}jP  \r\n......", "JPEG 2000"),
    ("%PDF-1.4", "PDF"),
    ("%!PS-Adobe-3.0 EPSF", "PostScript"), ("<svg xmlns=", "SVG"), ("\u{FEFF}<?xml version='1.0'?>\n<svg>", "SVG"),
    ("  <!-- a <b> -->\n<!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\">\n<svg:svg>", "SVG"),
  ])
  func `refuses other image formats by name`(start: String, name: String) throws {
    let found = try #require(error(Array(start.utf8)))
    #expect(found == .unsupportedFormat(name: "test", found: name))
    #expect(found.description == "test: \(name) is not supported; convert it to one of JPEG, PNG, WebP")
  }

  @Test func `recognises a bare JPEG 2000 codestream, and no other text with tags as SVG`() throws {
    #expect(error([0xFF, 0x4F, 0xFF, 0x51, 0, 0x2F]) == .unsupportedFormat(name: "test", found: "JPEG 2000"))
    for text in ["<html><svg></svg></html>", "<?xml version='1.0'?><note>svg</note>", "svg", "    ftyp"] {
      guard case .unknownFormat = error(Array(text.utf8)) else {
        Issue.record("\(text)")
        continue
      }
    }
  }

  /// The size fields of the image are overwritten with 30000 by 30000.
  @Test(arguments: ["rgb.png", "baseline_420.jpg"])
  func `refuses too many pixels before allocation`(name: String) throws {
    let side: [UInt8] = [0x75, 0x30]
    var bytes = try fixture(name)
    if name.hasSuffix(".png") {
      bytes.replaceSubrange(16..<24, with: [0, 0] + side + [0, 0] + side)
      let checksum = crc32(bytes[12..<29])
      bytes.replaceSubrange(29..<33, with: (0..<4).map { UInt8(truncatingIfNeeded: checksum >> (24 - 8 * $0)) })
    } else {
      let frame = try #require(bytes.indices.first { bytes[$0] == 0xFF && bytes[$0 + 1] == 0xC0 })
      bytes.replaceSubrange(frame + 5..<frame + 9, with: side + side)
    }
    #expect(
      error(bytes) == .tooManyPixels(name: "test", width: 30000, height: 30000, limit: ImageDecoder().pixelLimit))
  }

  @Test func `respects its limits`() throws {
    let bytes = try fixture("rgb.png")
    var decoder = ImageDecoder()
    decoder.pixelLimit = 53 * 41
    #expect(throws: Never.self) { try decoder.decode(bytes) }
    decoder.pixelLimit -= 1
    #expect(throws: ImageError.tooManyPixels(name: "image", width: 53, height: 41, limit: 53 * 41 - 1)) {
      try decoder.decode(bytes)
    }
    decoder.sideLimit = 52
    #expect(throws: ImageError.sideTooLong(name: "image", width: 53, height: 41, limit: 52)) {
      try decoder.decode(bytes)
    }
    decoder.byteLimit = bytes.count - 1
    let path = Fixtures.url("images/rgb.png").path
    #expect(throws: ImageError.fileTooLarge(name: path, byteCount: bytes.count, limit: bytes.count - 1)) {
      try decoder.decode(contentsOfFile: path)
    }
  }

  @Test func `names a missing file, a folder and a device`() {
    let folder = Fixtures.url("images").path
    #expect(throws: ImageError.missingFile(name: folder + "/none.png")) {
      try ImageDecoder().decode(contentsOfFile: folder + "/none.png")
    }
    #expect(throws: ImageError.notAFile(name: folder, found: "folder")) {
      try ImageDecoder().decode(contentsOfFile: folder)
    }
    #expect(throws: ImageError.notAFile(name: "/dev/zero", found: "device or pipe")) {
      try ImageDecoder().decode(contentsOfFile: "/dev/zero")
    }
  }

  /// The CRC-32 of PNG, computed bit by bit.
  private func crc32(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    ~bytes.reduce(~0) { sum, byte in
      (0..<8).reduce(sum ^ UInt32(byte)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0xEDB8_8320 : value >> 1 }
    }
  }
}
