import CKernels
import COneDNN
import Storage

/// Backends of a matmul panel: our own small-M kernels for few rows; AMX tiles, oneDNN or OpenBLAS for many. For compute
/// types that neither tiles nor an available library support, the small-M kernels process 16 rows at a time.
extension ComputeContext {
  /// A panel in f32, with a weight of any element type.
  func matmulF32(_ panel: MatmulPanel, _ input: MatmulInput, _ weight: Tensor, _ worker: Int) {
    let inputs = weight.columns
    guard input.order == .rows, let openBLAS = processor.openBLAS else {
      // Floats are widened within the kernel, blocks before it.
      let element = weight.element ?? .f32
      let first =
        weight.element == nil
        ? unsafe UnsafeRawPointer(widenedRows(of: weight, panel.columns, worker))
        : unsafe weight.address + panel.columns.lowerBound * weight.rowByteCount
      unsafe forEachPackedGroup(of: input, worker) { packed, rows in
        unsafe smallMatmul(
          panel, packed, rows.count, first, inputs, panel.base + rows.lowerBound * panel.stride,
          .f32(weights: element))
      }
      return
    }
    let weights = unsafe widenedRows(of: weight, panel.columns, worker)
    unsafe openBLAS.sgemm(panel, input.base.assumingMemoryBound(to: Float.self), weights, inputs: inputs)
  }

  /// The maximum number of rows for which our own kernels in bf16, 16 rows at a time, are as fast as oneDNN.
  package static let maxSmallRows = 64

  /// A panel in bf16, with a bf16 weight.
  func matmulBF16(_ panel: MatmulPanel, _ input: MatmulInput, _ weight: Tensor, _ worker: Int) {
    let inputs = weight.columns
    let weights = unsafe weight.address + panel.columns.lowerBound * inputs * 2
    if panel.rows > Self.maxSmallRows || input.forcesLargeKernels, processor.oneDNN?.hasBF16 == true,
      unsafe pdrop_onednn_gemm(
        pdrop_onednn_bf16, input.base, panel.rows, weights, inputs, panel.columns.count, panel.base, panel.stride,
        panel.accumulates)
    {
      return
    }
    unsafe forEachPackedGroup(of: input, worker) { packed, rows in
      unsafe smallMatmul(
        panel, packed, rows.count, weights, inputs, panel.base + rows.lowerBound * panel.stride, .bf16)
    }
  }

  /// A panel in bf16, in tiles: with the bias and the activation.
  func matmulBF16Tiles(_ panel: MatmulPanel, _ input: MatmulInput, _ weight: Tensor, _ worker: Int) {
    let inputs = weight.columns
    let scratchBytes = pdrop_tiles_scratch_bytes(panel.rows, 2 * inputs, panel.columns.count)
    unsafe panel.withResults { results in
      unsafe pdrop_gemm_bf16_tiles(
        input.base, weight.address + panel.columns.lowerBound * inputs * 2, inputs, results,
        weightScratch(worker, byteCount: scratchBytes))
    }
  }

  /// A panel in int8: exact integer sums, then scaled and finished.
  func matmulInt8(_ panel: MatmulPanel, _ input: MatmulInput, _ weight: Int8Weights, _ worker: Int) {
    let (inputs, outputs) = (weight.inputs, panel.columns.count)
    let weights = unsafe weight.numbers.address(of: panel.columns.lowerBound * inputs)
    guard let rowScales = unsafe input.scales else { preconditionFailure("matmulInt8: rows without scales") }
    let scales = unsafe weight.scales.address(of: 0).assumingMemoryBound(to: Float.self) + panel.columns.lowerBound
    let weightSums = unsafe weight.sums.address(of: 0).assumingMemoryBound(to: Int32.self) + panel.columns.lowerBound
    var scaled = unsafe pdrop_int8_sums(
      values: nil, stride: outputs, weight_sums: weightSums, scales: scales, row_scales: rowScales)
    if input.order == .tiles {
      let scratchBytes = pdrop_tiles_scratch_bytes(panel.rows, inputs, outputs)
      unsafe panel.withResults { results in
        unsafe pdrop_gemm_u8_s8_tiles(
          input.base, weights, inputs, results, &scaled, weightScratch(worker, byteCount: scratchBytes))
      }
      return
    }
    let sums = unsafe integerScratch(worker, count: panel.rows * outputs)
    let isComputed =
      input.order == .rows && processor.oneDNN?.hasInt8 == true
      && (unsafe pdrop_onednn_gemm(
        pdrop_onednn_u8_s8, input.base, panel.rows, weights, inputs, outputs, sums, outputs, false))
    if !isComputed {
      unsafe forEachPackedGroup(of: input, worker) { packed, rows in
        unsafe pdrop_gemm_u8_s8(
          processor.instructions.code, packed, Int32(rows.count), weights, inputs, outputs,
          sums + rows.lowerBound * outputs, outputs)
      }
    }
    unsafe scaled.values = UnsafePointer(sums)
    unsafe panel.withResults { results in unsafe pdrop_finish_int8(results, &scaled) }
  }

