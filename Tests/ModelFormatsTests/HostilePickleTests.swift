import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport
import Testing

private typealias A = ArchiveFixtures
private typealias F = TorchFixtures

/// Malformed pickles, pickles with forbidden functions, and pickles that use too many resources.
@Suite struct HostilePickleTests {
  private static let hooks = F.call("collections", "OrderedDict", [])
  private static let tensor = F.tensor(F.storage(), shape: [2], strides: [1])

  private static func ascii(_ text: String) -> [UInt8] { Array(text.utf8) }
  private static func many(_ count: Int, _ text: String) -> [UInt8] { ascii(String(repeating: text, count: count)) }

  /// A file whose only value is the result of these instructions.
  private static func value(_ instructions: [UInt8]) -> [UInt8] {
    F.file(F.pickle(F.dictionary([("a", instructions)])), ["0": [UInt8](0..<8)])
  }

  private static func whole(_ pickle: [UInt8]) -> [UInt8] { F.file(pickle, ["0": [UInt8](0..<8)]) }

  /// A tensor with these arguments.
  private static func rebuilt(_ arguments: [[UInt8]]) -> [UInt8] {
    value(F.call("torch._utils", "_rebuild_tensor_v2", arguments))
  }

  private static func shape(_ part: [UInt8]) -> [UInt8] {
    rebuilt([F.storage(), F.integer(0), part, F.tuple([F.integer(1)]), [0x89], hooks])
  }

