import Foundation
import TestSupport
import Testing

@Suite struct QuestionTests {
  private let image = Fixtures.url("images/baseline_420.jpg").path

  private func ask(_ arguments: String...) throws -> ProgramRun { try ProgramRun(["-t", "1", "-n", "1"] + arguments) }

  /// A JPEG with a size of 30000 x 30000 in its header.
  private func hugeImage() throws -> [UInt8] {
    var bytes = [UInt8](try Data(contentsOf: URL(filePath: image)))
    let frame = try #require(bytes.indices.first { bytes[$0] == 0xFF && bytes[$0 + 1] == 0xC0 })
    bytes.replaceSubrange(frame + 5..<frame + 9, with: [0x75, 0x30, 0x75, 0x30])
    return bytes
  }

  @Test func `refuses an invalid image`() throws {
    let folder = try TemporaryFolder()
    let whole = try Data(contentsOf: URL(filePath: image))
    let images = [
      (folder.path("none.jpg"), "no such file"), (folder.path, "folder"),
      (try folder.write("empty.png", ""), "empty"),
      (try folder.write("text.png", "hello there"), "not a known image"),
      (try folder.write("cut.jpg", whole.prefix(whole.count / 2)), "damaged"),
      (try folder.write("huge.jpg", hugeImage()), "30000 x 30000"),
    ]
    for (path, words) in images { try ask("-p", "a", "--image", path).expectFailure(3, words) }
    try ask("-p", "a", "--image", "\(image),\(folder.path("none.jpg"))").expectFailure(3, "none.jpg")
  }