  /// A panel over packed blocks, for any number of rows.
  func matmulBlocks(_ panel: MatmulPanel, _ input: MatmulInput, _ weight: BlockWeights, _ worker: Int) {
    let (isa, outputs) = (processor.instructions.code, panel.columns.count)
    let scratchBytes = pdrop_block_scratch_bytes(isa, Int32(input.rows), outputs)
    unsafe pdrop_gemm_blocks(
      isa, weight.type.code, input.base, Int32(input.rows), weight.address(ofGroupAt: panel.columns.lowerBound),
      weight.inputs, outputs, panel.base, panel.stride, panel.accumulates,
      weightScratch(worker, byteCount: scratchBytes))
  }

  /// The small-M kernels with f32 results, by element types.
  private enum SmallKernel {
    /// f32 activations and weights of an element type.
    case f32(weights: ElementType)
    /// bf16 activations and bf16 weights.
    case bf16
  }

  /// A small-M matmul of up to 16 packed rows and all weights of a panel.
  private func smallMatmul(
    _ panel: MatmulPanel, _ packed: UnsafeRawPointer, _ rows: Int, _ weights: UnsafeRawPointer, _ inputs: Int,
    _ target: UnsafeMutablePointer<Float>, _ kernel: SmallKernel
  ) {
    let function =
      switch kernel {
      case .f32(weights: .f32): unsafe pdrop_gemm_f32_f32
      case .f32(weights: .f16): unsafe pdrop_gemm_f32_f16
      case .f32(weights: .bf16): unsafe pdrop_gemm_f32_bf16
      case .bf16: unsafe pdrop_gemm_bf16_bf16
      }
    unsafe function(
      processor.instructions.code, packed, Int32(rows), weights, inputs, panel.columns.count, target, panel.stride,
      panel.accumulates)
  }

  /// Calls `body` with groups of at most 16 packed rows.
  private func forEachPackedGroup(
    of input: MatmulInput, _ worker: Int, _ body: (_ packed: UnsafeRawPointer, _ rows: Range<Int>) -> Void
  ) {
    if input.order == .packed {
      unsafe body(input.base, 0..<input.rows)
      return
    }
    let byteCount = pdrop_packed_bytes(Int32(Self.maxPackedRows), input.rowBytes)
    let packed = unsafe UnsafeMutableRawPointer(scratch(worker, count: byteCount / MemoryLayout<Float>.stride))
    for first in stride(from: 0, to: input.rows, by: Self.maxPackedRows) {
      let rows = first..<min(first + Self.maxPackedRows, input.rows)
      unsafe pdrop_pack_rows(
        input.base + first * input.rowBytes, input.rowBytes, Int32(rows.count), input.rowBytes, packed)
      unsafe body(UnsafeRawPointer(packed), rows)
    }
  }

  /// Rows of a weight as f32, `[rows, inputs]`: in place if stored as f32, otherwise widened into
  /// the worker's scratch memory.
  private func widenedRows(of weight: Tensor, _ rows: Range<Int>, _ worker: Int) -> UnsafePointer<Float> {
    let range = rows.lowerBound * weight.columns..<rows.upperBound * weight.columns
    if let stored = unsafe weight.storedFloats { return unsafe stored + range.lowerBound }
    let bytes = unsafe weightScratch(worker, byteCount: range.count * ElementType.f32.byteCount)
    let panel = unsafe bytes.bindMemory(to: Float.self, capacity: range.count)
    unsafe weight.widen(range, into: panel)
    return unsafe UnsafePointer(panel)
  }
}
