/// The threads that share the work of one product or kernel: the calling one and helpers from the process's pool.
///
/// Work is cut into tasks by its shape alone, never by the number of threads, so results do not depend on that number.
/// Libraries are called single-threaded from within a task.
package struct Workers: Sendable {
  /// How many threads work at a time.
  package let count: Int

  /// - Precondition: `count` is at least 1.
  package init(count: Int) {
    precondition(count >= 1, "Workers: \(count) threads")
    self.count = count
    WorkerPool.shared.grow(to: count - 1)
  }

  /// Calls `body` once for every task, from up to `count` threads, and returns when all are done.
  ///
  /// The helpers serve one call at a time. A call that finds them busy, because another request computes or because it comes
  /// from within a task, does all of its tasks itself: nobody waits, and a task may use kernels.
  ///
  /// - Parameter body: Receives the task, `0..<tasks`, and the worker that runs it, `0..<count`; no two calls at the same
  ///   time have the same worker. Must be safe to call from several threads, writing to disjoint memory in each task.
  package func run(tasks: Int, _ body: (_ task: Int, _ worker: Int) -> Void) {
    let helpers = min(count, tasks) - 1
    if helpers > 0, WorkerPool.shared.run(tasks: tasks, helpers: helpers, body) { return }
    let worker = WorkerPool.shared.currentWorker
    for task in 0..<tasks { body(task, worker) }
  }

  /// Calls `body` with disjoint blocks of the rows of `matrix`, in parallel when that pays.
  ///
  /// - Parameter body: Receives the first row of its block, the number of rows, and the block.
  func forEachBlock(
    of matrix: inout Matrix, _ body: (_ firstRow: Int, _ rowCount: Int, _ block: inout MutableSpan<Float>) -> Void
  ) {
    let (rows, columns) = (matrix.rows, matrix.columns)
    let blockRows = max(1, 16_384 / columns)
    let base = unsafe matrix.base
    run(tasks: (rows + blockRows - 1) / blockRows) { task, _ in
      let first = task * blockRows
      let rowCount = min(blockRows, rows - first)
      let buffer = unsafe UnsafeMutableBufferPointer(start: base + first * columns, count: rowCount * columns)
      var block = unsafe buffer.mutableSpan
      body(first, rowCount, &block)
    }
  }
}