  /// The defect, the file, and words of the one-line error.
  private static let malformed: [(String, [UInt8], String)] = [
    ("empty", whole([]), "expected 2 bytes"),
    ("no pickle", whole(ascii("hello")), "protocol 2"),
    ("protocol 0", whole(ascii("}.")), "protocol 2"),
    ("protocol 3", whole([0x80, 3] + ascii("}.")), "protocol 2"),
    ("no end", whole([0x80, 2] + ascii("}")), "expected 1 bytes, found 0"),
    ("nothing at the end", whole(F.pickle([])), "a value on the stack"),
    ("two values at the end", whole(F.pickle(ascii("}}"))), "the end of the pickle"),
    ("an open mark at the end", whole(F.pickle(ascii("}("))), "a value on the stack"),
    ("a mark below the value", whole(F.pickle(ascii("(}"))), "the end of the pickle"),
    ("more after the end", whole(F.pickle(ascii("}")) + ascii("}.")), "the end of the pickle"),
    ("no dictionary", whole(F.pickle(ascii("]"))), "no dictionary"),
    ("a tensor alone", whole(F.pickle(tensor)), "no dictionary"),
    ("a tensor without a name", whole(F.pickle(ascii("}") + F.integer(1) + tensor + ascii("s"))), "is not text"),
    ("a name without a tensor", whole(F.pickle(ascii("}(") + F.text("a") + ascii("u"))), "keys and values"),

    ("instruction of protocol 0", value(ascii("I1\n")), "an instruction that torch.save writes"),
    ("instruction of protocol 4", value([0x8C, 1, 0x61]), "an instruction that torch.save writes"),
    ("instance by name", value(ascii("(ios\nsystem\n")), "an instruction that torch.save writes"),
    ("object", value(ascii("(cos\nsystem\no")), #""os.system""#),
    ("new object", value(F.global("collections", "OrderedDict") + ascii(")") + [0x81]), "an instruction"),
    ("global from the stack", value(F.text("os") + F.text("system") + [0x93]), "an instruction"),
    ("extension", value([0x82, 1]), "an instruction"),
    ("a second protocol", value([0x80, 2]), "an instruction"),

    ("pop of nothing", whole(F.pickle(ascii("s"))), "a value on the stack"),
    ("tuple of nothing", whole(F.pickle([0x87])), "3 values on the stack"),
    ("tuple across a mark", whole(F.pickle(ascii("}}(}") + [0x86])), "2 values on the stack"),
    ("tuple without a mark", whole(F.pickle(ascii("t"))), "a mark on the stack"),
    ("items without a mark", whole(F.pickle(ascii("}u"))), "a mark on the stack"),
    ("item across a mark", whole(F.pickle(ascii("}}}(s"))), "a value on the stack"),
    ("items of a list", value(ascii("](") + F.text("a") + F.text("b") + ascii("u")), "a dictionary"),
    ("appended to a dictionary", value(ascii("}}a")), "a list on the stack"),
    ("attributes of a list", value(ascii("]}b")), "a dictionary and attributes"),
    ("attributes of a tensor", value(tensor + ascii("}b")), "a dictionary and attributes"),
    ("get of an empty memo", value(ascii("h\u{7}")), "a memoized value"),
    ("get of memo 2^32 - 1", value(ascii("j") + [0xFF, 0xFF, 0xFF, 0xFF]), "a memoized value"),
    ("put of nothing", whole(F.pickle(ascii("q\u{0}"))), "a value on the stack"),

    ("text of 4 GiB", value(ascii("X") + [0xFF, 0xFF, 0xFF, 0xFF]), "expected 4294967295 bytes"),
    ("text not UTF-8", value(ascii("X") + [2, 0, 0, 0, 0xC3, 0x28]), "UTF-8 text"),
    ("number of 2 GiB", value([0x8B, 0xFF, 0xFF, 0xFF, 0x7F]), "expected 2147483647 bytes"),
    ("number of a negative size", value([0x8B, 0xFF, 0xFF, 0xFF, 0xFF]), "expected -1 bytes"),
    ("global without an end", whole([0x80, 2] + ascii("ccollections")), "expected 1 bytes, found 0"),

    ("call of a text", value(F.text("a") + ascii(")R")), "a function and its arguments"),
    ("call of a class of storages", value(F.global("torch", "FloatStorage") + ascii(")R")), "a function"),
    ("call without a tuple", value(F.global("collections", "OrderedDict") + ascii("]R")), "a function"),
    ("dictionary of arguments", value(F.call("collections", "OrderedDict", [ascii("]")])), "a function"),
    (
      "parameter of no tensor", value(F.call("torch._utils", "_rebuild_parameter", [[0x4E], [0x88], hooks])),
      "a function"
    ),
    ("parameter of one argument", value(F.call("torch._utils", "_rebuild_parameter", [tensor])), "a function"),
    ("tensor of no arguments", rebuilt([]), "a function"),
    (
      "tensor with flipped signs",
      rebuilt(
        [F.storage(), F.integer(0), F.tuple([F.integer(2)]), F.tuple([F.integer(1)]), [0x89], hooks, ascii("}")]),
      "a function"
    ),
    ("tensor of no storage", rebuilt([[0x4E], F.integer(0), ascii(")"), ascii(")"), [0x89], hooks]), "a function"),
    ("offset a text", rebuilt([F.storage(), F.text("0"), ascii(")"), ascii(")"), [0x89], hooks]), "a function"),
    (
      "offset beyond 64 bits",
      rebuilt(
        [F.storage(), [0x8A, 9] + A.little(1, 9), ascii(")"), ascii(")"), [0x89], hooks]), "a function"
    ),
    ("shape a number", shape(F.integer(2)), "a function"),
    ("shape a list", shape(ascii("]")), "a function"),
    ("shape of texts", shape(F.tuple([F.text("2")])), "a function"),
    ("shape of 65 dimensions", shape(F.tuple(Array(repeating: F.integer(1), count: 65))), "a function"),
    (
      "type for a tensor of another kind",
      value(
        F.call(
          "torch._utils", "_rebuild_tensor_v3",
          [F.storage(), F.integer(0), ascii(")"), ascii(")"), [0x89], hooks, F.text("F32")])), "a function"
    ),
    (
      "storage of other words",
      value(
        F.tuple(
          [F.text("module"), F.global("torch", "FloatStorage"), F.text("0"), F.text("cpu"), F.integer(2)]) + ascii("Q")),
      "the parts of a storage"
    ),
    (
      "storage of no class",
      value(
        F.tuple(
          [F.text("storage"), F.text("FloatStorage"), F.text("0"), F.text("cpu"), F.integer(2)]) + ascii("Q")),
      "the parts of a storage"
    ),
    (
      "storage of four parts",
      value(
        F.tuple(
          [F.text("storage"), F.global("torch", "FloatStorage"), F.text("0"), F.text("cpu")]) + ascii("Q")),
      "the parts of a storage"
    ),
    ("storage of a text", value(F.text("0") + ascii("Q")), "the parts of a storage"),

    ("storage of negative size", F.one(count: -2), "expected -2 F32"),
    ("storage of another size", F.one(count: 3), "has 8 bytes, expected 3 F32"),
    ("storage size overflows", F.one(count: .max), "expected 9223372036854775807 F32"),
    ("storage size overflows to the right one", F.one(count: 1 << 62 + 2), "expected 4611686018427387906 F32"),
    ("storage of another type", F.one("DoubleStorage"), "expected 2 F64"),
    ("storage elsewhere", value(F.tensor(F.storage(key: "../data.pkl"), shape: [2], strides: [1])), "is missing"),
    ("shape negative", F.one(shape: [-2]), "impossible shape"),
    ("shape twice negative", F.one(shape: [-1, -2], strides: [1, 1]), "impossible shape"),
    ("shape beyond the storage", F.one(shape: [3]), "of a storage of 8 bytes"),
    ("shape overflows", F.one(shape: [1 << 32, 1 << 32], strides: [1 << 32, 1]), "impossible shape"),
    ("shape overflows to the right size", F.one(shape: [1 << 61 + 1, 8], strides: [8, 1]), "impossible shape"),
    ("shape overflows beside a zero", F.one(shape: [0, 1 << 62, 4], strides: [1, 1, 1]), "impossible shape"),
    ("more strides than dimensions", F.one(strides: [1, 1]), "impossible shape"),
    ("no strides", F.one(strides: []), "impossible shape"),
    ("offset beyond the storage", F.one(offset: 1), "at element 1"),
    ("offset negative", F.one(offset: -1), "at element -1"),
    ("offset overflows", F.one(offset: .max), "at element 9223372036854775807"),
    ("offset overflows to the right one", F.one(offset: 1 << 62), "at element 4611686018427387904"),
    ("offset of an empty tensor", F.one(offset: 3, shape: [0]), "at element 3"),
  ]

  @Test(arguments: malformed)
  func `refuses a malformed pickle`(label: String, bytes: [UInt8], words: String) throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("a.bin", bytes)
    let error = #expect(throws: CheckpointError.self) { try TorchArchive(path) }
    let line = try #require(error?.description)
    #expect(line.hasPrefix(path + ": ") && line.contains(words), "\(line.prefix(1000))")
  }

