import CKernels

extension ComputeContext {
  /// Matmul with a linear layer: `y = x · weightᵀ + bias`.
  ///
  /// - Parameters:
  ///   - y: The result, `[T, outputs]`; resized to the rows of `x`.
  ///   - x: The input, `[T, inputs]`.
  ///   - activation: The function applied to the result, bias included.
  ///   - forcesLargeKernels: Whether to use the large-M kernels even for few rows, so that a prompt computed in two
  ///     parts gives the same bits as in one.
  ///
  /// Cost: T·inputs·outputs multiply-adds.
  package func matmul(
    _ y: inout Matrix, _ x: borrowing Matrix, by linear: Linear, _ operation: Operation,
    activation: Activation? = nil, forcesLargeKernels: Bool = false
  ) {
    y.resize(rows: x.rows)
    matmul([MatmulOutput(linear, y, activation: activation, operation, processor)], x, forcesLargeKernels)
  }

  /// Two matmuls of the same input in one parallel run: the input is converted once, without a barrier between the two.
  ///
  /// Bit for bit equal to two separate calls of `matmul`. `x` is `[T, inputs]`; each result is `[T, outputs]`, resized.
  package func matmul(
    _ y: inout Matrix, _ z: inout Matrix, _ x: borrowing Matrix, by first: Linear, _ second: Linear,
    _ operations: (Operation, Operation), forcesLargeKernels: Bool = false
  ) {
    y.resize(rows: x.rows)
    z.resize(rows: x.rows)
    matmul(
      [MatmulOutput(first, y, operations.0, processor), MatmulOutput(second, z, operations.1, processor)], x,
      forcesLargeKernels)
  }

  /// Three matmuls of the same input in one parallel run, as with two.
  package func matmul(
    _ y: inout Matrix, _ z: inout Matrix, _ w: inout Matrix, _ x: borrowing Matrix, by first: Linear, _ second: Linear,
    _ third: Linear, _ operations: (Operation, Operation, Operation), forcesLargeKernels: Bool = false
  ) {
    y.resize(rows: x.rows)
    z.resize(rows: x.rows)
    w.resize(rows: x.rows)
    matmul(
      [
        MatmulOutput(first, y, operations.0, processor), MatmulOutput(second, z, operations.1, processor),
        MatmulOutput(third, w, operations.2, processor),
      ], x, forcesLargeKernels)
  }

  /// Matmul with a residual: `y += x · weightᵀ + bias`.
  ///
  /// - Precondition: `x` is `[T, inputs]` and `y` is `[T, outputs]`.
  package func matmulAdd(
    to y: inout Matrix, _ x: borrowing Matrix, by linear: Linear, _ operation: Operation,
    forcesLargeKernels: Bool = false
  ) {
    matmul([MatmulOutput(linear, y, accumulates: true, operation, processor)], x, forcesLargeKernels)
  }

  /// Matmuls of the same input; each task computes one panel of outputs. All matmuls go through this function.
  ///
  /// The width of a panel depends only on the layer and on the number of rows, and each panel is computed by one
  /// thread. So the result is the same for any number of workers.
  ///
  /// Batch invariance: int8 sums are exact. In f32 (up to 16 rows) and bf16 (up to 64 rows) our own kernels fix the
  /// summation order; so do AMX tiles in bf16 for more rows. Otherwise the libraries decide it: oneDNN gave a row the same
  /// bits among 1 to 625 rows (2.6.3 and 3.2, AVX-512), although it does not guarantee that; OpenBLAS did not.
  private func matmul<let count: Int>(
    _ outputs: [count of MatmulOutput], _ x: borrowing Matrix, _ forcesLargeKernels: Bool
  ) {
    guard outputs.indices.allSatisfy({ outputs[$0].linear.sharesInput(with: outputs[0].linear) }) else {
      for i in outputs.indices { matmul([outputs[i]], x, forcesLargeKernels) }
      return
    }
    var panelCount = 0
    for i in outputs.indices {
      let (linear, output) = (outputs[i].linear, outputs[i])
      precondition(
        x.columns == linear.inputSize && output.rows == x.rows,
        "matmul: x \(x.rows)×\(x.columns), weight \(linear.outputSize)×\(linear.inputSize), y of \(output.rows) rows")
      ledger.add(output.operation, x.rows * linear.inputSize * linear.outputSize)
      panelCount += output.panelCount
    }
    guard x.rows > 0 else { return }
    let input = matmulInput(x, for: outputs[0].linear, forcesLargeKernels: forcesLargeKernels)
    workers.run(tasks: panelCount, (self, outputs, input)) { context, task, worker in
      let (compute, outputs, input) = context
      var (index, panel) = (0, task)
      while panel >= outputs[index].panelCount {
        panel -= outputs[index].panelCount
        index += 1
      }
      compute.compute(outputs[index].panel(panel), input, outputs[index].linear, worker)
    }
  }