  @Test func `accepts an image as path, URL or data, in an option and in a conversation`() throws {
    let data = try Data(contentsOf: URL(filePath: image)).base64EncodedString()
    let folder = try TemporaryFolder()
    let copy = try folder.write("a, b.jpg", Data(contentsOf: URL(filePath: image)))
    let plain = try ask("-p", "a", "--image", image, "--format", "json")
    let expected = try kept(plain)
    let references = [
      copy, "file://\(image)", "data:image/jpeg;base64,\(data)", "Data:;Base64,\(data.replacing("+", with: "%2B"))",
      data,
    ]
    for reference in references {
      #expect(try kept(ask("-p", "a", "--image", reference, "--format", "json")) == expected, "\(reference.prefix(40))")
      guard reference != copy, reference != data else { continue }
      let chat = try folder.write(
        "chat.json",
        #"[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "\#(reference)"}}, "#
          + #"{"type": "text", "text": "a"}]}]"#)
      #expect(try kept(ask("--chat", chat, "--format", "json")) == expected, "\(reference.prefix(40))")
    }
  }

  /// The visual tokens kept in each stage, which identify the image.
  private func kept(_ run: ProgramRun) throws -> [[Int]] {
    struct Record: Decodable {
      struct Stage: Decodable {
        struct Image: Decodable { var kept: [Int] }
        var images: [Image]
      }
      var stages: [Stage]
    }
    #expect(run.status == 0, "\(run)")
    return try JSONDecoder().decode(Record.self, from: Data(run.output.utf8)).stages.map { $0.images[0].kept }
  }

  @Test func `the line break at the end of a file is not part of its question`() throws {
    let folder = try TemporaryFolder()
    let arguments = ["-t", "1", "-n", "1", "--verbose-prompt"]
    let expected = try ProgramRun(arguments + ["-p", "What is it?"]).errors
    #expect(expected.contains("What is it? ASSISTANT"))
    for text in ["What is it?", "What is it?\n", "What is it?\r\n", "\u{FEFF}What is it?\n"] {
      #expect(try ProgramRun(arguments + ["-f", folder.write("question.txt", text)]).errors == expected, "\(text)")
      #expect(try ProgramRun(arguments + ["-f", "-"], input: text).errors == expected, "\(text)")
    }
    let two = try ProgramRun(arguments + ["-f", folder.write("question.txt", "\nWhat is it?\n\n")])
    #expect(two.errors.contains(#"\nWhat is it?\n ASSISTANT"#), "\(two)")
    let utf16 = try folder.write("utf16.txt", [0xFF, 0xFE, 0x41, 0])
    try ask("-f", utf16).expectFailure(3, "UTF-16")
  }

  @Test func `notes that a backslash and an n are no line break`() throws {
    let run = try ask("-p", #"Question\nAnswer shortly."#)
    #expect(run.status == 0 && run.errorLines.count == 1, "\(run)")
    #expect(run.errors.hasPrefix(#"note: \n in --prompt is two characters"#), "\(run)")
    #expect(try ask("-p", "Question\nAnswer shortly.").errors.isEmpty)
  }

  @Test func `applies Exif orientation only on request`() throws {
    let photo = Fixtures.url("images/exif_6.jpg").path
    let stored = try kept(ask("-p", "a", "--image", photo, "--format", "json"))
    #expect(try kept(ask("-p", "a", "--image", photo, "--format", "json", "--exif", "ignore")) == stored)
    #expect(try kept(ask("-p", "a", "--image", photo, "--format", "json", "--exif", "apply")) != stored)
  }

  @Test func `refuses other formats and remote images by name`() throws {
    let folder = try TemporaryFolder()
    let tiff = try folder.write("scan.jpg", "II*\0........")
    try ask("-p", "a", "--image", tiff).expectFailure(3, "scan.jpg: TIFF is not supported; convert it to one of JPEG")
    try ask("-p", "a", "--image", "https://a/b.jpg").expectFailure(3, #""https://a/b.jpg": images are not fetched"#)
    let gif = "data:image/gif;base64,\(Data("GIF89a......".utf8).base64EncodedString())"
    try ask("-p", "a", "--image", gif).expectFailure(3, "image/gif data: GIF is not supported")
  }

  @Test func `refuses a prompt with a different number of images than given`() throws {
    try ask("--raw", "-p", "a", "--image", image).expectFailure(1, "no <image>")
    try ask("-p", "<image> a").expectFailure(1, "no image is given")
    try ask("-p", "<image> <image> a", "--image", image).expectFailure(1, "one for each")
  }

  @Test func `refuses a prompt longer than the context`() throws {
    try ask("-c", "8", "-p", "one two three four five six seven").expectFailure(1, "only 8")
  }

  @Test func `accepts any token limit`() throws {
    let limit = "\(Int.max)"
    let run = try ProgramRun(["-t", "1", "-p", "a", "-n", limit, "-c", limit, "--format", "json"])
    #expect(run.status == 0 && run.errors.isEmpty, "\(run)")
    #expect(try ask("-p", "a", "-n", "0").output == "\n")
  }

  @Test func `names the folder of an unwritable trace`() throws {
    let folder = try TemporaryFolder()
    let file = try folder.write("file", "x")
    let run = try ask("-p", "a", "--trace", file + "/trace")
    #expect(run.status == 3 && run.errorLines.count == 1)
    #expect(run.errors.hasPrefix("error: \(file)/trace: the trace cannot be written"), "\(run.errors)")
  }

  @Test func `draws the kept-token map as PNG, SVG and HTML`() throws {
    let folder = try TemporaryFolder()
    let map = folder.path("map.")
    for form in ["png", "svg", "HTML"] {
      let run = try ask("-p", "a", "--image", image, "--image", image, "--kept-map", map + form)
      #expect(run.status == 0 && run.errors.isEmpty, "\(run)")
    }
    let png = [UInt8](try Data(contentsOf: URL(filePath: map + "png")))
    // Two images with four panels of 336 pixels each. The sizes follow the signature and the name of the first chunk.
    #expect(png.prefix(8) == [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A])
    func number(_ start: Int) -> Int { png[start..<start + 4].reduce(0) { $0 << 8 | Int($1) } }
    #expect(number(16) == 4 * 336 + 3 * 16 && number(20) == 2 * 336 + 24)
    let svg = try String(contentsOfFile: map + "svg", encoding: .utf8)
    #expect(svg.components(separatedBy: "after layer 16: 144 of 576 tokens (25%)").count == 3)
    let html = try String(contentsOfFile: map + "HTML", encoding: .utf8)
    #expect(html.contains("layers 8, 16, 24 keep 0.5, 0.25, 0.125") && html.contains("Kept by row, image"))
  }

  @Test func `does not draw a map over the image`() throws {
    let folder = try TemporaryFolder()
    let bytes = [UInt8](try Data(contentsOf: URL(filePath: image)))
    let copy = try folder.write("a.png", bytes)
    try ask("-p", "a", "--image", copy, "--kept-map", copy).expectFailure(3, "a.png: is read or written by this run")
    #expect([UInt8](try Data(contentsOf: URL(filePath: copy))) == bytes)
  }

  @Test func `names a biased token that does not exist`() throws {
    try ask("-p", "a", "--logit-bias", "99999999:5").expectFailure(1, "token 99999999 does not exist")
  }

  @Test func `refuses to draw a map without an image or a folder`() throws {
    let folder = try TemporaryFolder()
    let run = try ask("-p", "a", "--kept-map", folder.path("map.png"))
    #expect(run.status == 3 && run.errors.contains("nothing to draw"), "\(run)")
    try ask("-p", "a", "--image", image, "--kept-map", folder.path("none/map.png")).expectFailure(
      3, "cannot be written")
  }
}
