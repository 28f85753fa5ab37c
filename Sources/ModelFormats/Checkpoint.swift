package import Kernels

#if canImport(FoundationEssentials)
  internal import FoundationEssentials
#else
  internal import Foundation
#endif

/// The weights of a model directory, single file or shards, by one spelling of names.
///
/// Knows which tensors have been asked for, so that those nobody asked for can be named.
package final class Checkpoint {
  package let directory: String
  private var tensors: [String: (file: SafetensorsFile, storedName: String)] = [:]
  private var read: Set<String> = []

  /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
  ///
  /// - Throws: `CheckpointError` when there are no weights or a file is damaged.
  package init(directory: String) throws(CheckpointError) {
    self.directory = directory
    let single = directory + "/model.safetensors"
    let index = directory + "/model.safetensors.index.json"
    if FileManager.default.fileExists(atPath: single) {
      let file = try SafetensorsFile(single)
      for name in file.records.keys { try add(name, of: file) }
    } else if FileManager.default.fileExists(atPath: index) {
      try addShards(of: index)
    } else {
      let others = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
      throw .noWeights(
        directory: directory, found: others.filter { $0.hasSuffix(".bin") || $0.hasSuffix(".gguf") }.sorted())
    }
  }

  /// Bytes of all stored tensors.
  package var byteCount: Int {
    tensors.values.reduce(0) { $0 + ($1.file.records[$1.storedName]?.bytes.count ?? 0) }
  }

  /// Whether there is a tensor of this name.
  package func contains(_ name: String) -> Bool { tensors[name] != nil }

  /// A tensor by name and expected shape.
  package func tensor(_ name: String, shape: [Int]) throws(CheckpointError) -> Tensor {
    guard let entry = tensors[name] else { throw .missingTensor(name: name, directory: directory) }
    let tensor = try entry.file.tensor(entry.storedName)
    guard tensor.shape == shape else {
      throw .shapeMismatch(name: entry.storedName, expected: shape, found: tensor.shape, file: entry.file.path)
    }
    read.insert(name)
    return tensor
  }

  /// A view of the tensors whose names begin with `prefix` and a dot.
  package func scope(_ prefix: String) -> CheckpointScope { CheckpointScope(checkpoint: self, prefix: prefix + ".") }

  /// Tensors that nobody asked for, but for buffers that every model computes for itself.
  package var unreadNames: [String] {
    tensors.keys.filter { !read.contains($0) && !ParameterNames.isComputedBuffer($0) }.sorted()
  }

  private func add(_ storedName: String, of file: SafetensorsFile) throws(CheckpointError) {
    let name = ParameterNames.canonical(storedName)
    guard tensors.updateValue((file, storedName), forKey: name) == nil else {
      throw .duplicateTensor(name: name, file: file.path)
    }
  }

  private func addShards(of index: String) throws(CheckpointError) {
    struct Index: Decodable { var weight_map: [String: String] }
    let map = try JSONFile.read(Index.self, at: index).weight_map
    var files: [String: SafetensorsFile] = [:]
    for (name, fileName) in map.sorted(by: { $0.key < $1.key }) {
      // Bytes, not characters: a slash with a combining accent is another character, but still a slash to the system.
      guard !fileName.utf8.contains(where: { $0 == UInt8(ascii: "/") || $0 == 0 }), fileName != "..", !fileName.isEmpty
      else {
        throw .badValue(file: index, key: "weight_map.\(name)", expected: "a file name", found: "'\(fileName)'")
      }
      let path = directory + "/" + fileName
      let file: SafetensorsFile
      if let known = files[path] { file = known } else { file = try SafetensorsFile(path) }
      files[path] = file
      guard file.records[name] != nil else { throw .missingTensor(name: name, directory: path) }
      try add(name, of: file)
    }
  }
}

/// A dotted prefix of parameter names, walked like a directory.
package struct CheckpointScope {
  private let checkpoint: Checkpoint
  private let prefix: String

  init(checkpoint: Checkpoint, prefix: String) {
    self.checkpoint = checkpoint
    self.prefix = prefix
  }

  /// The scope one name further down.
  package func scope(_ name: String) -> CheckpointScope {
    CheckpointScope(checkpoint: checkpoint, prefix: prefix + name + ".")
  }

  /// A stored tensor of the expected shape.
  package func tensor(_ name: String, shape: [Int]) throws(CheckpointError) -> Tensor {
    try checkpoint.tensor(prefix + name, shape: shape)
  }

  /// A small tensor as floats: a norm's gain, a bias.
  package func vector(_ name: String, count: Int) throws(CheckpointError) -> [Float] {
    try tensor(name, shape: [count]).floats()
  }

  /// A linear layer, with its bias if it has one.
  package func linear(_ name: String, inputs: Int, outputs: Int, bias: Bool = false) throws(CheckpointError) -> Linear {
    let layer = scope(name)
    return Linear(
      weight: try layer.tensor("weight", shape: [outputs, inputs]),
      bias: bias ? try layer.vector("bias", count: outputs) : nil)
  }
}
