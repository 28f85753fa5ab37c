import Foundation
import Storage
import TestSupport
import Testing

@Suite struct ByteStringTests {
  @Test func `composed and decomposed characters differ`() {
    let (composed, decomposed) = ("\u{E9}", "e\u{301}")
    #expect(composed == decomposed)
    #expect(ByteString(composed) != ByteString(decomposed))
    #expect(Set([ByteString(composed), ByteString(decomposed), ByteString(composed)]).count == 2)
    #expect(ByteString("a") < ByteString("ab") && ByteString("z") < ByteString(composed))
  }

  @Test(
    arguments: [
      ("caf", [0xE9], ".png", #"caf\xE9.png"#), ("", [0xFF, 0xFE], "", #"\xFF\xFE"#), ("a", [0xC3], "", #"a\xC3"#),
      ("a", [0xE2, 0x82], "b", #"a\xE2\x82b"#), ("a", [0xED, 0xA0, 0x80], "", #"a\xED\xA0\x80"#),
      ("a\\x", [], "E9", #"a\x5CxE9"#), ("\\", [], "n\u{E9}\u{301}\n", "\\n\u{E9}\u{301}\n"), ("\\", [], "", "\\"),
    ] as [(String, [UInt8], String, String)])
  func `prints bytes that are not UTF-8 as escapes`(start: String, bytes: [UInt8], end: String, text: String) {
    let string = ByteString(Array(start.utf8) + bytes + Array(end.utf8))
    #expect(ByteString(string.description) == ByteString(text))
    #expect((string.text == nil) == !bytes.isEmpty)
  }

  @Test func `different names have different descriptions`() {
    let alphabet: [UInt8] = [
      UInt8(ascii: "\\"), UInt8(ascii: "x"), UInt8(ascii: "5"), UInt8(ascii: "C"), 0x5C, 0xC3, 0xA9,
    ]
    var generator = SeededGenerator(5)
    var names: [ByteString: ByteString] = [:]
    for _ in 0..<20_000 {
      let name = ByteString(
        (0..<Int.random(in: 0...5, using: &generator)).map { _ in alphabet.randomElement(using: &generator)! })
      let text = ByteString(name.description)
      #expect(names[text] == nil || names[text] == name)
      names[text] = name
    }
  }

  @Test func `lists and reads files whose names are not UTF-8`() throws {
    let folder = try TemporaryFolder()
    let name = ByteString(Array("caf".utf8) + [0xE9] + Array(".png".utf8))
    let path = ByteString(folder.path + "/") + name
    try #require(Self.create(path, "text"))
    try FileManager.default.createDirectory(atPath: folder.path("folder"), withIntermediateDirectories: false)
    try FileManager.default.createSymbolicLink(atPath: folder.path("link"), withDestinationPath: "folder")
    let entries = try Folder.entries(of: ByteString(folder.path)).sorted { $0.name < $1.name }
    #expect(entries.map(\.name) == [name, ByteString("folder"), ByteString("link")])
    #expect(entries.map(\.isFolder) == [false, true, false])
    #expect(try OpenFile(reading: path).readAll(limit: 100) == Array("text".utf8))
    #expect(try OpenFile(reading: path).readAll(limit: 2) == Array("te".utf8))
    #expect(throws: SystemError.self) { try Folder.entries(of: path) }
    // A null byte does not end a path early.
    #expect(throws: SystemError(code: ENOENT)) { try OpenFile(reading: path + ByteString([0])) }
    #expect(throws: SystemError(code: ENOENT)) { try Folder.entries(of: ByteString(folder.path + "\0")) }
  }

  /// Writes a file with a name that Foundation cannot express; false if the file system refuses such names.
  private static func create(_ path: ByteString, _ text: String) -> Bool {
    let cPath = path.bytes.map { CChar(bitPattern: $0) } + [0]
    guard let file = unsafe fopen(cPath, "w") else { return false }
    defer { unsafe fclose(file) }
    return unsafe fputs(text, file) >= 0
  }
}

@Suite struct ForeignContentTests {
  @Test(
    arguments: [
      ([0xFF, 0xFE, 0x7B, 0], "UTF-16"), ([0xFE, 0xFF, 0, 0x7B], "UTF-16"), ([0x7B, 0, 0x22, 0], "UTF-16"),
      ([0, 0x7B, 0, 0x22], "UTF-16"), ([0xFF, 0xFE, 0, 0, 0x7B, 0, 0, 0], "UTF-32"), ([0, 0, 0, 0x7B], "UTF-32"),
      ([0x1F, 0x8B, 8, 0], "gzip"), ([0x28, 0xB5, 0x2F, 0xFD, 4], "zstd"), ([0x50, 0x4B, 3, 4], "zip"),
      ([0xFD, 0x37, 0x7A, 0x58, 0x5A, 0], "xz"), ([0x42, 0x5A, 0x68, 0x39], "bzip2"),
    ] as [([UInt8], String)])
  func `names other encodings and compressed files`(bytes: [UInt8], name: String) throws {
    #expect(try #require(ForeignContent(firstBytes: bytes)).problem.hasPrefix(name))
  }

  @Test(arguments: [
    "", "{", "{}", "{\"question_id\": 1}", "[\n", "\u{FEFF}", "\u{FEFF}{\"a\": 1}", "PK", "BZ", "\u{0}\u{1}\u{2}\u{3}",
  ])
  func `leaves text alone`(text: String) { #expect(ForeignContent(firstBytes: Array(text.utf8)) == nil) }
}
