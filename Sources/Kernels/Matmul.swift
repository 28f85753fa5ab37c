import CKernels

extension ComputeContext {
  /// `y = x · weightᵀ + bias`.
  ///
  /// - Parameters:
  ///   - y: The result, `[T, outputs]`; resized to the rows of `x`.
  ///   - x: The input, `[T, inputs]`.
  ///   - forcesLargeKernels: Whether a few rows take the kernels of many rows, so that a prompt computed in two parts gives
  ///     the same bits as in one.
  ///
  /// Cost: T·inputs·outputs multiply-adds.
  package func matmul(
    _ y: inout Matrix, _ x: borrowing Matrix, by linear: Linear, _ operation: Operation,
    forcesLargeKernels: Bool = false
  ) {
    y.resize(rows: x.rows)
    run([MatmulOutput(linear, y, operation)], x, forcesLargeKernels)
  }

  /// Two matmuls of the same input, which is converted once; no worker waits between them.
  ///
  /// The same bits as two calls of `matmul`.
  package func matmul(
    _ y: inout Matrix, _ z: inout Matrix, _ x: borrowing Matrix, by first: Linear, _ second: Linear,
    _ operations: (Operation, Operation), forcesLargeKernels: Bool = false
  ) {
    y.resize(rows: x.rows)
    z.resize(rows: x.rows)
    run([MatmulOutput(first, y, operations.0), MatmulOutput(second, z, operations.1)], x, forcesLargeKernels)
  }

  /// Three matmuls of the same input, as above.
  package func matmul(
    _ y: inout Matrix, _ z: inout Matrix, _ w: inout Matrix, _ x: borrowing Matrix, by first: Linear, _ second: Linear,
    _ third: Linear, _ operations: (Operation, Operation, Operation), forcesLargeKernels: Bool = false
  ) {
    y.resize(rows: x.rows)
    z.resize(rows: x.rows)
    w.resize(rows: x.rows)
    run(
      [
        MatmulOutput(first, y, operations.0), MatmulOutput(second, z, operations.1),
        MatmulOutput(third, w, operations.2),
      ], x, forcesLargeKernels)
  }

  /// `y += x · weightᵀ + bias`, the end of a residual branch.
  ///
  /// - Precondition: `y` has the row count of `x`.
  package func matmulAdd(
    to y: inout Matrix, _ x: borrowing Matrix, by linear: Linear, _ operation: Operation,
    forcesLargeKernels: Bool = false
  ) {
    run([MatmulOutput(linear, y, adds: true, operation)], x, forcesLargeKernels)
  }

  /// Matmuls of the same input, one task per panel of outputs; every matmul of the package goes through here.
  ///
  /// The width of a panel depends on the layer alone, and each panel is one single-threaded computation, so results are the
  /// same for any number of workers. Batch invariance: int8 sums are exact. In f32 (up to 16 rows) and bf16 (up to 64 rows)
  /// our own kernels fix the order of summation; above that oneDNN or OpenBLAS decides it. oneDNN's bf16 gave a row the same
  /// bits for any row count from 1 to 625 (2.6.3 and 3.2, AVX-512), which it does not guarantee; OpenBLAS does not.
  private func run<let count: Int>(
    _ outputs: [count of MatmulOutput], _ x: borrowing Matrix, _ forcesLargeKernels: Bool
  ) {
    var panelCount = 0
    for i in outputs.indices {
      let (linear, output) = (outputs[i].linear, outputs[i])
      precondition(
        x.columns == linear.inputSize && output.rows == x.rows && linear.computeType == outputs[0].linear.computeType,
        "matmul: x \(x.rows)×\(x.columns), weight \(linear.outputSize)×\(linear.inputSize), y of \(output.rows) rows")
      ledger.add(output.operation, x.rows * linear.inputSize * linear.outputSize)
      panelCount += output.panelCount
    }
    guard x.rows > 0 else { return }
    let input = prepare(x, for: outputs[0].linear, forcesLargeKernels: forcesLargeKernels)
    workers.run(tasks: panelCount) { task, worker in
      var (index, panel) = (0, task)
      while panel >= outputs[index].panelCount {
        panel -= outputs[index].panelCount
        index += 1
      }
      matmul(outputs[index].panel(panel), input, outputs[index].linear, worker)
    }
  }

  private func matmul(_ panel: MatmulPanel, _ input: MatmulInput, _ linear: Linear, _ worker: Int) {
    switch linear.weight {
    case .native(let tensor): matmulF32(panel, input, tensor, worker)
    case .bf16(let tensor): matmulBF16(panel, input, tensor, worker)
    case .int8(let weights): matmulInt8(panel, input, weights, worker)
    }
    if let bias = linear.bias { panel.add(bias) }
  }
}

/// One product: a layer, and where its result goes.
@safe private struct MatmulOutput {
  let linear: Linear
  let operation: Operation
  let rows: Int
  /// `[rows, outputs]`.
  private let base: UnsafeMutablePointer<Float>
  private let adds: Bool
  /// Columns of a panel.
  private let width: Int

