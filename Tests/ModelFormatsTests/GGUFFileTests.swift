import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport
import Testing

private typealias F = GGUFFixture

@Suite struct GGUFFileTests {
  private static func open(_ fixture: GGUFFixture) throws -> GGUFFile { try open(fixture.bytes) }
  private static func open(_ bytes: [UInt8]) throws -> GGUFFile {
    try GGUFFile(SharedBytes(copying: bytes), path: "a.gguf")
  }

  @Test(arguments: [2, 3] as [UInt32])
  func `reads values of every type`(version: UInt32) throws {
    var fixture = F()
    fixture.version = version
    fixture.pairs = [
      ("u8", .u8(200)), ("i8", F.Value(type: 1, bytes: [0xFE])), ("u16", .u16(60_000)),
      ("i16", F.Value(type: 3, bytes: [0xFE, 0xFF])), ("u32", .u32(4_000_000_000)), ("i32", .i32(-5)),
      ("u64", .u64(1 << 40)), ("i64", .i64(-1 << 40)), ("f32", .f32(0.5)), ("f64", .f64(0.25)), ("yes", .bool(true)),
      ("text", .text("ä")), ("texts", .texts(["a", "", "ö"])), ("floats", .floats([1, -2])),
      ("ints", .integers([3, -4])),
      ("doubles", .list(12, [.f64(0.125)])), ("bytes", .list(0, [.u8(255)])), ("empty", .texts([])),
      ("big", .u64(.max)), ("raw", .list(8, [F.Value(type: 8, bytes: little(UInt64(1)) + [0xFF])])),
    ]
    let metadata = try Self.open(fixture).metadata
    let integers = ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64"]
    let expected = [200, -2, 60_000, -2, 4_000_000_000, -5, 1 << 40, -1 << 40]
    for (key, value) in zip(integers, expected) { #expect(try metadata.integer(key) == value) }
    #expect(try metadata.bool("yes") == true && metadata.string("text") == "ä")
    #expect(try metadata.strings("texts") == ["a", "", "ö"] && metadata.strings("empty") == [])
    #expect(try metadata.floats("floats") == [1, -2] && metadata.floats("doubles") == [0.125])
    #expect(try metadata.integers("ints") == [3, -4] && metadata.integers("bytes") == [255])
    #expect(try metadata.strings("raw") == ["\u{FFFD}"])
    #expect(metadata.count("texts") == 3 && metadata.count("text") == nil)
    #expect(try metadata.string("none") == nil && metadata.floats("none") == nil && !metadata.contains("none"))
    #expect(metadata.contains("f64") && metadata.keys.count == fixture.pairs.count)
  }

  @Test func `refuses a tensor of an impossible shape, also of a type that is not read`() throws {
    var fixture = F()
    for type in [0, 24] as [UInt32] {
      fixture.tensors = [F.Tensor("a", [1 << 40, 1 << 40], type: type, byteCount: 32)]
      #expect(throws: CheckpointError.self) { try Self.open(fixture) }
    }
    fixture.tensors = [F.Tensor("a", [1 << 40], type: 24, byteCount: 32)]
    #expect(try Self.open(fixture).records.count == 1)
  }

  @Test(arguments: [
    ("an integer", "text", "\"x\""), ("a text", "integer", "7"), ("a list of texts", "floats", "a list of 1"),
    ("a list of numbers", "texts", "a list of 1"), ("a list of integers", "floats", "a list of 1"),
    ("true or false", "floats", "a list of 1"), ("an integer", "huge", "1.8446744073709552e+19"),
  ])
  func `names a value of another kind`(expected: String, key: String, found: String) throws {
    var fixture = F()
    fixture.pairs = [
      ("text", .text("x")), ("integer", .u32(7)), ("floats", .floats([1])), ("texts", .texts(["a"])),
      ("huge", .u64(.max)),
    ]
    let metadata = try Self.open(fixture).metadata
    let error = CheckpointError.badValue(file: "a.gguf", key: key, expected: expected, found: found)
    #expect(throws: error) {
      switch expected {
      case "an integer": _ = try metadata.integer(key)
      case "a text": _ = try metadata.string(key)
      case "a list of texts": _ = try metadata.strings(key)
      case "a list of numbers": _ = try metadata.floats(key)
      case "a list of integers": _ = try metadata.integers(key)
      default: _ = try metadata.bool(key)
      }
    }
  }

  @Test(arguments: [8, 32, 64, 4096])
  func `reads tensors at any alignment`(alignment: Int) throws {
    var fixture = F()
    fixture.alignment = alignment
    if alignment != 32 { fixture["general.alignment"] = .u32(UInt32(alignment)) }
    fixture.tensors = [F.Tensor("a", [3]), F.Tensor("b", [2, 3]), F.Tensor("c", [32, 1], type: 8, byteCount: 34)]
    let file = try Self.open(fixture)
    #expect(file.records.mapValues(\.shape) == ["a": [3], "b": [3, 2], "c": [1, 32]])
    #expect(file.records["c"]?.elementName == "Q8_0" && file.records["c"]?.bytes.count == 34)
    #expect(try file.tensor("b").floats() == [0, 1, 2, 3, 4, 5])
  }