  /// Computes one panel with the kernel of the layer's compute type, then adds the bias and applies the activation.
  private func compute(_ panel: MatmulPanel, _ input: MatmulInput, _ linear: Linear, _ worker: Int) {
    switch linear.weight {
    case .native(let tensor): matmulF32(panel, input, tensor, worker)
    // Finished while their sums are in the cache.
    case .bf16(let tensor) where input.order == .tiles: return matmulBF16Tiles(panel, input, tensor, worker)
    case .bf16(let tensor): matmulBF16(panel, input, tensor, worker)
    case .int8(let weights): return matmulInt8(panel, input, weights, worker)
    case .blocks(let weights): matmulBlocks(panel, input, weights, worker)
    }
    panel.finish()
  }
}

/// A layer and the matrix that its matmul writes, `[rows, outputs]`.
@safe private struct MatmulOutput {
  let linear: Linear
  let operation: Operation
  let rows: Int
  private let base: UnsafeMutablePointer<Float>
  private let accumulates: Bool
  private let activation: Activation?
  /// Columns per panel.
  private let panelWidth: Int

  init(
    _ linear: Linear, _ y: borrowing Matrix, accumulates: Bool = false, activation: Activation? = nil,
    _ operation: Operation, _ processor: Processor
  ) {
    precondition(y.columns == linear.outputSize, "matmul: \(linear.outputSize) outputs to \(y.columns) columns")
    (self.linear, self.operation, self.accumulates, rows) = (linear, operation, accumulates, y.rows)
    self.activation = activation
    unsafe base = y.base
    panelWidth =
      switch linear.computeType {
      case .blocks: Self.blockPanelWidth(linear, rows: y.rows, processor.instructions)
      // With more outputs, the 32-bit sums of many rows would not stay in the second level cache.
      case .int8: min(Self.panelWidth(outputs: linear.outputSize, rows: y.rows), 128)
      // Nor would the weights that are packed for tiles.
      case .bf16 where processor.instructions == .avx512AMX:
        min(Self.panelWidth(outputs: linear.outputSize, rows: y.rows), 128)
      case .f32, .bf16: Self.panelWidth(outputs: linear.outputSize, rows: y.rows)
      }
  }

  /// Outputs per panel, for all rows at once: more for the libraries, which pack the weights in each call, fewer for
  /// our own kernels, which do not pack them.
  ///
  /// oneDNN in bf16 took 0.82 of the time with 128 outputs instead of 64, and 0.79 with 512 (577 to 625 rows, 2.6.3).
  private static func panelWidth(outputs: Int, rows: Int) -> Int {
    let (panels, minimum) = rows > ComputeContext.maxSmallRows ? (8, 128) : (16, 64)
    return min(max((outputs / panels + 63) / 64 * 64, minimum), 512)
  }

  /// Outputs per panel of packed blocks: with many rows, few enough that the weights of a panel stay in the second
  /// level cache, since every 16 rows read them again. Kernels in tiles read them once for up to 512 rows.
  private static func blockPanelWidth(_ linear: Linear, rows: Int, _ instructions: InstructionSet) -> Int {
    guard rows > ComputeContext.maxPackedRows else { return panelWidth(outputs: linear.outputSize, rows: rows) }
    if instructions == .avx512AMX { return 256 }
    let rowBytes = max(linear.weightByteCount / max(linear.outputSize, 1), 1)
    return min(max(blockPanelBytes / rowBytes / 16 * 16, 16), 256)
  }

  private static let blockPanelBytes = 384 << 10

  var panelCount: Int { (linear.outputSize + panelWidth - 1) / panelWidth }

  func panel(_ index: Int) -> MatmulPanel {
    let columns = index * panelWidth..<min((index + 1) * panelWidth, linear.outputSize)
    return unsafe MatmulPanel(
      rows: rows, columns: columns, base: base + columns.lowerBound, stride: linear.outputSize,
      accumulates: accumulates, bias: linear.bias, activation: activation)
  }
}

