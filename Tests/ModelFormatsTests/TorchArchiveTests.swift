import Foundation
import Kernels
import ModelFormats
import Storage
import TestSupport
import Testing

private typealias F = TorchFixtures

@Suite struct TorchArchiveTests {
  private func path(_ name: String) -> String { Fixtures.url("torch/\(name)").path(percentEncoded: false) }

  private func expectError(
    _ name: String, _ words: String, sourceLocation: SourceLocation = #_sourceLocation
  ) -> CheckpointError? {
    let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) { try TorchArchive(path(name)) }
    let line = error?.description ?? ""
    #expect(line.hasPrefix(path(name) + ": ") && line.contains(words), "\(line)", sourceLocation: sourceLocation)
    return error
  }

  @Test(arguments: ["types.bin", "state.bin", "views.bin", "old.bin"])
  func `reads the floats of torch.save`(name: String) throws {
    let expected = try GoldenTensors(Fixtures.url("torch/expected.safetensors"))
    let archive = try TorchArchive(path(name))
    let tensors = expected.names.filter { $0.hasPrefix(name + "/") }
    #expect(tensors.count > 1)
    for tensor in tensors {
      let found = try archive.tensor(String(tensor.dropFirst(name.count + 1)))
      #expect(try found.shape == expected.shape(tensor), "\(tensor)")
      #expect(try found.floats().map(\.bitPattern) == expected.floats(tensor).map(\.bitPattern), "\(tensor)")
    }
  }

  @Test func `recognises every element type, and refuses all but floats when read`() throws {
    let archive = try TorchArchive(path("types.bin"))
    let others = [
      "float64": "F64", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
      "complex64": "C64", "complex128": "C128", "uint16": "U16", "uint32": "U32", "uint64": "U64",
      "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    ]
    #expect(Set(archive.records.keys) == Set(others.keys).union(["float32", "float16", "bfloat16"]))
    for (name, type) in others {
      #expect(archive.records[name]?.shape == [3])
      #expect(throws: CheckpointError.unsupportedElement(name: name, found: type, file: archive.path)) {
        try archive.tensor(name)
      }
    }
    #expect(archive.records["float64"]?.bytes.count == 24)
    #expect(archive.records["float8_e5m2"]?.bytes.count == 3)
  }

  @Test func `reads a module's state with its metadata, buffers and tied weights`() throws {
    let records = try TorchArchive(path("state.bin")).records
    #expect(
      records.keys.sorted() == ["embed_tokens.weight", "lm_head.weight", "norm.bias", "norm.weight", "position_ids"])
    #expect(records["embed_tokens.weight"]?.bytes == records["lm_head.weight"]?.bytes)
    #expect(records["position_ids"]?.elementName == "I64")
  }

  @Test func `ignores values that are not tensors`() throws {
    let names = try TorchArchive(path("views.bin")).records.keys.sorted()
    #expect(
      names == [
        "column", "columns", "element", "empty", "expanded", "fixed_parameter", "one_row_of_columns", "parameter",
        "row", "rows", "scalar", "transposed", "whole",
      ])
  }

  @Test(arguments: [
    ("transposed", [6, 4], [1, 6]), ("columns", [4, 2], [6, 1]), ("expanded", [2, 3], [0, 0]),
  ])
  func `refuses a strided tensor, with a conversion command`(
    name: String, shape: [Int], strides: [Int]
  ) throws {
    let archive = try TorchArchive(path("views.bin"))
    let error = CheckpointError.stridedTensor(name: name, shape: shape, strides: strides, file: archive.path)
    #expect(throws: error) { try archive.tensor(name) }
    #expect(error.description.contains("python3 -c \"import glob, torch"))
    #expect(!error.description.contains("\n"))
  }

  @Test func `refuses older formats of PyTorch, with a conversion command`() throws {
    let error = expectError("legacy.bin", "PyTorch before 1.6")
    #expect(error?.description.contains("weights_only=True") == true)
    let folder = try TemporaryFolder()
    let tar = [UInt8](repeating: 0, count: 257) + Array("ustar".utf8) + [UInt8](repeating: 0, count: 762)
    let path = try folder.write("tar.bin", tar)
    #expect(throws: CheckpointError.self) { try TorchArchive(path) }
  }

  @Test func `names a forbidden function`() {
    #expect(
      expectError("command.bin", #""posix.system""#)
        == .forbiddenGlobal(name: "posix.system", file: path("command.bin")))
    #expect(
      expectError("module.bin", "refused")
        == .forbiddenGlobal(name: "torch.nn.modules.linear.Linear", file: path("module.bin")))
  }

  @Test func `names the key of nested tensors in a training script's file`() {
    _ = expectError("nested.bin", #""state_dict""#)
  }

  @Test func `refuses other protocols`() { _ = expectError("protocol4.bin", "a pickle of protocol 2") }

  @Test func `refuses big-endian numbers, with a conversion command`() throws {
    let folder = try TemporaryFolder()
    let pickle = F.pickle(F.dictionary([]))
    let big = try folder.write("a.bin", F.file(pickle, more: [.init("m/byteorder", Array("big".utf8))]))
    let error = #expect(throws: CheckpointError.self) { try TorchArchive(big) }
    #expect(error?.description.contains("weights_only=True") == true)
    let little = try folder.write("b.bin", F.file(pickle, more: [.init("m/byteorder", Array("little".utf8))]))
    #expect(try TorchArchive(little).records.isEmpty)
  }

  @Test func `names a missing file, a folder, an empty file`() throws {
    let folder = try TemporaryFolder()
    let (none, own) = (folder.path("none"), folder.path)
    #expect(throws: CheckpointError.file(.notFound(path: none))) { try TorchArchive(none) }
    #expect(throws: CheckpointError.file(.notAFile(path: own))) { try TorchArchive(own) }
    let empty = try folder.write("empty", "")
    #expect(throws: CheckpointError.file(.empty(path: empty))) { try TorchArchive(empty) }
  }
}
