import CKernels
import COneDNN
import COpenBLAS
import Storage

/// What one panel of a product is computed by: our own kernels for few rows, oneDNN or OpenBLAS for many, and our own again,
/// 16 rows at a time, for numbers that no library at hand multiplies.
extension ComputeContext {
  /// In floats, over a weight in any of its stored forms.
  func matmulF32(_ panel: MatmulPanel, _ input: MatmulInput, _ weight: Tensor, _ worker: Int) {
    let (inputs, outputs) = (weight.columns, panel.columns.count)
    if input.isPacked {
      let first = unsafe weight.address + panel.columns.lowerBound * inputs * weight.element.byteCount
      unsafe smallMatmul(panel, input.base, panel.rows, first, inputs, panel.base, .floats(weight.element))
      return
    }
    let weights = unsafe floats(of: weight, rows: panel.columns, worker)
    let source = unsafe input.base.assumingMemoryBound(to: Float.self)
    unsafe cblas_sgemm(
      CblasRowMajor, CblasNoTrans, CblasTrans, blasint(panel.rows), blasint(outputs), blasint(inputs), 1,
      source, blasint(inputs), weights, blasint(inputs), panel.adds ? 1 : 0, panel.base, blasint(panel.stride))
  }

  /// Most rows of a product in bf16 for which our own kernels, 16 rows at a time, are as fast as oneDNN.
  package static let maxSmallRows = 64

  /// In bf16, over a weight stored as such.
  func matmulBF16(_ panel: MatmulPanel, _ input: MatmulInput, _ weight: Tensor, _ worker: Int) {
    let inputs = weight.columns
    let weights = unsafe weight.address + panel.columns.lowerBound * inputs * 2
    if panel.rows > Self.maxSmallRows || input.forcesLargeKernels, processor.oneDNN?.hasBF16 == true,
      unsafe pdrop_onednn_gemm(
        pdrop_onednn_bf16, input.base, panel.rows, weights, inputs, panel.columns.count, panel.base, panel.stride,
        panel.adds)
    {
      return
    }
    unsafe forEachGroup(of: input, worker) { packed, rows in
      unsafe smallMatmul(
        panel, packed, rows.count, weights, inputs, panel.base + rows.lowerBound * panel.stride, .bf16Values)
    }
  }

  /// In integers: exact sums, scaled by row and by output.
  func matmulInt8(_ panel: MatmulPanel, _ input: MatmulInput, _ weight: Int8Weights, _ worker: Int) {
    let (inputs, outputs) = (weight.inputs, panel.columns.count)
    let weights = unsafe weight.numbers.address(of: panel.columns.lowerBound * inputs)
    let sums = unsafe integerScratch(worker, count: panel.rows * outputs)
    let library =
      !input.isPacked && processor.oneDNN?.hasInt8 == true
      && (unsafe pdrop_onednn_gemm(
        pdrop_onednn_u8_s8, input.base, panel.rows, weights, inputs, outputs, sums, outputs, false))
    if !library {
      unsafe forEachGroup(of: input, worker) { packed, rows in
        unsafe pdrop_gemm_u8_s8(
          processor.instructions.code, packed, Int32(rows.count), weights, inputs, outputs,
          sums + rows.lowerBound * outputs, outputs)
      }
    }
    guard let rowScales = unsafe input.scales else { return }
    let scales = unsafe weight.scales.address(of: 0).assumingMemoryBound(to: Float.self) + panel.columns.lowerBound
    let weightSums = unsafe weight.sums.address(of: 0).assumingMemoryBound(to: Int32.self) + panel.columns.lowerBound
    for row in 0..<panel.rows {
      unsafe pdrop_dequantize_row(
        sums + row * outputs, weightSums, scales, rowScales[row], outputs, panel.base + row * panel.stride, panel.adds)
    }
  }

  /// What our own kernels for floating-point results multiply.
  private enum SmallKernel {
    case floats(ElementType)
    case bf16Values
  }

  /// Up to 16 packed rows with all weights of a panel.
  private func smallMatmul(
    _ panel: MatmulPanel, _ packed: UnsafeRawPointer, _ rows: Int, _ weights: UnsafeRawPointer, _ inputs: Int,
    _ target: UnsafeMutablePointer<Float>, _ kernel: SmallKernel
  ) {
    let function =
      switch kernel {
      case .floats(.f32): unsafe pdrop_gemm_f32_f32
      case .floats(.f16): unsafe pdrop_gemm_f32_f16
      case .floats(.bf16): unsafe pdrop_gemm_f32_bf16
      case .bf16Values: unsafe pdrop_gemm_bf16_bf16
      }
    unsafe function(
      processor.instructions.code, packed, Int32(rows), weights, inputs, panel.columns.count, target, panel.stride,
      panel.adds)
  }

  /// Calls `body` with the rows packed, at most 16 at a time.
  private func forEachGroup(
    of input: MatmulInput, _ worker: Int, _ body: (_ packed: UnsafeRawPointer, _ rows: Range<Int>) -> Void
  ) {
    if input.isPacked {
      unsafe body(input.base, 0..<input.rows)
      return
    }
    let room = pdrop_packed_bytes(Int32(Self.maxPackedRows), input.rowBytes)
    let packed = unsafe UnsafeMutableRawPointer(scratch(worker, count: room / MemoryLayout<Float>.stride))
    for first in stride(from: 0, to: input.rows, by: Self.maxPackedRows) {
      let rows = first..<min(first + Self.maxPackedRows, input.rows)
      unsafe pdrop_pack_rows(
        input.base + first * input.rowBytes, input.rowBytes, Int32(rows.count), input.rowBytes, packed)
      unsafe body(UnsafeRawPointer(packed), rows)
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

/// The library that multiplies many rows of floats, set up once for our use.
package enum OpenBLAS {
  /// The name of the kernels in use, such as `Haswell`.
  package static var coreName: String {
    prepare
    return unsafe String(cString: openblas_get_corename())
  }

  /// Such as `0.3.21`.
  package static var version: String {
    let words = unsafe String(cString: openblas_get_config()).split(separator: " ")
    return words.dropFirst().first.map(String.init) ?? ""
  }

  /// Single-threaded calls, as the workers own the cores, and the kernels that are fastest on this processor.
  ///
  /// OpenBLAS takes its Cooperlake kernels on AMD's Zen 4, where they reach 120 to 190 GFLOP/s and those for Haswell 200 to 209;
  /// on Zen 5 its own choice is the best (497 against 273, two threads). Which kernels run decides the last bits of results, so
  /// the rule is fixed by what was measured rather than measured anew at each start. A user's `OPENBLAS_CORETYPE` stands.
  static let prepare: Void = {
    openblas_set_num_threads(1)
    if pdrop_is_zen4() { unsafe _ = pdrop_openblas_choose("Haswell") }
  }()
}