/// A range of columns of a result, for all rows: the output of one task.
@safe struct MatmulPanel {
  let rows: Int
  let columns: Range<Int>
  /// The first column of the first row.
  let base: UnsafeMutablePointer<Float>
  /// Floats between consecutive rows.
  let stride: Int
  /// Whether the matmul adds to the existing values.
  let accumulates: Bool
  /// The bias of the layer, `[outputs]`.
  let bias: [Float]?
  let activation: Activation?

  /// Adds the bias to the result, then applies the activation.
  func finish() {
    unsafe withResults { results in unsafe pdrop_finish(results) }
  }

  /// Calls `body` with the columns of the result, and what is left to do with them.
  func withResults(_ body: (UnsafePointer<pdrop_results>) -> Void) {
    var results = unsafe pdrop_results(
      y: base, stride: stride, rows: rows, count: columns.count, adds: accumulates, bias: nil,
      activation: activation?.code ?? pdrop_no_activation)
    guard let bias else { return unsafe body(&results) }
    unsafe bias.span.extracting(columns).withUnsafeBufferPointer {
      unsafe results.bias = $0.baseAddress
      unsafe body(&results)
    }
  }
}

/// The activations of a matmul in its compute type, `[rows, inputs]`, converted once for all panels.
@safe struct MatmulInput {
  /// The order of the activations in memory.
  enum Order {
    case rows
    /// Packed for the small-M kernels, or quantized for blocks.
    case packed
    /// Tiles of int8 or bf16.
    case tiles
  }

  let rows: Int
  let base: UnsafeRawPointer
  let rowBytes: Int
  let order: Order
  let forcesLargeKernels: Bool
  /// Scale of each row for int8, `[rows]`; rows are stored as u8 with zero point 128. Few rows for blocks have their
  /// scales within `base`.
  let scales: UnsafePointer<Float>?
}

extension ComputeContext {
  /// The maximum number of rows of one call of the small-M kernels. With more rows, the packing of weights in the
  /// libraries pays off.
  static let maxPackedRows = Int(PDROP_MAX_SMALL_ROWS)

  /// Converts `x`, `[T, inputs]`, to the compute type of `linear`. The result is valid until the next matmul.
  func matmulInput(_ x: borrowing Matrix, for linear: Linear, forcesLargeKernels: Bool) -> MatmulInput {
    let (rows, columns) = (x.rows, x.columns)
    let source = unsafe x.base
    if case .blocks(let weight) = linear.weight {
      return unsafe blockInput(source, rows: rows, columns: columns, for: weight.type)
    }
    let order = order(rows, linear.computeType, forcesLargeKernels)
    let elementBytes =
      switch linear.computeType {
      case .f32: 4
      case .bf16: 2
      case .int8, .blocks: 1
      }
    let rowBytes = columns * elementBytes
    // Scales, converted rows and packed rows, each 64-byte aligned.
    let scaleBytes = (rows * 4 + 63) / 64 * 64
    let convertedBytes =
      elementBytes == 4
      ? 0 : order == .tiles ? pdrop_tile_bytes(rows, rowBytes) : (rows * rowBytes + 63) / 64 * 64
    let packedBytes = order == .packed ? pdrop_packed_bytes(Int32(rows), rowBytes) : 0
    let memory = unsafe sharedScratch(byteCount: scaleBytes + convertedBytes + packedBytes)
    let scales = unsafe memory.bindMemory(to: Float.self, capacity: rows)
    let converted = unsafe memory + scaleBytes

    let conversion = unsafe RowConversion(
      compute: self, source: source, target: converted, scales: scales, rows: rows, columns: columns,
      elementBytes: elementBytes, usesTiles: order == .tiles)
    workers.run(tasks: conversion.taskCount, conversion) { conversion, task, worker in conversion.run(task, worker) }
    var base = elementBytes == 4 ? UnsafeRawPointer(source) : UnsafeRawPointer(converted)
    if order == .packed {
      let packed = unsafe converted + convertedBytes
      unsafe pdrop_pack_rows(base, rowBytes, Int32(rows), rowBytes, packed)
      unsafe base = UnsafeRawPointer(packed)
    }
    return unsafe MatmulInput(
      rows: rows, base: base, rowBytes: rowBytes, order: order, forcesLargeKernels: forcesLargeKernels,
      scales: UnsafePointer(scales))
  }

