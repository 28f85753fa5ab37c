import Storage

/// A linear layer, `y = x · weightᵀ + bias`, over weights in any of the forms that products take.
package struct Linear: Sendable {
  /// `[outputs, inputs]`.
  package enum Weight: Sendable {
    /// For products in f32: as stored, widened where it is used.
    case native(Tensor)
    /// For products in bf16.
    case bf16(Tensor)
    /// For products in integers.
    case int8(Int8Weights)
  }

  package let weight: Weight
  /// `[outputs]`.
  package let bias: [Float]?
  package let inputSize: Int
  package let outputSize: Int

  /// A layer over a weight as stored, computed in f32.
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

  /// What products with the layer are computed in.
  package var computeType: ComputeType {
    switch weight {
    case .native: .f32
    case .bf16: .bf16
    case .int8: .int8
    }
  }

  /// Bytes of the weight, as it is kept.
  package var weightByteCount: Int {
    switch weight {
    case .native(let tensor), .bf16(let tensor): tensor.count * tensor.element.byteCount
    case .int8(let weights): weights.byteCount
    }
  }

  /// Where the weight begins in memory: layers that share one have it in common.
  package var weightAddress: UInt {
    switch weight {
    case .native(let tensor), .bf16(let tensor): UInt(bitPattern: unsafe tensor.storedBytes.address(of: 0))
    case .int8(let weights): UInt(bitPattern: unsafe weights.numbers.address(of: 0))
    }
  }

  /// The same layer for products in another arithmetic; its weight is converted once, in parallel.
  ///
  /// A weight stored in bf16 stays where it is for f32 and bf16, one in f16 is rounded. Rows too long for sums of whole
  /// numbers stay as they are.
  ///
  /// - Precondition: The layer is still as it was stored, or is asked to stay what it is.
  package func converted(to computeType: ComputeType, workers: Workers) -> Linear {
    guard case .native(let tensor) = weight else {
      precondition(computeType == self.computeType, "Linear: \(self.computeType) cannot become \(computeType)")
      return self
    }
    switch computeType {
    case .f32: return self
    case .bf16: return with(.bf16(tensor.rounded(workers: workers)))
    case .int8:
      guard inputSize <= Int8Weights.largestInputCount else { return self }
      return with(.int8(Int8Weights(quantizing: tensor, workers: workers)))
    }
  }

  /// Whether products in an arithmetic need the weight in another form than it has.
  package func needsConversion(to computeType: ComputeType) -> Bool {
    guard case .native(let tensor) = weight else { return false }
    switch computeType {
    case .f32: return false
    case .bf16: return !tensor.isAlignedBF16
    case .int8: return inputSize <= Int8Weights.largestInputCount
    }
  }

  /// The same layer over its weight in another form.
  ///
  /// - Precondition: The weight has the layer's sizes.
  package func with(_ weight: Weight) -> Linear {
    let (rows, columns) =
      switch weight {
      case .native(let tensor), .bf16(let tensor): (tensor.rows, tensor.columns)
      case .int8(let weights): (weights.outputs, weights.inputs)
      }
    precondition(
      rows == outputSize && columns == inputSize, "Linear: \(rows)×\(columns) for \(outputSize)×\(inputSize)")
    return Linear(weight, bias: bias, inputSize: inputSize, outputSize: outputSize)
  }
}
