import Foundation
package import Kernels

/// The weights of a model directory, single file or shards, by one spelling of names; or weights made up as they are asked for.
///
/// Knows which tensors have been asked for, so that those nobody asked for can be named.
package final class Checkpoint {
  package let directory: String
  private(set) var tensors: [String: (file: any WeightFile, storedName: String)] = [:]
  private var read: Set<String> = []
  private let synthetic: SyntheticWeights?
  /// Linear layers that several layers of a synthetic model share, by name.
  private var sharedLinears: [String: Linear] = [:]

  /// The kinds of files that weights come in, the preferred one first; shards are listed in a file with `.index.json` added.
  private static let kinds: [(name: String, type: any WeightFile.Type)] = [
    ("model.safetensors", SafetensorsFile.self), ("pytorch_model.bin", TorchArchive.self),
  ]

  /// Where weights are looked for, in order.
  static let fileNames = kinds.flatMap { [$0.name, $0.name + ".index.json"] }

  /// Opens `model.safetensors`, the shards that `model.safetensors.index.json` lists, or PyTorch's files.
  ///
  /// - Throws: `CheckpointError` when there are no weights or a file is damaged.
  package init(directory: String) throws(CheckpointError) {
    self.directory = directory
    synthetic = nil
    for (name, type) in Self.kinds {
      let single = directory + "/" + name
      let index = single + ".index.json"
      if FileManager.default.fileExists(atPath: single) {
        let file = try type.init(single)
        for name in file.records.keys { try add(name, of: file) }
        return
      } else if FileManager.default.fileExists(atPath: index) {
        try addShards(of: index, type)
        return
      }
    }
    let others = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
    throw .noWeights(
      directory: directory, found: others.filter { $0.hasSuffix(".bin") || $0.hasSuffix(".gguf") }.sorted())
  }

  /// Weights that no file has: whatever tensor is asked for, there is one.
  package init(_ synthetic: SyntheticWeights) {
    directory = ""
    self.synthetic = synthetic
  }

  /// Bytes of all stored tensors; tensors that share their bytes count each.
  package var byteCount: Int {
    tensors.values.reduce(0) { $0 + ($1.file.records[$1.storedName]?.bytes.count ?? 0) }
  }

  /// Whether there is a tensor of this name.
  package func contains(_ name: String) -> Bool { tensors[name] != nil }

  /// A tensor by name and expected shape.
  package func tensor(_ name: String, shape: [Int]) throws(CheckpointError) -> Tensor {
    if let synthetic { return synthetic.tensor(name, shape: shape) }
    guard let entry = tensors[name] else { throw .missingTensor(name: name, directory: directory) }
    let tensor = try entry.file.tensor(entry.storedName)
    guard tensor.shape == shape else {
      throw .shapeMismatch(name: entry.storedName, expected: shape, found: tensor.shape, file: entry.file.path)
    }
    read.insert(name)
    return tensor
  }

  /// What `make` makes of the tensors of a linear layer, once for all layers that share them.
  func linear(_ name: String, _ make: () throws(CheckpointError) -> Linear) throws(CheckpointError) -> Linear {
    guard let key = synthetic?.sharedName(name) else { return try make() }
    if let known = sharedLinears[key] { return known }
    let linear = try make()
    sharedLinears[key] = linear
    return linear
  }

  /// A view of the tensors whose names begin with `prefix` and a dot.
  ///
  /// - Parameter conversion: What becomes of the linear layers in it.
  package func scope(_ prefix: String, _ conversion: LinearConversion = .none) -> CheckpointScope {
    CheckpointScope(checkpoint: self, prefix: prefix + ".", conversion: conversion)
  }

  /// Tensors that nobody asked for, but for buffers that every model computes for itself.
  package var unreadNames: [String] {
    tensors.keys.filter { !read.contains($0) && !ParameterNames.isComputedBuffer($0) }.sorted()
  }

  private func add(_ storedName: String, of file: any WeightFile) throws(CheckpointError) {
    let name = ParameterNames.canonical(storedName)
    guard tensors.updateValue((file, storedName), forKey: name) == nil else {
      throw .duplicateTensor(name: name, file: file.path)
    }
  }

  private func addShards(of index: String, _ type: any WeightFile.Type) throws(CheckpointError) {
    struct Index: Decodable { var weight_map: [String: String] }
    let map = try JSONFile.read(Index.self, at: index).weight_map
    var files: [String: any WeightFile] = [:]
    for (name, fileName) in map.sorted(by: { $0.key < $1.key }) {
      // Bytes, not characters: a slash with a combining accent is another character, but still a slash to the system.
      guard !fileName.utf8.contains(where: { $0 == UInt8(ascii: "/") || $0 == 0 }), fileName != "..", !fileName.isEmpty
      else {
        throw .badValue(file: index, key: "weight_map.\(name)", expected: "a file name", found: "'\(fileName)'")
      }
      let path = directory + "/" + fileName
      let file: any WeightFile
      if let known = files[path] { file = known } else { file = try type.init(path) }
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
  private let conversion: LinearConversion

  init(checkpoint: Checkpoint, prefix: String, conversion: LinearConversion) {
    self.checkpoint = checkpoint
    self.prefix = prefix
    self.conversion = conversion
  }

  /// The scope one name further down.
  package func scope(_ name: String) -> CheckpointScope {
    CheckpointScope(checkpoint: checkpoint, prefix: prefix + name + ".", conversion: conversion)
  }

  /// A stored tensor of the expected shape.
  package func tensor(_ name: String, shape: [Int]) throws(CheckpointError) -> Tensor {
    try checkpoint.tensor(prefix + name, shape: shape)
  }

  /// A small tensor as floats: a norm's gain, a bias.
  package func vector(_ name: String, count: Int) throws(CheckpointError) -> [Float] {
    try tensor(name, shape: [count]).floats()
  }

  /// A linear layer, with its bias if it has one, for products in the scope's arithmetic.
  package func linear(_ name: String, inputs: Int, outputs: Int, bias: Bool = false) throws(CheckpointError) -> Linear {
    let layer = scope(name)
    return try checkpoint.linear(prefix + name) { () throws(CheckpointError) -> Linear in
      let stored = Linear(
        weight: try layer.tensor("weight", shape: [outputs, inputs]),
        bias: bias ? try layer.vector("bias", count: outputs) : nil)
      return conversion(stored, named: layer.prefix + "weight")
    }
  }

  /// A convolution whose stride is its width, as a linear layer over a patch's `channels · side · side` numbers.
  package func convolution(_ name: String, channels: Int, side: Int, outputs: Int) throws(CheckpointError) -> Linear {
    let layer = scope(name)
    let weight = try layer.tensor("weight", shape: [outputs, channels, side, side])
    return conversion(Linear(weight: weight), named: layer.prefix + "weight")
  }
}

/// What becomes of linear layers as they are loaded.
package struct LinearConversion {
  package let computeType: ComputeType
  package let workers: Workers
  /// Keeps converted weights for later; `nil` to convert them at every load.
  private let cache: WeightsCache?

  /// Layers stay as stored, for products in f32.
  package static var none: LinearConversion { LinearConversion(to: .f32, workers: Workers(count: 1)) }

  /// - Parameter workers: Convert a layer's rows in parallel.
  package init(to computeType: ComputeType, workers: Workers, cache: WeightsCache? = nil) {
    self.computeType = computeType
    self.workers = workers
    self.cache = cache
  }

  /// The layer for products in this arithmetic.
  ///
  /// - Parameter name: Its weight's, which no other layer has.
  package func callAsFunction(_ stored: Linear, named name: String) -> Linear {
    guard let cache, stored.needsConversion(to: computeType) else {
      return stored.converted(to: computeType, workers: workers)
    }
    return cache.converted(stored, named: name, to: computeType)
  }
}
