import Foundation
import Kernels
import ModelFormats
import TestSupport
import Testing

private typealias F = TorchFixtures

/// Golden checkpoints rewritten as PyTorch files.
@Suite struct TorchCheckpointTests {
  /// The tensors of a safetensors file in the format of torch.save.
  private func torchFile(_ path: String) throws -> [UInt8] {
    let (file, bytes) = (try SafetensorsFile(path), try Data(contentsOf: URL(filePath: path)))
    let kinds = ["F32": ("FloatStorage", 4), "BF16": ("BFloat16Storage", 2), "I64": ("LongStorage", 8)]
    var members: [(String, [UInt8])] = []
    var storages: [ArchiveFixtures.Entry] = []
    for (key, (name, info)) in file.records.sorted(by: { $0.key < $1.key }).enumerated() {
      let (kind, width) = try #require(kinds[info.elementName])
      let strides = info.shape.indices.map { info.shape[($0 + 1)...].reduce(1, *) }
      let storage = F.storage(kind, key: "\(key)", count: info.bytes.count / width)
      members.append((name, F.tensor(storage, shape: info.shape, strides: strides)))
      storages.append(.init("m/data/\(key)", [UInt8](bytes[info.bytes])))
    }
    return ArchiveFixtures.file(F.entries(F.pickle(F.dictionary(members))) + storages)
  }

  private func expectEqual(_ directory: String, _ golden: String) throws {
    let (found, expected) = (try Checkpoint(directory: directory), try Checkpoint(directory: golden))
    #expect(found.byteCount == expected.byteCount)
    #expect(found.unreadNames == expected.unreadNames)
    #expect(expected.unreadNames.count > 50)
    for file in try FileManager.default.contentsOfDirectory(atPath: golden) where file.hasSuffix(".safetensors") {
      for (name, info) in try SafetensorsFile(golden + "/" + file).records where info.elementName != "I64" {
        let tensors = try [found, expected].map { try $0.tensor(name, shape: info.shape) }
        #expect(tensors[0].element == tensors[1].element)
        #expect(tensors[0].floats().elementsEqual(tensors[1].floats()) { $0.bitPattern == $1.bitPattern }, "\(name)")
      }
    }
    #expect(found.unreadNames.isEmpty && expected.unreadNames.isEmpty)
  }

  @Test func `loads pytorch_model.bin like safetensors`() throws {
    let folder = try TemporaryFolder()
    let golden = Goldens.path("models/tiny-llava-1.5")
    try folder.write("pytorch_model.bin", torchFile(golden + "/model.safetensors"))
    try expectEqual(folder.path, golden)
  }

  @Test func `loads the shards of pytorch_model.bin.index.json like safetensors`() throws {
    let folder = try TemporaryFolder()
    let golden = Goldens.path("models/tiny-llava-1.5-bf16")
    let shards = ["00001-of-00002", "00002-of-00002"]
    for shard in shards {
      try folder.write("pytorch_model-\(shard).bin", torchFile(golden + "/model-\(shard).safetensors"))
    }
    let index = try String(contentsOfFile: golden + "/model.safetensors.index.json", encoding: .utf8)
    let names = index.replacing("\"model-", with: "\"pytorch_model-").replacing(".safetensors\"", with: ".bin\"")
    try folder.write("pytorch_model.bin.index.json", names)
    try expectEqual(folder.path, golden)
  }

  @Test func `prefers safetensors to PyTorch files, and a single file to shards`() throws {
    let folder = try TemporaryFolder()
    let tensor = { F.tensor(F.storage(), shape: [2], strides: [1]) }
    let file = { (name: String) in F.file(F.pickle(F.dictionary([(name, tensor())])), ["0": [UInt8](0..<8)]) }
    try folder.write("shard.bin", file("b"))
    try folder.write("pytorch_model.bin.index.json", #"{"weight_map": {"b": "shard.bin"}}"#)
    #expect(try Checkpoint(directory: folder.path).unreadNames == ["b"])
    try folder.write("pytorch_model.bin", file("a"))
    #expect(try Checkpoint(directory: folder.path).unreadNames == ["a"])
    try folder.write("shard.safetensors", SafetensorsFixtures.tensors(["d"]))
    try folder.write("model.safetensors.index.json", #"{"weight_map": {"d": "shard.safetensors"}}"#)
    #expect(try Checkpoint(directory: folder.path).unreadNames == ["d"])
    try folder.write("model.safetensors", SafetensorsFixtures.tensors(["c"]))
    #expect(try Checkpoint(directory: folder.path).unreadNames == ["c"])
  }

  @Test func `refuses two names of one tensor`() throws {
    let folder = try TemporaryFolder()
    let tensor = F.tensor(F.storage(), shape: [2], strides: [1])
    let members = ["lm_head.weight", "language_model.lm_head.weight"].map { ($0, tensor) }
    let path = try folder.write("pytorch_model.bin", F.file(F.pickle(F.dictionary(members)), ["0": [UInt8](0..<8)]))
    #expect(throws: CheckpointError.duplicateTensor(name: "language_model.lm_head.weight", file: path)) {
      try Checkpoint(directory: folder.path)
    }
  }
}
