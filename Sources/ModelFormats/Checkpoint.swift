import Foundation
package import Kernels

/// The weights of a model by canonical name, from a single file, shards or a synthetic source.
///
/// Reads are tracked, so that unused tensors can be reported.
package final class Checkpoint {
  package let directory: String
  private(set) var tensors: [String: (file: any WeightFile, storedName: String)] = [:]
  private var read: Set<String> = []
  private let synthetic: SyntheticWeights?
  /// The linear layers that the layers of a synthetic model share, by name.
  private var sharedLinears: [String: Linear] = [:]

  /// The supported weight files in order of preference; an index of shards has the same name plus `.index.json`.
  private static let kinds: [(name: String, type: any WeightFile.Type)] = [
    ("model.safetensors", SafetensorsFile.self), ("pytorch_model.bin", TorchArchive.self),
  ]

  /// The names of weight files, in search order.
  static let fileNames = kinds.flatMap { [$0.name, $0.name + ".index.json"] }

  /// Opens `model.safetensors`, the shards of `model.safetensors.index.json`, or PyTorch's files.
  ///
  /// - Throws: `CheckpointError` if there are no weights or a file is damaged.
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

  /// A checkpoint of synthetic weights, which has every tensor in every shape.
  package init(_ synthetic: SyntheticWeights) {
    directory = ""
    self.synthetic = synthetic
  }

  /// The size of all stored tensors in bytes; shared bytes count once for each tensor.
  package var byteCount: Int {
    tensors.values.reduce(0) { $0 + ($1.file.records[$1.storedName]?.bytes.count ?? 0) }
  }

  /// Whether a tensor exists.
  package func contains(_ name: String) -> Bool { tensors[name] != nil }

  /// The tensor of a name.
  ///
  /// - Throws: `CheckpointError` if it is missing or has another shape.
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

  /// The linear layer that `make` creates, called once for all layers that share its tensors.
  func linear(_ name: String, _ make: () throws(CheckpointError) -> Linear) throws(CheckpointError) -> Linear {
    guard let key = synthetic?.sharedName(name) else { return try make() }
    if let cached = sharedLinears[key] { return cached }
    let linear = try make()
    sharedLinears[key] = linear
    return linear
  }

  /// The tensors whose names begin with `prefix` and a dot.
  ///
  /// - Parameter conversion: The conversion of linear layers in the scope.
  package func scope(_ prefix: String, _ conversion: LinearConversion = .none) -> CheckpointScope {
    CheckpointScope(checkpoint: self, prefix: prefix + ".", conversion: conversion)
  }

  /// The names of tensors that were never read, without buffers that models compute.
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
      // Checked by bytes: a slash with a combining accent is another character, but still a slash in a path.
      guard !fileName.utf8.contains(where: { $0 == UInt8(ascii: "/") || $0 == 0 }), fileName != "..", !fileName.isEmpty
      else {
        throw .badValue(file: index, key: "weight_map.\(name)", expected: "a file name", found: "'\(fileName)'")
      }
      let path = directory + "/" + fileName
      let file: any WeightFile
      if let open = files[path] { file = open } else { file = try type.init(path) }
      files[path] = file
      guard file.records[name] != nil else { throw .missingTensor(name: name, directory: path) }
      try add(name, of: file)
    }
  }
}

/// The tensors below a dotted prefix of parameter names.
package struct CheckpointScope {
  private let checkpoint: Checkpoint
  private let prefix: String
  private let conversion: LinearConversion

  init(checkpoint: Checkpoint, prefix: String, conversion: LinearConversion) {
    self.checkpoint = checkpoint
    self.prefix = prefix
    self.conversion = conversion
  }

  /// The scope of a name within this one.
  package func scope(_ name: String) -> CheckpointScope {
    CheckpointScope(checkpoint: checkpoint, prefix: prefix + name + ".", conversion: conversion)
  }

  /// A stored tensor of the expected shape.
  package func tensor(_ name: String, shape: [Int]) throws(CheckpointError) -> Tensor {
    try checkpoint.tensor(prefix + name, shape: shape)
  }

  /// A vector as floats, `[count]`: a norm weight or a bias.
  package func vector(_ name: String, count: Int) throws(CheckpointError) -> [Float] {
    try tensor(name, shape: [count]).floats()
  }

  /// A linear layer with a weight of `[outputs, inputs]`, converted to the compute type of the scope.
  package func linear(_ name: String, inputs: Int, outputs: Int, bias: Bool = false) throws(CheckpointError) -> Linear {
    let layer = scope(name)
    return try checkpoint.linear(prefix + name) { () throws(CheckpointError) -> Linear in
      let stored = Linear(
        weight: try layer.tensor("weight", shape: [outputs, inputs]),
        bias: bias ? try layer.vector("bias", count: outputs) : nil)
      return conversion(stored, named: layer.prefix + "weight")
    }
  }

  /// A convolution with stride `side`, as a linear layer over the `channels · side · side` values of a patch.
  package func convolution(_ name: String, channels: Int, side: Int, outputs: Int) throws(CheckpointError) -> Linear {
    let layer = scope(name)
    let weight = try layer.tensor("weight", shape: [outputs, channels, side, side])
    return conversion(Linear(weight: weight), named: layer.prefix + "weight")
  }
}

/// The conversion of linear layers to a compute type at load time, with an optional cache.
package struct LinearConversion {
  package let computeType: ComputeType
  package let workers: Workers
  /// The cache of converted weights; `nil` to convert at every load.
  private let cache: WeightsCache?

  /// No conversion: layers stay as stored, for matmuls in f32.
  package static var none: LinearConversion { LinearConversion(to: .f32, workers: Workers(count: 1)) }

  /// - Parameters:
  ///   - computeType: The compute type of the converted layers.
  ///   - workers: The threads that convert the rows of a layer.
  ///   - cache: The cache of converted weights, if any.
  package init(to computeType: ComputeType, workers: Workers, cache: WeightsCache? = nil) {
    self.computeType = computeType
    self.workers = workers
    self.cache = cache
  }

  /// The layer converted to the compute type.
  ///
  /// - Parameter name: The unique name of its weight.
  package func callAsFunction(_ stored: Linear, named name: String) -> Linear {
    guard let cache, stored.needsConversion(to: computeType) else {
      return stored.converted(to: computeType, workers: workers)
    }
    return cache.converted(stored, named: name, to: computeType)
  }
}
