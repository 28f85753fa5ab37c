internal import CQuantKernels

/// A weight `[outputs, inputs]` in whole numbers of -127 to 127 and one scale per output: value = scale · number.
package struct Int8Weights: Sendable {
  package let outputs: Int
  package let inputs: Int
  /// `[outputs, inputs]`, row-major: one copy serves products of one row and of many.
  let numbers: SharedBytes
  /// `[outputs]` floats.
  let scales: SharedBytes
  /// `[outputs]` 32-bit sums of each row's numbers, for inputs that are stored with 128 added.
  let sums: SharedBytes

  /// Longer rows could overflow sums of 32 bits: 255 · 127 · inputs must stay below 2^31.
  package static let largestInputCount = 66_000

  /// Quantises a stored weight, in parallel.
  ///
  /// Each number is off by at most half of its row's scale, which is the row's largest magnitude / 127.
  ///
  /// - Precondition: The rows are no longer than `largestInputCount`.
  package init(quantizing tensor: Tensor, workers: Workers) {
    let (outputs, inputs) = (tensor.rows, tensor.columns)
    precondition(inputs <= Self.largestInputCount, "Int8Weights: \(inputs) inputs, most \(Self.largestInputCount)")
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

  package var byteCount: Int { numbers.count + scales.count + sums.count }

  /// All values as floats, row by row.
  package func floats() -> [Float] {
    let (base, scale) = unsafe (numbers.address(of: 0), scales.address(of: 0))
    return (0..<outputs * inputs).map { i in
      unsafe scale.load(fromByteOffset: i / inputs * 4, as: Float.self)
        * Float(base.load(fromByteOffset: i, as: Int8.self))
    }
  }
}
