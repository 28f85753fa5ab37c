import CKernels
package import Storage

/// An int8 weight, `[outputs, inputs]`, with values in -127...127 and one scale per output: weight = scale · value.
package struct Int8Weights: Sendable {
  package let outputs: Int
  package let inputs: Int
  /// Quantized values, `[outputs, inputs]`, row-major: one copy for matmuls of any number of rows.
  package let numbers: SharedBytes
  /// Scales as f32, `[outputs]`.
  package let scales: SharedBytes
  /// The sum of each row's values as int32, `[outputs]`; removes the zero point 128 of the activations.
  package let sums: SharedBytes

  /// The maximum number of inputs. Longer rows could overflow 32-bit sums: 255 · 128 · inputs must stay below 2^31.
  /// The factor 128 allows for a value of -128 in a file.
  package static let maxInputCount = 65_536

  /// The quantization scheme and its version, for files of quantized weights. Increment the version when the result of
  /// `init(quantizing:workers:)` changes.
  package static let scheme = "symmetric s8 per output, 1"

  /// Quantizes a stored weight, in parallel.
  ///
  /// The scale of a row is its largest magnitude / 127. The error of a weight is at most half of its row's scale.
  ///
  /// - Precondition: `tensor` has at most `maxInputCount` columns.
  package init(quantizing tensor: Tensor, workers: Workers) {
    let (outputs, inputs) = (tensor.rows, tensor.columns)
    precondition(inputs <= Self.maxInputCount, "Int8Weights: \(inputs) inputs, at most \(Self.maxInputCount)")
    self.outputs = outputs
    self.inputs = inputs
    let scales = UnsafeMutablePointer<Float>.allocate(capacity: max(outputs, 1))
    let sums = UnsafeMutablePointer<Int32>.allocate(capacity: max(outputs, 1))
    defer {
      unsafe scales.deallocate()
      unsafe sums.deallocate()
    }
    numbers = unsafe SharedBytes(count: outputs * inputs) { numbers in
      unsafe tensor.forEachRow(workers: workers) { row, values in
        let target = unsafe (numbers + row * inputs).assumingMemoryBound(to: Int8.self)
        unsafe scales[row] = pdrop_quantize_s8(values, inputs, target, sums + row)
      }
    }
    self.scales = unsafe SharedBytes(copying: Array(UnsafeBufferPointer(start: scales, count: outputs)))
    self.sums = unsafe SharedBytes(copying: Array(UnsafeBufferPointer(start: sums, count: outputs)))
  }

  /// A weight that is already quantized; the values are not checked.
  ///
  /// - Precondition: The byte counts match the shape, there are at most `maxInputCount` inputs, and scales and sums
  ///   are 4-byte aligned.
  package init(outputs: Int, inputs: Int, numbers: SharedBytes, scales: SharedBytes, sums: SharedBytes) {
    precondition(inputs <= Self.maxInputCount, "Int8Weights: \(inputs) inputs, at most \(Self.maxInputCount)")
    precondition(
      numbers.count == outputs * inputs && scales.count == 4 * outputs && sums.count == 4 * outputs,
      "Int8Weights: \(outputs)×\(inputs) from \(numbers.count), \(scales.count) and \(sums.count) bytes")
    for words in [scales, sums] {
      precondition(
        Int(bitPattern: unsafe words.address(of: 0)).isMultiple(of: 4), "Int8Weights: unaligned scales or sums")
    }
    self.outputs = outputs
    self.inputs = inputs
    self.numbers = numbers
    self.scales = scales
    self.sums = sums
  }

  /// Bytes of values, scales and sums.
  package var byteCount: Int { numbers.count + scales.count + sums.count }

  /// The dequantized weight, `[outputs, inputs]`, row-major.
  package func floats() -> [Float] {
    let (base, scale) = unsafe (numbers.address(of: 0), scales.address(of: 0))
    return (0..<outputs * inputs).map { i in
      unsafe scale.load(fromByteOffset: i / inputs * 4, as: Float.self)
        * Float(base.load(fromByteOffset: i, as: Int8.self))
    }
  }
}
