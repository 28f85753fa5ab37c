import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport
import Testing

private typealias F = SafetensorsFixtures

@Suite struct SafetensorsTests {
  /// A small file with metadata, a scalar and several element types.
  private static let whole = F.file(
    F.header(
      #""__metadata__":{"format":"pt"}"#, F.entry("a", "F32", "[2,1]", "[0,8]"), F.entry("b", "I64", "[]", "[8,16]"),
      F.entry("c", "BF16", "[3]", "[16,22]")), payload: 22)

  private static let valid: [(String, [UInt8], [String: [Int]])] = [
    ("no tensors", F.file("{}"), [:]),
    ("spaces after the header", F.file("{}      "), [:]),
    ("metadata only", F.file(#"{"__metadata__":{"a":"b"}}"#), [:]),
    ("an empty tensor", F.file(F.header(F.entry("a", "F32", "[0,3]", "[0,0]"))), ["a": [0, 3]]),
    (
      "an empty tensor at the start of another",
      F.file(F.header(F.entry("a", "U8", "[2]", "[0,2]"), F.entry("b", "U8", "[0]", "[0,0]")), payload: 2),
      ["a": [2], "b": [0]]
    ),
    ("a scalar", F.file(F.header(F.entry("a", "F32", "[]", "[0,4]")), payload: 4), ["a": []]),
    (
      "floats at an odd offset",
      F.file(F.header(F.entry("b", "F32", "[1]", "[1,5]"), F.entry("a", "U8", "[1]", "[0,1]")), payload: 5),
      ["a": [1], "b": [1]]
    ),
    ("an escaped name", F.file(F.header(F.entry(#"\u0061"#, "U8", "[1]", "[0,1]")), payload: 1), ["a": [1]]),
    ("everything", whole, ["a": [2, 1], "b": [], "c": [3]]),
  ]

  @Test(arguments: valid)
  func `reads names and shapes`(label: String, bytes: [UInt8], shapes: [String: [Int]]) throws {
    let folder = try TemporaryFolder()
    let file = try SafetensorsFile(folder.write("a.safetensors", bytes))
    #expect(file.records.mapValues(\.shape) == shapes)
  }

  @Test(arguments: 0...3)
  func `reads floats at any alignment`(shift: Int) throws {
    let folder = try TemporaryFolder()
    let header = F.header(
      F.entry("pad", "U8", "[\(shift)]", "[0,\(shift)]"), F.entry("a", "F32", "[2]", "[\(shift),\(shift + 8)]"))
    let values: [Float] = [1.5, -3]
    let bytes = values.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * $0)) } }
    let path = try folder.write("a.safetensors", F.file(header) + [UInt8](repeating: 9, count: shift) + bytes)
    #expect(try SafetensorsFile(path).tensor("a").floats() == values)
  }

  /// The defect, the file, and words of the one-line error.
  private static let malformed: [(String, [UInt8], String)] = [
    ("header beyond the end", F.file("{}", announced: 3), "truncated"),
    ("header of 2^63 bytes", F.file("{}", announced: 1 << 63), "truncated"),
    ("header of 2^64 - 1 bytes", F.file("{}", announced: .max), "truncated"),
    ("header of 2^64 - 8 bytes", F.file("{}", announced: .max - 7), "truncated"),
    ("no header", F.file(""), "not JSON"),
    ("header not JSON", F.file("hello"), "not JSON"),
    ("header cut short", F.file("{}", announced: 1), "not JSON"),
    ("header a list", F.file("[]"), "an object"),
    ("header null", F.file("null"), "an object"),
    ("header not UTF-8", F.file([0x7B, 0x22, 0xC3, 0x28, 0x22, 0x3A, 0x31, 0x7D]), "UTF-8"),
    ("header deep", F.file(String(repeating: "[", count: 200_000)), "levels"),
    ("header deep objects", F.file(String(repeating: #"{"a":"#, count: 200_000)), "levels"),
    ("more after the header", F.file("{}{}"), "not JSON"),
    ("entry a number", F.file(#"{"a":1}"#), #""a" has no dtype"#),
    ("entry null", F.file(#"{"a":null}"#), #""a" has no dtype"#),
    ("no dtype", F.file(#"{"a":{"shape":[],"data_offsets":[0,0]}}"#), #""a" has no dtype"#),
    ("dtype a number", F.file(#"{"a":{"dtype":5,"shape":[],"data_offsets":[0,0]}}"#), #""a" has no dtype"#),
    ("no shape", F.file(#"{"a":{"dtype":"F32","data_offsets":[0,0]}}"#), #""a" has no dtype"#),
    ("no offsets", F.file(#"{"a":{"dtype":"F32","shape":[0]}}"#), #""a" has no dtype"#),
    ("shape a number", F.one(shape: "2"), "integers"),
    ("shape of texts", F.one(shape: #"["2"]"#), "integers"),
    ("shape fractional", F.one(shape: "[2.0]"), "integers"),
    ("shape beyond 64 bits", F.one(shape: "[99999999999999999999]"), "integers"),
    ("shape of numbers beyond doubles", F.one(shape: "[1e999]"), "within range"),
    ("shape negative", F.one(shape: "[-2]"), "impossible shape"),
    ("shape twice negative", F.one(shape: "[-1,-2]"), "impossible shape"),
    ("shape of the smallest number", F.one(shape: "[-9223372036854775808]"), "impossible shape"),
    ("product overflows", F.one(shape: "[4294967296,4294967296]"), "impossible shape"),
    ("product overflows to the right size", F.one("U8", shape: "[2305843009213693953,8]"), "impossible shape"),
    ("product overflows beside a zero", F.one(shape: "[0,4611686018427387904,4]"), "impossible shape"),
    ("one offset", F.one(offsets: "[0]"), "integers"),
    ("three offsets", F.one(offsets: "[0,8,8]"), "integers"),
    ("offsets reversed", F.one(offsets: "[8,0]"), "is at ["),
    ("offsets negative", F.one(offsets: "[-8,0]"), "is at ["),
    ("offsets beyond the end", F.one(offsets: "[8,16]"), "truncated"),
    ("offsets at the integer limits", F.one(offsets: "[-9223372036854775808,9223372036854775807]"), "is at ["),
    ("offsets fractional", F.one(offsets: "[0,8.5]"), "integers"),
    ("more bytes than the shape", F.one(shape: "[1]"), "expected 4"),
    ("fewer bytes than the shape", F.one(shape: "[3]"), "expected 12"),
    ("bytes for an empty tensor", F.one(shape: "[0]"), "expected 0"),
    ("overlap", F.pair(("[5]", "[0,5]"), ("[5]", "[3,8]")), #""b" overlaps"#),
    ("same range", F.pair(("[8]", "[0,8]"), ("[8]", "[0,8]")), "overlaps"),
    ("empty inside another", F.pair(("[8]", "[0,8]"), ("[0]", "[4,4]")), #""b" overlaps"#),
    ("gap", F.pair(("[3]", "[0,3]"), ("[4]", "[4,8]")), #""b" has a gap"#),
    ("gap at the start", F.one(shape: "[1]", offsets: "[4,8]"), #""a" has a gap"#),
    ("bytes at the end", F.one(shape: "[1]", offsets: "[0,4]"), "4 unused bytes after"),
    ("bytes and no tensor", F.file("{}", payload: 1), "1 unused bytes after"),
    ("duplicate", F.tensors(["a", "a"]), #""a" occurs twice"#),
    ("duplicate by an escape", F.tensors(["a", #"\u0061"#]), #""a" occurs twice"#),
    ("unknown type", F.one("F31"), #"stored as "F31""#),
    ("type in small letters", F.one("f32"), #"stored as "f32""#),
    ("type without a name", F.one(""), "stored as"),
  ]

  @Test(arguments: malformed)
  func `refuses a malformed file`(label: String, bytes: [UInt8], words: String) throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("a.safetensors", bytes)
    let error = #expect(throws: CheckpointError.self) { try SafetensorsFile(path) }
    let description = try #require(error?.description)
    #expect(description.hasPrefix(path + ": ") && description.contains(words), "\(description)")
    switch error {
    case .malformed: break
    case .duplicateTensor: #expect(label.hasPrefix("duplicate"))
    case .unsupportedElement: #expect(label.contains("type"))
    default: Issue.record("\(description)")
    }
  }

  @Test func `refuses a header larger than the format allows, without reading it`() throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("a.safetensors", F.file("{}", announced: 100_000_001))
    let handle = try FileHandle(forUpdating: URL(filePath: path))
    try handle.truncate(atOffset: 200_000_000)
    try handle.close()
    let reason =
      "the header size is 100000001 bytes, expected at most 100000000; the file is truncated or not safetensors"
    #expect(throws: CheckpointError.malformed(file: path, reason: reason)) { try SafetensorsFile(path) }
  }

  @Test func `names a missing file, a folder, an empty file`() throws {
    let folder = try TemporaryFolder()
    let none = folder.path("none")
    #expect(throws: CheckpointError.file(.notFound(path: none))) { try SafetensorsFile(none) }
    let own = folder.path
    #expect(throws: CheckpointError.file(.notAFile(path: own))) { try SafetensorsFile(own) }
    let empty = try folder.write("empty", "")
    #expect(throws: CheckpointError.file(.empty(path: empty))) { try SafetensorsFile(empty) }
  }

  @Test func `refuses a truncated file`() throws {
    let folder = try TemporaryFolder()
    for end in Self.whole.indices {
      let path = try folder.write("a.safetensors", Self.whole[..<end])
      #expect(throws: CheckpointError.self, "\(end) bytes") { try SafetensorsFile(path) }
    }
  }

  @Test func `survives the change of any byte`() throws {
    let folder = try TemporaryFolder()
    for i in Self.whole.indices {
      for value in [0, 0x7F, 0xFF] + Array("\"]}-9\\".utf8) {
        var changed = Self.whole
        changed[i] = value
        let path = try folder.write("a.safetensors", changed)
        guard let file = try? SafetensorsFile(path) else { continue }
        for name in file.records.keys { _ = try? file.tensor(name).floats() }
      }
    }
  }
}
