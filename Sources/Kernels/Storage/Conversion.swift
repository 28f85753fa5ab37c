internal import CQuantKernels

extension Tensor {
  /// Calls `body` with every row, widened, in parallel.
  func forEachRow(workers: Workers, _ body: (_ row: Int, _ values: UnsafePointer<Float>) -> Void) {
    let columns = columns
    guard columns > 0 else { return }
    // Some 256 KiB of floats a task.
    let blockRows = max(1, 65_536 / columns)
    workers.run(tasks: (rows + blockRows - 1) / blockRows) { task, _ in
      let values = unsafe allocateFloats(columns)
      defer { unsafe values.deallocate() }
      for row in task * blockRows..<min((task + 1) * blockRows, rows) {
        unsafe widen(row * columns..<(row + 1) * columns, into: values)
        unsafe body(row, values)
      }
    }
  }

  /// The same values in bf16, rounded to nearest even: itself if it is stored so where a 16-bit number may lie.
  package func rounded(workers: Workers) -> Tensor {
    if isAlignedBrain { return self }
    let columns = columns
    let bytes = unsafe SharedBytes(count: count * ElementType.bf16.byteCount) { target in
      unsafe forEachRow(workers: workers) { row, values in
        let target = unsafe (target + row * columns * 2).assumingMemoryBound(to: UInt16.self)
        unsafe pdrop_round_f32_to_bf16(values, columns, target)
      }
    }
    return Tensor(bytes, shape: shape, element: .bf16)
  }
}
