import CKernels
package import Storage

/// A weight `[outputs, inputs]` in integers of -127 to 127 and one scale per output: value = scale · number.
package struct Int8Weights: Sendable {
  package let outputs: Int
  package let inputs: Int
  /// `[outputs, inputs]`, row-major: one copy serves products of one row and of many.
  package let numbers: SharedBytes
  /// `[outputs]` floats.
  package let scales: SharedBytes
  /// `[outputs]` 32-bit sums of each row's numbers, for inputs that are stored with 128 added.
  package let sums: SharedBytes

  /// Longer rows could overflow sums of 32 bits: 255 · 128 · inputs must stay below 2^31, -128 included since numbers may
  /// come from a file.
  package static let largestInputCount = 65_536

  /// Which rule the numbers are made by, for files that keep them: to be raised when `init(quantizing:workers:)` gives others.
  package static let scheme = "symmetric s8 per output, 1"

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

  /// Weights that were quantised before, whatever their values are.
  ///
  /// - Precondition: The counts fit, the rows are no longer than `largestInputCount`, and scales and sums lie where 32-bit
  ///   numbers may lie.
  package init(outputs: Int, inputs: Int, numbers: SharedBytes, scales: SharedBytes, sums: SharedBytes) {
    precondition(inputs <= Self.largestInputCount, "Int8Weights: \(inputs) inputs, most \(Self.largestInputCount)")
    precondition(
      numbers.count == outputs * inputs && scales.count == 4 * outputs && sums.count == 4 * outputs,
      "Int8Weights: \(outputs)×\(inputs) from \(numbers.count), \(scales.count) and \(sums.count) bytes")
    for words in [scales, sums] {
      precondition(Int(bitPattern: unsafe words.address(of: 0)).isMultiple(of: 4), "Int8Weights: unaligned words")
    }
    self.outputs = outputs
    self.inputs = inputs
    self.numbers = numbers
    self.scales = scales
    self.sums = sums
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