  init(_ linear: Linear, _ y: borrowing Matrix, adds: Bool = false, _ operation: Operation) {
    precondition(y.columns == linear.outputSize, "product: \(linear.outputSize) outputs to \(y.columns) columns")
    (self.linear, self.operation, self.adds, rows) = (linear, operation, adds, y.rows)
    unsafe base = y.base
    width = Self.width(outputs: linear.outputSize, rows: y.rows)
  }

  /// Outputs of a panel, for all rows at once: many where a library packs them anew at each call, fewer for our own kernels,
  /// which do not.
  ///
  /// oneDNN's bf16 took 0.82 of the time with 128 outputs instead of 64, and 0.79 with 512 (577 to 625 rows, 2.6.3).
  private static func width(outputs: Int, rows: Int) -> Int {
    let (share, least) = rows > ComputeContext.maxSmallRows ? (8, 128) : (16, 64)
    return min(max((outputs / share + 63) / 64 * 64, least), 512)
  }

  var panelCount: Int { (linear.outputSize + width - 1) / width }

  func panel(_ index: Int) -> MatmulPanel {
    let columns = index * width..<min((index + 1) * width, linear.outputSize)
    return unsafe MatmulPanel(
      rows: rows, columns: columns, base: base + columns.lowerBound, stride: linear.outputSize, adds: adds)
  }
}

/// Some columns of a result, all rows.
@safe struct MatmulPanel {
  let rows: Int
  let columns: Range<Int>
  /// The first row's first column.
  let base: UnsafeMutablePointer<Float>
  /// Floats from row to row.
  let stride: Int
  /// Whether the product is added to what is there.
  let adds: Bool

  func add(_ bias: [Float]) {
    unsafe bias.withUnsafeBufferPointer { bias in
      for row in 0..<rows {
        let target = unsafe base + row * stride
        for i in 0..<columns.count { unsafe target[i] += bias[columns.lowerBound + i] }
      }
    }
  }
}

/// The left side of a product in the numbers that its arithmetic multiplies, converted once for all panels.
@safe struct MatmulInput {
  let rows: Int
  /// Row-major, or packed for our own kernels when the rows are few.
  let base: UnsafeRawPointer
  let rowBytes: Int
  let isPacked: Bool
  let forcesLargeKernels: Bool
  /// Int8: what a row's numbers, stored with 128 added, count.
  let scales: UnsafePointer<Float>?
}

extension ComputeContext {
  /// Most rows of a product by our own kernels: beyond, the libraries' packing pays for itself.
  static let maxPackedRows = Int(PDROP_MAX_SMALL_ROWS)

  /// Converts `x` to what products with `linear` read, in memory that lasts until the next product.
  func prepare(_ x: borrowing Matrix, for linear: Linear, forcesLargeKernels: Bool) -> MatmulInput {
    let (rows, columns) = (x.rows, x.columns)
    let source = unsafe x.base
    let isPacked = rows <= Self.maxPackedRows && !forcesLargeKernels
    let bytes: Int
    switch linear.computeType {
    case .f32: bytes = 4
    case .bf16: bytes = 2
    case .int8: bytes = 1
    }
    let rowBytes = columns * bytes
    // Scales, rows, and the rows packed, each on a boundary of 64 bytes.
    let scaleBytes = (rows * 4 + 63) / 64 * 64
    let convertedBytes = bytes == 4 ? 0 : (rows * rowBytes + 63) / 64 * 64
    let packedBytes = isPacked ? pdrop_packed_bytes(Int32(rows), rowBytes) : 0
    let memory = unsafe sharedScratch(byteCount: scaleBytes + convertedBytes + packedBytes)
    let scales = unsafe memory.bindMemory(to: Float.self, capacity: rows)
    let converted = unsafe memory + scaleBytes

    let blockRows = max(1, 65_536 / max(columns, 1))
    if bytes != 4 {
      workers.run(tasks: (rows + blockRows - 1) / blockRows) { task, _ in
        for row in task * blockRows..<min((task + 1) * blockRows, rows) {
          let (from, to) = unsafe (source + row * columns, converted + row * rowBytes)
          if bytes == 2 {
            unsafe pdrop_round_f32_to_bf16(from, columns, to.assumingMemoryBound(to: UInt16.self))
          } else {
            unsafe scales[row] = pdrop_quantize_u8(from, columns, to.assumingMemoryBound(to: UInt8.self))
          }
        }
      }
    }
    let rowMajor = bytes == 4 ? UnsafeRawPointer(source) : UnsafeRawPointer(converted)
    guard isPacked else {
      return unsafe MatmulInput(
        rows: rows, base: rowMajor, rowBytes: rowBytes, isPacked: false, forcesLargeKernels: forcesLargeKernels,
        scales: UnsafePointer(scales))
    }
    let packed = unsafe converted + convertedBytes
    unsafe pdrop_pack_rows(rowMajor, rowBytes, Int32(rows), rowBytes, packed)
    return unsafe MatmulInput(
      rows: rows, base: UnsafeRawPointer(packed), rowBytes: rowBytes, isPacked: true,
      forcesLargeKernels: forcesLargeKernels,
      scales: UnsafePointer(scales))
  }
}
