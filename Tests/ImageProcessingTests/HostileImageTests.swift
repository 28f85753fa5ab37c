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

  /// Pillow reads some of them: a PNG whose image data are whole, and a JPEG without its end marker.
  @Test(arguments: samples) func `reads a truncated file only to the lengths that Pillow reads`(name: String) throws {
    let lengths = try JSONDecoder().decode(
      [String: [Int]].self, from: Data(contentsOf: Fixtures.url("images/truncations.json")))
    let bytes = try fixture(name)
    let whole = try ImageDecoder().decode(bytes)
    let read = try (0..<bytes.count).filter { count in
      guard let image = try? ImageDecoder().decode(Array(bytes[..<count])) else { return false }
      try #require(image == whole, "\(name) truncated to \(count) of \(bytes.count) bytes")
      return true
    }
    #expect(read == lengths[name])
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

  /// Its second header has 16 x 16 pixels, the frame before it 64 x 64.
  @Test func `refuses a PNG that becomes smaller than its frame`() throws {
    let url = Goldens.folder.deletingLastPathComponent().appending(path: "Fuzz/inputs/png/smaller-second-header")
    #expect(
      error([UInt8](try Data(contentsOf: url)))?.description.contains("a frame outside the image") == true)
  }

  @Test func `refuses an empty file`() {
    #expect(error([]) == .emptyFile(name: "test"))
  }

  @Test func `refuses text and quotes its beginning`() throws {
    let found = try #require(error(Array("hello world".utf8)))
    #expect(found == .unknownFormat(name: "test", firstBytes: Array("hello wo".utf8)))
    #expect(
      found.description
        == "test: not a known image format (text that starts with \"hello wo\"); expected one of JPEG, PNG, WebP")
    #expect(
      error([1, 2, 0xFE])?.description
        == "test: not a known image format (starts with 01 02 fe); expected one of JPEG, PNG, WebP")
  }

  @Test(arguments: [
    ("<!DOCTYPE html><html>404", "a web page (HTML)"), ("\n <HTML><body>", "a web page (HTML)"),
    ("<!-- x --><script>", "a web page (HTML)"), ("<html><svg></svg></html>", "a web page (HTML)"),
    ("<?xml version='1.0'?><Error><Code>NoSuchKey</Code>", "XML text"), ("<note>svg</note>", "XML text"),
    ("<?xml version='1.0'?><!DOCTYPE html PUBLIC ''><html>", "a web page (HTML)"),
    ("{\"error\": 404}", "JSON text"), ("\u{FEFF} [\n {}]", "JSON text"), ("[1, 2]", "JSON text"),
    ("PK\u{3}\u{4}rest", "a ZIP archive"), ("\0\0\0\u{1c}ftypisom....mp42", "a video"),
    ("\0\0\0\0\0\0\0\0\0", "a file of zero bytes, as of an interrupted download"), ("\u{7F}ELF", "a program"),
  ])
  func `names files that are not images`(start: String, found: String) {
    #expect(error(Array(start.utf8)) == .notAnImage(name: "test", found: found))
    #expect(
      error(Array(start.utf8))?.description == "test: is \(found), not an image; download the image again")
  }

  @Test func `names a Git LFS pointer`() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    #expect(error(Array(pointer.utf8)) == .gitLFSPointer(name: "test"))
    #expect(
      error(Array(pointer.utf8))?.description
        == "test: a Git LFS pointer instead of the file; fetch the file with 'git lfs pull'")
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

  @Test func `recognises a bare JPEG 2000 codestream, and no other text as SVG`() throws {
    #expect(error([0xFF, 0x4F, 0xFF, 0x51, 0, 0x2F]) == .unsupportedFormat(name: "test", found: "JPEG 2000"))
    for text in ["svg", "    ftyp", "<", "{", "[x]"] {
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

  @Test func `a file above the limit is not read`() throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("large.png", [])
    let handle = try FileHandle(forWritingTo: URL(filePath: path))
    // A file with a hole takes no space.
    try handle.truncate(atOffset: 3 << 30)
    try handle.close()
    let limit = ImageDecoder().byteLimit
    #expect(throws: ImageError.fileTooLarge(name: path, byteCount: 3 << 30, limit: limit)) {
      try ImageDecoder().bytes(ofFile: path)
    }
  }

  /// A progressive image of 4:2:0 has 3 bytes of coefficients for each pixel, and one of 4:4:4 has 6.
  @Test(arguments: [("progressive.jpg", 3), ("baseline_420.jpg", 0), ("cmyk.jpg", 0)])
  func `counts the memory of JPEG decoding by the header`(name: String, perPixel: Int) throws {
    var bytes = try fixture(name)
    let frame = try #require(bytes.indices.first { bytes[$0] == 0xFF && [0xC0, 0xC2].contains(bytes[$0 + 1]) })
    bytes.replaceSubrange(frame + 5..<frame + 9, with: [0x20, 0, 0x20, 0])
    let pixels = 0x2000 * 0x2000
    var decoder = ImageDecoder()
    let byteCount = try decoder.decodingByteCount(bytes, name: "test")
    #expect((0..<4 << 20).contains(byteCount - (3 + perPixel) * pixels), "\(byteCount)")
    decoder.memoryLimit = byteCount - 1
    #expect(
      throws: ImageError.tooMuchMemory(
        name: "test", width: 0x2000, height: 0x2000, byteCount: byteCount, limit: byteCount - 1)
    ) { try decoder.decode(bytes, name: "test") }
    var rotating = ImageDecoder()
    rotating.appliesOrientation = true
    #expect(try rotating.decodingByteCount(bytes, name: "test") == max(byteCount, 6 * pixels))
  }

  /// 13360 by 13360 pixels, below the limit of pixels: three bytes of each, and eight of the four coefficients.
  @Test func `refuses a large progressive CMYK image before allocation`() throws {
    var bytes = try fixture("cmyk.jpg")
    let frame = try #require(bytes.indices.first { bytes[$0] == 0xFF && bytes[$0 + 1] == 0xC0 })
    bytes[frame + 1] = 0xC2
    bytes.replaceSubrange(frame + 5..<frame + 9, with: [0x34, 0x30, 0x34, 0x30])
    guard case .tooMuchMemory(_, 13360, 13360, let byteCount, 1 << 30) = error(bytes) else {
      Issue.record("\(String(describing: error(bytes)))")
      return
    }
    #expect((0..<8 << 20).contains(byteCount - 11 * 13360 * 13360))
    #expect(
      error(bytes)?.description
        == "test: 13360 x 13360 pixels take \((byteCount + (1 << 20) - 1) >> 20) MiB to decode, "
        + "more than the limit of 1024 MiB; scale the image down or save it without progressive or lossless compression"
    )
  }

  @Test func `counts the memory of WebP and PNG decoding`() throws {
    let decoder = ImageDecoder()
    let pixels = 53 * 41
    #expect(try decoder.decodingByteCount(fixture("lossless.webp"), name: "") > 8 * pixels)
    #expect(try decoder.decodingByteCount(fixture("lossy.webp"), name: "") > 3 * pixels)
    #expect(try decoder.decodingByteCount(fixture("rgb.png"), name: "") > 3 * pixels)
  }

  @Test func `names a missing file, a folder and a device`() throws {
    let folder = Fixtures.url("images").path
    #expect(throws: ImageError.missingFile(name: folder + "/none.png")) {
      try ImageDecoder().decode(contentsOfFile: folder + "/none.png")
    }
    let link = FileManager.default.temporaryDirectory.appending(path: "\(UUID().uuidString).jpg").path
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "/nonexistent.jpg")
    defer { try? FileManager.default.removeItem(atPath: link) }
    #expect(throws: ImageError.missingFile(name: link)) { try ImageDecoder().decode(contentsOfFile: link) }
    #expect(throws: ImageError.notAFile(name: folder, found: "folder")) {
      try ImageDecoder().decode(contentsOfFile: folder)
    }
    #expect(throws: ImageError.notAFile(name: "/dev/zero", found: "device or pipe")) {
      try ImageDecoder().decode(contentsOfFile: "/dev/zero")
    }
  }

  @Test func `quotes at most 60 characters of a long name`() {
    let name = String(repeating: "x", count: 300)
    #expect(
      ImageError.missingFile(name: name).description == "\"\(name.prefix(60))…\": no such file; check the path")
    #expect(ImageError.emptyFile(name: "a\nb").description.hasPrefix("\"a\\nb\": the file is empty"))
  }

  /// The CRC-32 of PNG, computed bit by bit.
  private func crc32(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    ~bytes.reduce(~0) { sum, byte in
      (0..<8).reduce(sum ^ UInt32(byte)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0xEDB8_8320 : value >> 1 }
    }
  }
}