  @Test func `reads tensors next to those of types that are not supported`() throws {
    var fixture = F()
    fixture.tensors = [
      F.Tensor("codebook", [256], type: 16, byteCount: 66), F.Tensor("odd", [7], type: 99, byteCount: 11),
      F.Tensor("a", [3]),
    ]
    let file = try Self.open(fixture)
    #expect(try file.tensor("a").floats() == [0, 1, 2])
    for (name, type) in [("codebook", "IQ2_XXS (type 16)"), ("odd", "type 99")] {
      let error = CheckpointError.unsupportedTensorType(name: name, found: type, file: "a.gguf")
      #expect(throws: error) { try file.tensor(name) }
      #expect(error.description.contains("is stored as \(type), which is not supported"))
    }
  }

  private static func changed(_ change: (inout GGUFFixture) -> Void) -> [UInt8] {
    var fixture = F()
    fixture.pairs = [("a", .u32(1))]
    fixture.tensors = [F.Tensor("x", [4]), F.Tensor("y", [4])]
    change(&fixture)
    return fixture.bytes
  }

  /// The defect, the file, and words of the one-line error.
  private static let malformed: [(String, [UInt8], String)] = [
    ("another magic", changed { $0.magic = Array("GGML".utf8) }, #"begins with "GGML", expected "GGUF""#),
    ("too short for the magic", Array("GG".utf8), "not a GGUF file"),
    ("nothing after the magic", Array("GGUF".utf8), "ends within the metadata"),
    ("version 1", changed { $0.version = 1 }, "version 1, expected 2 or 3"),
    ("version 0", changed { $0.version = 0 }, "version 0, expected 2 or 3"),
    ("version 4", changed { $0.version = 4 }, "version 4, expected 2 or 3"),
    ("big-endian", changed { $0.version = UInt32(3).byteSwapped }, "big-endian"),
    ("a number of tensors of 2^64 - 1", changed { $0.tensorCount = .max }, "18446744073709551615 tensors"),
    ("more tensors than bytes", changed { $0.tensorCount = 9 }, "9 tensors at byte"),
    ("a number of pairs of 2^63", changed { $0.pairCount = 1 << 63 }, "9223372036854775808 metadata pairs"),
    ("more pairs than there are", changed { $0.pairCount = 3 }, "ends within the metadata"),
    (
      "a text beyond the end", changed { $0["b"] = F.Value(type: 8, bytes: little(UInt64.max)) },
      "ends within the metadata"
    ),
    ("an unknown value type", changed { $0["b"] = F.Value(type: 13, bytes: [0]) }, #""b" has the value type 13"#),
    (
      "an unknown element type", changed { $0["b"] = .list(77, []) }, #""b" has the value type 77, expected 0 to 12"#
    ),
    ("a list of 2^64 - 1", changed { $0["b"] = .list(4, [], announced: .max) }, #"elements of "b""#),
    ("a list of 2^62 floats", changed { $0["b"] = .list(6, [], announced: 1 << 62) }, #"elements of "b""#),
    ("a list of texts beyond the end", changed { $0["b"] = .list(8, [], announced: 1 << 40) }, #"elements of "b""#),
    (
      "a list of a text beyond the end",
      changed { $0["b"] = .list(8, [F.Value(type: 8, bytes: little(UInt64(1) << 33))]) }, "ends within the metadata"
    ),
    ("a list of lists", changed { $0["b"] = .list(9, [.integers([1])]) }, "a list of lists"),
    ("a key twice", changed { $0.pairs.append(("a", .u32(2))) }, #"the key "a" occurs twice"#),
    ("alignment 0", changed { $0["general.alignment"] = .u32(0) }, "a power of two from 8"),
    ("alignment 4", changed { $0["general.alignment"] = .u32(4) }, "a power of two from 8"),
    ("alignment 24", changed { $0["general.alignment"] = .u32(24) }, "found 24"),
    ("alignment 2^31", changed { $0["general.alignment"] = .u32(1 << 31) }, "a power of two from 8"),
    ("alignment below zero", changed { $0["general.alignment"] = .i32(-32) }, "found -32"),
    ("alignment a text", changed { $0["general.alignment"] = .text("32") }, "expected an integer"),
    ("one part of several", changed { $0["split.count"] = .u16(3) }, "one of 3 parts of a split model"),
    ("no dimensions", changed { $0.tensors[1].dimensionCount = 0 }, #""y" has 0 dimensions"#),
    ("5 dimensions", changed { $0.tensors[1].dims = [1, 1, 1, 1, 4] }, #""y" has 5 dimensions, expected 1 to 4"#),
    ("2^32 - 1 dimensions", changed { $0.tensors[1].dimensionCount = .max }, "4294967295 dimensions"),
    ("a dimension of zero", changed { $0.tensors[1].dims = [4, 0] }, #""y" has a dimension of 0"#),
    ("a dimension of 2^63", changed { $0.tensors[1].dims = [1 << 63] }, "a dimension of 9223372036854775808"),
    ("a product that overflows", changed { $0.tensors[1].dims = [1 << 32, 1 << 32] }, "impossible shape"),
    (
      "a product that overflows to the right size", changed { $0.tensors[1].dims = [(1 << 61) + 1, 8] },
      "impossible shape"
    ),
    ("a size that overflows", changed { $0.tensors[1].dims = [1 << 62] }, "is the download complete?"),
    ("more bytes than the file", changed { $0.tensors[1].dims = [40] }, "is the download complete?"),
    ("an offset beyond the end", changed { $0.tensors[1].offset = 1 << 40 }, "is the download complete?"),
    ("an offset of 2^64 - 32", changed { $0.tensors[1].offset = .max - 31 }, "is the download complete?"),
    ("an offset between multiples", changed { $0.tensors[1].offset = 40 }, "expected a multiple of 32"),
    ("an overlap", changed { $0.tensors[0].dims = [12] }, #""y" overlaps another tensor"#),
    ("the same bytes twice", changed { $0.tensors[1].offset = 0 }, "overlaps another tensor"),
    (
      "columns between blocks", changed { $0.tensors[1] = F.Tensor("y", [48], type: 8, byteCount: 51) },
      #""y" of Q8_0 has 48 columns, expected a multiple of 32"#
    ),
    (
      "rows that are not whole blocks", changed { $0.tensors[1] = F.Tensor("y", [128, 2], type: 12, byteCount: 144) },
      #""y" of Q4_K has 128 columns, expected a multiple of 256"#
    ),
    ("no bytes of tensors", Array(changed { _ in }.dropLast(64)), "is the download complete?"),
    ("cut within the infos", Array(changed { _ in }.prefix(95)), "ends within the metadata"),
  ]

  @Test(arguments: malformed)
  func `refuses a malformed file`(label: String, bytes: [UInt8], words: String) throws {
    let error = #expect(throws: CheckpointError.self) { try Self.open(bytes) }
    let description = try #require(error?.description)
    #expect(description.hasPrefix("a.gguf: ") && description.contains(words), "\(description)")
    #expect(!description.contains("\n"))
  }

  @Test func `refuses a tensor that occurs twice`() throws {
    let bytes = Self.changed { $0.tensors[1].name = "x" }
    #expect(throws: CheckpointError.duplicateTensor(name: "x", file: "a.gguf")) { try Self.open(bytes) }
  }

  @Test func `refuses every prefix of a file in one line`() throws {
    let bytes = F.model().bytes
    for count in 0..<bytes.count - 128 {
      let error = #expect(throws: CheckpointError.self, "\(count)") { try Self.open(Array(bytes.prefix(count))) }
      #expect(error?.description.contains("\n") == false)
    }
  }

  @Test func `reads or refuses every mutation of a file`() throws {
    var random = SeededGenerator(17)
    let (model, mmproj) = (F.model().bytes, F.mmproj().bytes)
    var read = 0
    for _ in 0..<4000 {
      var files = [model, mmproj]
      let index = Int(random.next() % 2)
      for _ in 0...random.next() % 4 {
        // Mostly within the metadata and the infos.
        let place = Int(random.next() % UInt64(files[index].count))
        files[index][place] = [0, 1, 0x7F, 0xFF, UInt8(truncatingIfNeeded: random.next())][Int(random.next() % 5)]
      }
      do {
        let opened = try GGUFModel(
          "m", model: Self.open(files[0]), mmproj: GGUFFile(SharedBytes(copying: files[1]), path: "p.gguf"))
        try opened.readEverything()
        read += 1
      } catch let error as CheckpointError {
        #expect(!error.description.contains("\n") && !error.description.isEmpty)
      }
    }
    #expect(read > 200)
  }
}

extension ModelFiles {
  /// Reads all tensors and lists as a model does.
  func readEverything() throws {
    _ = try preprocessor()
    let exports = [
      try GGUFExport.languageModel(configuration, name: "m"),
      try GGUFExport.visionEncoder(configuration, preprocessor(), name: "m"),
    ]
    for export in exports { for part in export.parts { _ = try export.tensor(part, of: self).floats() } }
    for key in metadata?.keys ?? [] {
      _ = try? metadata?.strings(key)
      _ = try? metadata?.floats(key)
      _ = try? metadata?.integers(key)
    }
  }
}