  /// The start of a pickle, a part with its repetitions, and words of the one-line error.
  private static let oversized: [(String, String, Int, String)] = [
    ("", "(", 1000, "100 open marks"), ("", ")", 70_000, "65536 values"), ("]", "}a", 2_100_000, "2097152 objects"),
    ("]", "ha", 1 << 23, "at most 16777216"),
  ]

  @Test(arguments: oversized)
  func `refuses a pickle that uses too many resources`(start: String, part: String, count: Int, words: String) throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("a.bin", Self.whole([0x80, 2] + Self.ascii(start) + Self.many(count, part)))
    let error = #expect(throws: CheckpointError.self) { try TorchArchive(path) }
    #expect(error?.description.contains(words) == true, "\(error?.description.prefix(1000) ?? "")")
  }

  @Test(arguments: [
    ("os", "system"), ("posix", "system"), ("builtins", "eval"), ("__builtin__", "eval"), ("builtins", "getattr"),
    ("subprocess", "Popen"), ("torch", "load"), ("torch.hub", "load"), ("torch", "FloatStorage.__init__"),
    ("torch", "_utils._rebuild_tensor"), ("torch._utils", "_rebuild_qtensor"), ("numpy.core.multiarray", "scalar"),
    ("", "eval"), ("collections.OrderedDict", ""),
  ])
  func `refuses a forbidden function even if it is not called`(module: String, name: String) throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("a.bin", Self.value(F.global(module, name)))
    #expect(throws: CheckpointError.forbiddenGlobal(name: "\(module).\(name)", file: path)) { try TorchArchive(path) }
  }

  @Test func `refuses a duplicate tensor`() throws {
    let folder = try TemporaryFolder()
    let path = try folder.write(
      "a.bin", Self.whole(F.pickle(F.dictionary([("a", Self.tensor), ("a", Self.tensor)]))))
    #expect(throws: CheckpointError.duplicateTensor(name: "a", file: path)) { try TorchArchive(path) }
  }

  @Test(arguments: [[2], [0], [-1], [.max], [.min]])
  func `refuses a strided tensor when it is read`(strides: [Int]) throws {
    let folder = try TemporaryFolder()
    let archive = try TorchArchive(folder.write("a.bin", F.one(strides: strides)))
    #expect(throws: CheckpointError.stridedTensor(name: "a", shape: [2], strides: strides, file: archive.path)) {
      try archive.tensor("a")
    }
  }

  @Test func `survives deeply nested and recursive values`() throws {
    let folder = try TemporaryFolder()
    // A million nested tuples; a dictionary and a list that contain themselves.
    let tuples = Self.ascii(")") + [UInt8](repeating: 0x85, count: 1_000_000)
    let dictionary = Self.ascii("}q\u{1}") + F.text("self") + Self.ascii("h\u{1}s")
    let list = Self.ascii("]q\u{2}h\u{2}a")
    let members = [("tuples", tuples), ("dictionary", dictionary), ("list", list), ("a", Self.tensor)]
    let archive = try TorchArchive(folder.write("a.bin", Self.whole(F.pickle(F.dictionary(members)))))
    #expect(archive.records.keys.sorted() == ["a"])
  }

  @Test func `allows tensors to share a storage`() throws {
    let folder = try TemporaryFolder()
    let members = (0..<2).map { ("\($0)", F.tensor(F.storage(), offset: $0, shape: [1], strides: [7])) }
    let archive = try TorchArchive(folder.write("a.bin", Self.whole(F.pickle(F.dictionary(members)))))
    #expect(try archive.tensor("0").floats()[0].bitPattern == 0x0302_0100)
    #expect(try archive.tensor("1").floats()[0].bitPattern == 0x0706_0504)
  }
}