  /// The order in which the kernel for so many rows reads its activations.
  private func order(_ rows: Int, _ computeType: ComputeType, _ forcesLargeKernels: Bool) -> MatmulInput.Order {
    if rows <= Self.maxPackedRows && !forcesLargeKernels { return .packed }
    guard processor.instructions == .avx512AMX else { return .rows }
    return switch computeType {
    case .int8: .tiles
    case .bf16: rows > Self.maxSmallRows || forcesLargeKernels ? .tiles : .rows
    case .f32, .blocks: .rows
    }
  }

  /// Activations for blocks: the quantized rows.
  private func blockInput(
    _ source: UnsafePointer<Float>, rows: Int, columns: Int, for type: BlockType
  ) -> MatmulInput {
    let rowBytes = pdrop_block_input_bytes(1, columns)
    let memory = unsafe sharedScratch(byteCount: rows * rowBytes)
    let quantization = unsafe BlockQuantization(
      isa: processor.instructions.code, type: type.code, source: source, target: memory, rows: rows, columns: columns)
    workers.run(tasks: quantization.taskCount, quantization) { quantization, task, _ in quantization.run(task) }
    return unsafe MatmulInput(
      rows: rows, base: UnsafeRawPointer(memory), rowBytes: rowBytes, order: .packed, forcesLargeKernels: false,
      scales: nil)
  }
}

/// The quantization of activations for blocks: up to 16 rows and some of their columns per task.
@safe private struct BlockQuantization {
  let isa: pdrop_isa
  let type: pdrop_block_type
  /// `[rows, columns]`.
  let source: UnsafePointer<Float>
  /// For each span of columns all rows.
  let target: UnsafeMutableRawPointer
  let rows: Int
  let columns: Int

  private static let groupRows = ComputeContext.maxPackedRows
  /// Columns that are quantized together.
  private static let spanColumns = 256

  /// Columns of a task: about 16,384 values in all of its rows.
  private var taskColumns: Int {
    max(1, 16_384 / (min(rows, Self.groupRows) * Self.spanColumns)) * Self.spanColumns
  }
  private var tasksPerGroup: Int { (columns + taskColumns - 1) / taskColumns }
  var taskCount: Int { (rows + Self.groupRows - 1) / Self.groupRows * tasksPerGroup }

  func run(_ task: Int) {
    let (row, column) = (task / tasksPerGroup * Self.groupRows, task % tasksPerGroup * taskColumns)
    let count = min(Self.groupRows, rows - row)
    unsafe pdrop_quantize_block_input(
      isa, type, source + row * columns + column, columns, Int32(count), min(taskColumns, columns - column),
      target + pdrop_block_input_bytes(Int32(rows), column) + pdrop_block_input_bytes(Int32(row), Self.spanColumns),
      Int32(rows))
  }
}

/// The conversion of activations to bf16 or int8, some rows per task.
@safe private struct RowConversion {
  let compute: ComputeContext
  /// `[rows, columns]`.
  let source: UnsafePointer<Float>
  /// `[rows, columns]` elements, or tiles.
  let target: UnsafeMutableRawPointer
  /// `[rows]`, written for int8.
  let scales: UnsafeMutablePointer<Float>
  let rows: Int
  let columns: Int
  /// 2 for bf16, 1 for int8, 4 to convert nothing.
  let elementBytes: Int
  let usesTiles: Bool

  private var taskRows: Int { max(1, 32_768 / max(columns, 1)) }
  var taskCount: Int { elementBytes == 4 ? 0 : (rows + taskRows - 1) / taskRows }

  func run(_ task: Int, _ worker: Int) {
    let rowBytes = columns * elementBytes
    for row in task * taskRows..<min((task + 1) * taskRows, rows) {
      let from = unsafe source + row * columns
      // In tiles a row is not in one piece.
      let to =
        unsafe usesTiles
        ? UnsafeMutableRawPointer(compute.scratch(worker, count: columns)) : target + row * rowBytes
      if elementBytes == 2 {
        unsafe pdrop_round_f32_to_bf16(from, columns, to.assumingMemoryBound(to: UInt16.self))
      } else {
        unsafe scales[row] = pdrop_quantize_u8(from, columns, to.assumingMemoryBound(to: UInt8.self))
      }
      if usesTiles { unsafe pdrop_store_row_in_tiles(to, row, rows, rowBytes, target) }
    }
  }
}
