package import Kernels

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
