/// How a batch is answered.
package struct EngineOptions: Sendable {
  /// Most records that are decoded together: beyond it a row's bits would depend on how many rows there are.
  package static let largestBatchSize = 16

  package var threads: Int
  /// How many records are decoded together at most, 1 to `largestBatchSize`; fewer where memory is short.
  package var batchSize: Int
  /// Bytes that the process may hold in all; `nil` for most of what is free.
  package var memoryLimit: Int?

  package init(threads: Int, batchSize: Int = Self.largestBatchSize) {
    self.threads = threads
    self.batchSize = batchSize
  }
}
