internal import COpenBLAS

/// A linear layer, `y = x · weightᵀ + bias`, over weights as stored.
package struct Linear: Sendable {
  /// `[outputs, inputs]`.
  package let weight: Tensor
  /// `[outputs]`.
  package let bias: [Float]?

  /// - Precondition: `bias` has one value per row of `weight`.
  package init(weight: Tensor, bias: [Float]? = nil) {
    precondition(bias?.count ?? weight.rows == weight.rows, "Linear: weight \(weight.shape), bias \(bias?.count ?? 0)")
    self.weight = weight
    self.bias = bias
  }

  package var inputSize: Int { weight.columns }
  package var outputSize: Int { weight.rows }
}

extension Compute {
  /// `y = x · weightᵀ + bias`.
  ///
  /// - Parameters:
  ///   - y: The result, `[T, outputs]`; resized to the rows of `x`.
  ///   - x: The input, `[T, inputs]`.
  ///
  /// Cost: T·inputs·outputs multiply-adds.
  package func multiply(_ y: inout Matrix, _ x: borrowing Matrix, by linear: Linear, _ operation: Operation) {
    y.resize(rows: x.rows)
    product(&y, x, linear, keeping: 0, operation)
  }

  /// `y += x · weightᵀ + bias`, the end of a residual branch.
  ///
  /// - Precondition: `y` has as many rows as `x`.
  package func addProduct(to y: inout Matrix, _ x: borrowing Matrix, by linear: Linear, _ operation: Operation) {
    product(&y, x, linear, keeping: 1, operation)
  }

  /// `y = keeping · y + x · weightᵀ + bias`, one panel of outputs a task.
  ///
  /// The width of a panel depends on the layer alone, and each panel is one single-threaded call: the result is the same
  /// for any number of workers. Half-precision weights are widened a panel at a time.
  private func product(
    _ y: inout Matrix, _ x: borrowing Matrix, _ linear: Linear, keeping: Float, _ operation: Operation
  ) {
    let (rows, inputs, outputs) = (x.rows, linear.inputSize, linear.outputSize)
    precondition(
      x.columns == inputs && y.columns == outputs && y.rows == rows,
      "product: x \(rows)×\(x.columns), weight \(linear.weight.shape), y \(y.rows)×\(y.columns)")
    ledger.add(operation, rows * inputs * outputs)
    guard rows > 0 else { return }
    let width = outputs >= 2048 ? 256 : 64
    let (input, output) = unsafe (x.base, y.base)
    workers.run(tasks: (outputs + width - 1) / width) { panel, worker in
      let columns = panel * width..<min((panel + 1) * width, outputs)
      let weights = unsafe floats(of: linear.weight, rows: columns, worker)
      let target = unsafe output + columns.lowerBound
      if rows == 1 {
        unsafe cblas_sgemv(
          CblasRowMajor, CblasNoTrans, blasint(columns.count), blasint(inputs), 1, weights, blasint(inputs),
          input, 1, keeping, target, 1)
      } else {
        unsafe cblas_sgemm(
          CblasRowMajor, CblasNoTrans, CblasTrans, blasint(rows), blasint(columns.count), blasint(inputs), 1,
          input, blasint(inputs), weights, blasint(inputs), keeping, target, blasint(outputs))
      }
      guard let bias = linear.bias else { return }
      for row in 0..<rows {
        for column in columns { unsafe output[row * outputs + column] += bias[column] }
      }
    }
  }

  /// Rows of a weight as floats: where they are stored, or widened into the worker's scratch.
  private func floats(of weight: Tensor, rows: Range<Int>, _ worker: Int) -> UnsafePointer<Float> {
    let range = rows.lowerBound * weight.columns..<rows.upperBound * weight.columns
    if let stored = unsafe weight.storedFloats { return unsafe stored + range.lowerBound }
    let panel = unsafe scratch(worker, count: range.count)
    unsafe weight.widen(range, into: panel)
    return unsafe UnsafePointer(panel)
  }
}
