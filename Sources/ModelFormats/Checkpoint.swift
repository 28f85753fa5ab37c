import Foundation
package import Kernels
import Storage

/// The weights of a model by canonical name, from a single file, shards or a synthetic source.
///
/// Reads are tracked, so that unused tensors can be reported.
package final class Checkpoint {
  package let directory: String
  private(set) var tensors: [String: (file: any WeightFile, storedName: String)] = [:]
  /// Remarks about the files and about the tensors that were read.
  package private(set) var notes: [LoadNote] = []
  private var read: Set<String> = []
  private let synthetic: SyntheticWeights?
  /// The linear layers that the layers of a synthetic model share, by name.
  private var sharedLinears: [String: Linear] = [:]
  private var naming = ParameterNames.Naming.canonical
  /// The pair of GGUF files that the tensors come from; `nil` for other files.
  private var gguf: GGUFWeights?

  /// Opens the weight files of a directory.
  ///
  /// - Throws: `CheckpointError` if there are no weights, a file is damaged, or the weights are quantized or have an
  ///   adapter that is not merged.
  package init(directory: String) throws(CheckpointError) {
    self.directory = directory
    synthetic = nil
    let weights = try WeightFiles(directory: directory)
    notes = weights.notes
    let wrapper = ParameterNames.wrapper(of: weights.tensors.map(\.name))
    if !wrapper.isEmpty { notes.append(.removedPrefix(wrapper)) }
    for (storedName, file) in weights.tensors {
      try ForeignTensors.refuse(storedName, file: file.path)
      let name = ParameterNames.canonical(String(storedName.dropFirst(wrapper.count)))
      guard tensors.updateValue((file, storedName), forKey: name) == nil else {
        throw .duplicateTensor(name: name, file: file.path)
      }
    }
    naming = ParameterNames.naming(of: weights.tensors.lazy.map { String($0.name.dropFirst(wrapper.count)) })
  }

  /// The tensors of a pair of GGUF files.
  package init(_ gguf: GGUFWeights) throws(CheckpointError) {
    directory = gguf.model.path
    synthetic = nil
    self.gguf = gguf
    for (name, file, storedName) in gguf.tensors {
      guard tensors.updateValue((file, storedName), forKey: name) == nil else {
        throw .duplicateTensor(name: storedName, file: file.path)
      }
    }
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

  /// Gives the pages of all mapped files back to the system, those that were only read to check or convert them.
  package func releasePages() {
    var released: Set<String> = []
    for (file, _) in tensors.values where released.insert(file.path).inserted {
      file.storage.releasePages(0..<file.storage.count)
    }
  }

  /// Whether a tensor exists.
  package func contains(_ name: String) -> Bool { tensors[name] != nil }

  /// The tensor of a name.
  ///
  /// - Throws: `CheckpointError` if it is missing or has another shape.
  package func tensor(_ name: String, shape: [Int]) throws(CheckpointError) -> Tensor {
    let (tensor, rows) = try storedTensor(name, shape: shape)
    guard let rows else { return tensor }
    defer { tensor.releasePages() }
    return tensor.reordered(rows: rows)
  }

  /// The tensor of a name as it is in the file, and the row of the file that is each of its rows; `nil` for the same.
  ///
  /// - Throws: `CheckpointError` if it is missing or has another shape.
  func storedTensor(_ name: String, shape: [Int]) throws(CheckpointError) -> (tensor: Tensor, rows: [Int]?) {
    if let synthetic { return (synthetic.tensor(name, shape: shape), nil) }
    guard let entry = tensors[name] else { throw missing(name) }
    let tensor = try entry.file.tensor(entry.storedName)
    guard tensor.shape == shape else {
      throw .shapeMismatch(name: entry.storedName, expected: shape, found: tensor.shape, file: entry.file.path)
    }
    read.insert(name)
    return (tensor, gguf?.interleavedRows?.sources(name, count: tensor.rows))
  }

  /// The weight of a convolution, `[outputs, channels, side, side]`; a weight with channels last is turned.
  func convolutionWeight(_ name: String, channels: Int, side: Int, outputs: Int) throws(CheckpointError) -> Tensor {
    let turned = [outputs, side, side, channels]
    guard side != channels, let entry = tensors[name], entry.file.records[entry.storedName]?.shape == turned else {
      return try tensor(name, shape: [outputs, channels, side, side])
    }
    let stored = try tensor(name, shape: turned)
    notes.append(.channelsLast(tensor: entry.storedName))
    guard let width = stored.element?.byteCount else {
      throw .unsupportedElement(name: entry.storedName, found: stored.type.name, file: entry.file.path)
    }
    let source = stored.storedBytes.copy(0..<stored.count * width)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(source.count)
    for output in 0..<outputs {
      for channel in 0..<channels {
        for place in 0..<side * side {
          let start = ((output * side * side + place) * channels + channel) * width
          bytes += source[start..<start + width]
        }
      }
    }
    return Tensor(SharedBytes(copying: bytes), shape: [outputs, channels, side, side], type: stored.type)
  }

  /// The error that a tensor is missing, by its name in the layout of this checkpoint.
  private func missing(_ name: String) -> CheckpointError {
    if let gguf { return gguf.missing(name) }
    let storedName = ParameterNames.stored(name, naming)
    let projector = "mm_projector.bin"
    if name.hasPrefix("multi_modal_projector."), FileManager.default.fileExists(atPath: directory + "/" + projector) {
      return .projectorApart(tensor: storedName, directory: directory, file: projector)
    }
    return .missingTensor(name: storedName, directory: directory)
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

  /// The compute type of the linear layers in the scope.
  package var computeType: ComputeType { conversion.computeType }

  /// A linear layer with a weight of `[outputs, inputs]`, converted to the compute type of the scope.
  ///
  /// - Parameter columnFactors: What the columns of the weight are multiplied by before, `[inputs]`; `nil` for 1.
  package func linear(
    _ name: String, inputs: Int, outputs: Int, bias: Bool = false, columnFactors: [Float]? = nil
  ) throws(CheckpointError) -> Linear {
    let layer = scope(name)
    return try checkpoint.linear(prefix + name) { () throws(CheckpointError) -> Linear in
      let name = layer.prefix + "weight"
      let (weight, rows) = try checkpoint.storedTensor(name, shape: [outputs, inputs])
      let stored = Linear(weight: weight, bias: bias ? try layer.vector("bias", count: outputs) : nil)
      return conversion(stored, named: name, rows: rows, columnFactors: columnFactors)
    }
  }

  /// A convolution with stride `side`, as a linear layer over the `channels · side · side` values of a patch.
  package func convolution(
    _ name: String, channels: Int, side: Int, outputs: Int, bias: Bool = false
  ) throws(CheckpointError) -> Linear {
    let layer = scope(name)
    let weight = try checkpoint.convolutionWeight(
      layer.prefix + "weight", channels: channels, side: side, outputs: outputs)
    let stored = Linear(weight: weight, bias: bias ? try layer.vector("bias", count: outputs) : nil)
    return conversion(stored, named: layer.prefix + "weight")
  }
}

/// The conversion of linear layers to a compute type at load time, with an optional cache.
package struct LinearConversion {
  package let computeType: ComputeType
  /// The type of block that floats are quantized to, for blocks.
  package let blockType: BlockType
  package let workers: Workers
  /// The cache of converted weights; `nil` to convert at every load.
  private let cache: WeightsCache?

  /// No conversion: layers stay as stored, for matmuls in f32.
  package static var none: LinearConversion { LinearConversion(to: .f32, workers: Workers(count: 1)) }

  /// - Parameters:
  ///   - computeType: The compute type of the converted layers.
  ///   - blockType: The type of block that floats are quantized to, for blocks.
  ///   - workers: The threads that convert the rows of a layer.
  ///   - cache: The cache of converted weights, if any.
  package init(
    to computeType: ComputeType, blockType: BlockType = .q4K, workers: Workers, cache: WeightsCache? = nil
  ) {
    self.computeType = computeType
    self.blockType = blockType
    self.workers = workers
    self.cache = cache
  }

  /// The layer converted to the compute type.
  ///
  /// - Parameters:
  ///   - name: The unique name of its weight.
  ///   - rows: The stored row that is each row of the weight; `nil` for the stored order.
  ///   - columnFactors: What the columns of the weight are multiplied by; `nil` for 1.
  package func callAsFunction(
    _ stored: Linear, named name: String, rows: [Int]? = nil, columnFactors: [Float]? = nil
  ) -> Linear {
    func convert() -> Linear {
      let ordered = rows.map(stored.reordered) ?? stored
      let scaled = columnFactors.map { ordered.multiplied(columns: $0, workers: workers) } ?? ordered
      return scaled.converted(to: computeType, blockType: blockType, workers: workers)
    }
    guard let cache, stored.needsConversion(to: computeType) else { return convert() }
    return cache.weight(of: stored, named: name, for: computeType, orElse: convert)
  }
}
