internal import CQuantKernels

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
    product(&y, x, linear, adds: false, operation)
  }

  /// `y += x · weightᵀ + bias`, the end of a residual branch.
  ///
  /// - Precondition: `y` has as many rows as `x`.
  package func addProduct(to y: inout Matrix, _ x: borrowing Matrix, by linear: Linear, _ operation: Operation) {
    product(&y, x, linear, adds: true, operation)
  }

  /// The one door to matrix products: `y = x · weightᵀ + bias`, or `y +=`, one panel of outputs a task.
  ///
  /// The width of a panel depends on the layer alone, and each panel is one single-threaded computation: the result is the
  /// same for any number of workers. Of a row's company: in int8 it changes nothing, as sums are exact. Else up to 16
  /// rows, in bf16 up to 64, take our own kernels and share one order of summation; more take a library's. oneDNN's gave a
  /// row the same bits among any number of rows from 1 to 625 (2.6.3 and 3.2, AVX-512), though it does not promise so;
  /// OpenBLAS' do not.
  private func product(
    _ y: inout Matrix, _ x: borrowing Matrix, _ linear: Linear, adds: Bool, _ operation: Operation
  ) {
    let (rows, inputs, outputs) = (x.rows, linear.inputSize, linear.outputSize)
    precondition(
      x.columns == inputs && y.columns == outputs && y.rows == rows,
      "product: x \(rows)×\(x.columns), weight \(outputs)×\(inputs), y \(y.rows)×\(y.columns)")
    ledger.add(operation, rows * inputs * outputs)
    guard rows > 0 else { return }
    let (input, output) = unsafe (prepare(x, for: linear), y.base)
    let width = min(max((outputs / 16 + 63) / 64 * 64, 64), 512)
    workers.run(tasks: (outputs + width - 1) / width) { panel, worker in
      let columns = panel * width..<min((panel + 1) * width, outputs)
      let target = unsafe Panel(
        rows: rows, columns: columns, base: output + columns.lowerBound, stride: outputs, adds: adds)
      switch linear.weight {
      case .widened(let tensor): multiplyFloats(target, input, tensor, worker)
      case .brain(let tensor): multiplyBrainFloats(target, input, tensor, worker)
      case .whole(let weights): multiplyWholeNumbers(target, input, weights, worker)
      }
      if let bias = linear.bias { target.add(bias) }
    }
  }
}

/// Some columns of a result, all rows.
@safe struct Panel {
  let rows: Int
  let columns: Range<Int>
  /// The first row's first column.
  let base: UnsafeMutablePointer<Float>
  /// Floats from row to row.
  let stride: Int
  /// Whether the product is added to what is there.
  let adds: Bool

  func add(_ bias: [Float]) {
    for row in 0..<rows {
      let target = unsafe base + row * stride
      for (i, column) in columns.enumerated() { unsafe target[i] += bias[column] }
    }
  }
}
