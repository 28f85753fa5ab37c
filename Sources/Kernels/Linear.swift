import Storage

/// A linear layer, `y = x · weightᵀ + bias`, with its weight in the form of its compute type.
package struct Linear: Sendable {
  /// The weight, `[outputs, inputs]`.
  package enum Weight: Sendable {
    /// As stored, for matmuls in f32; widened on use.
    case native(Tensor)
    /// bf16, for matmuls in bf16.
    case bf16(Tensor)
    /// int8 with scales, for matmuls in int8.
    case int8(Int8Weights)
    /// Packed blocks, for matmuls over blocks.
    case blocks(BlockWeights)
  }

  package let weight: Weight
  /// `[outputs]`.
  package let bias: [Float]?
  package let inputSize: Int
  package let outputSize: Int

  /// A layer with a weight as stored, computed in f32.
  ///
  /// - Precondition: `bias` has one value per row of `weight`.
  package init(weight: Tensor, bias: [Float]? = nil) {
    precondition(bias?.count ?? weight.rows == weight.rows, "Linear: weight \(weight.shape), bias \(bias?.count ?? 0)")
    self.init(.native(weight), bias: bias, inputSize: weight.columns, outputSize: weight.rows)
  }

  private init(_ weight: Weight, bias: [Float]?, inputSize: Int, outputSize: Int) {
    self.weight = weight
    self.bias = bias
    self.inputSize = inputSize
    self.outputSize = outputSize
  }

  /// The compute type of the layer's matmuls.
  package var computeType: ComputeType {
    switch weight {
    case .native: .f32
    case .bf16: .bf16
    case .int8: .int8
    case .blocks: .blocks
    }
  }

  /// Whether the matmuls of two layers convert their input in the same way, so that it can be converted once for both.
  func sharesInput(with other: Linear) -> Bool {
    if case .blocks(let a) = weight, case .blocks(let b) = other.weight {
      return a.type.valuesPerBlock == b.type.valuesPerBlock
    }
    return computeType == other.computeType
  }

  /// Bytes of the weight in its current form.
  package var weightByteCount: Int {
    switch weight {
    case .native(let tensor), .bf16(let tensor): tensor.byteCount
    case .int8(let weights): weights.byteCount
    case .blocks(let weights): weights.byteCount
    }
  }

  /// The address of the weight, equal for layers that share a weight.
  package var weightAddress: UInt {
    switch weight {
    case .native(let tensor), .bf16(let tensor): UInt(bitPattern: unsafe tensor.storedBytes.address(of: 0))
    case .int8(let weights): UInt(bitPattern: unsafe weights.numbers.address(of: 0))
    case .blocks(let weights): UInt(bitPattern: unsafe weights.groups.address(of: 0))
    }
  }

  /// The same layer for another compute type; the weight is converted once, in parallel.
  ///
  /// A weight stored as bf16 is not copied for f32 and bf16; one stored as f16 is rounded for bf16. For int8, a weight
  /// with more than `Int8Weights.maxInputCount` inputs is left as stored. For blocks, so is one with rows that are not
  /// whole blocks. Afterwards the pages of a mapped file are given back.
  ///
  /// - Precondition: The weight is as stored, or already has the compute type.
  /// - Parameters:
  ///   - computeType: The compute type of the result.
  ///   - blockType: The type of block that floats are quantized to, for blocks.
  ///   - workers: The threads that convert the weight.
  package func converted(
    to computeType: ComputeType, blockType: BlockType = .q4K, workers: Workers
  ) -> Linear {
    guard case .native(let tensor) = weight else {
      precondition(computeType == self.computeType, "Linear: \(self.computeType) cannot become \(computeType)")
      return self
    }
    guard needsConversion(to: computeType) else {
      return computeType == .bf16 ? with(.bf16(tensor)) : self
    }
    defer { tensor.releasePages() }
    switch computeType {
    case .f32: return self
    case .bf16: return with(.bf16(tensor.rounded(workers: workers)))
    case .int8: return with(.int8(Int8Weights(quantizing: tensor, workers: workers)))
    case .blocks: return with(.blocks(BlockWeights(packing: tensor, as: blockType, workers: workers)))
    }
  }

  /// The same layer with the rows of its weight in another order, as a copy; the pages of a mapped file are given back.
  ///
  /// - Precondition: The weight is as stored.
  /// - Parameter source: The stored row that is each row of the result, once each. The bias has their order already.
  package func reordered(rows source: [Int]) -> Linear {
    guard case .native(let tensor) = weight else { preconditionFailure("Linear: rows of \(computeType) in order") }
    defer { tensor.releasePages() }
    return with(.native(tensor.reordered(rows: source)))
  }

  /// The same layer with the columns of its weight multiplied by factors, `[inputs]`, as a copy in f32; the pages of a
  /// mapped file are given back.
  ///
  /// - Precondition: The weight is as stored.
  package func multiplied(columns factors: [Float], workers: Workers) -> Linear {
    guard case .native(let tensor) = weight else { preconditionFailure("Linear: columns of \(computeType)") }
    defer { tensor.releasePages() }
    return with(.native(tensor.multiplied(columns: factors, workers: workers)))
  }

  /// Whether matmuls in a compute type need the weight in another form.
  package func needsConversion(to computeType: ComputeType) -> Bool {
    guard case .native(let tensor) = weight else { return false }
    switch computeType {
    case .f32: return false
    case .bf16: return !tensor.isAlignedBF16
    case .int8: return inputSize <= Int8Weights.maxInputCount
    case .blocks: return BlockWeights.supports(inputs: inputSize)
    }
  }

  /// The same layer with its weight in another form.
  ///
  /// - Precondition: `weight` is `[outputSize, inputSize]`.
  package func with(_ weight: Weight) -> Linear {
    let (rows, columns) =
      switch weight {
      case .native(let tensor), .bf16(let tensor): (tensor.rows, tensor.columns)
      case .int8(let weights): (weights.outputs, weights.inputs)
      case .blocks(let weights): (weights.outputs, weights.inputs)
      }
    precondition(
      rows == outputSize && columns == inputSize, "Linear: \(rows)×\(columns) for \(outputSize)×\(inputSize)")
    return Linear(weight, bias: bias, inputSize: inputSize, outputSize: outputSize)
  }
}
