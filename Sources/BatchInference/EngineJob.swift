package import LLaVA
public import PDrop

/// A request of the batch engine.
package struct EngineRequest: Sendable {
  package let request: Request
  /// Number of the request among those of its job.
  package let index: Int

  package init(_ request: Request, index: Int) { (self.request, self.index) = (request, index) }
}

/// Where the batch engine takes requests from, and what it reports their results to: a batch, or the clients of a server.
///
/// The engine calls it from one thread.
package protocol EngineJob {
  /// An error that ends the engine.
  associatedtype Failure: Error

  /// Counts of shared work, updated by the engine.
  var statistics: EngineStatistics { get set }

  /// The next request.
  ///
  /// - Parameter waits: Whether to wait until there is one.
  /// - Returns: `finished` if no more will come.
  mutating func take(waits: Bool) throws(Failure) -> Poll<EngineRequest>

  /// Whether the answer to a request is not needed any more; called between layers of its prefill and between tokens.
  func isCancelled(_ request: EngineRequest) -> Bool

  /// A layer of the vision encoder or of the prefill is about to run.
  mutating func willRun(_ layer: PrefillLayer, of request: EngineRequest)

  /// The prompt has been prefilled.
  mutating func didPrefill(_ request: EngineRequest, _ prefill: FinishedPrefill)

  /// An answer has become longer.
  mutating func didGenerate(_ generated: GeneratedText, for request: EngineRequest)

  /// Requests have been answered, or have failed; requests that end together are in one call.
  mutating func finish(_ results: [(EngineRequest, Result<RunReport, RecordFailure>)]) throws(Failure)

  /// A cancelled request has been given up.
  mutating func didCancel(_ request: EngineRequest)
}

extension EngineJob {
  package func isCancelled(_ request: EngineRequest) -> Bool { false }
  package mutating func willRun(_ layer: PrefillLayer, of request: EngineRequest) {}
  package mutating func didPrefill(_ request: EngineRequest, _ prefill: FinishedPrefill) {}
  package mutating func didGenerate(_ generated: GeneratedText, for request: EngineRequest) {}
  package mutating func didCancel(_ request: EngineRequest) {}
}

/// Counts of work that requests shared.
package struct EngineStatistics: Sendable, Equatable {
  package var reuse = ReuseStatistics()
  package var speculation = SpeculationStatistics()

  package init() {}
}

/// A layer of the vision encoder or of a prefill.
package struct PrefillLayer: Sendable, Equatable {
  package var isVisionEncoder: Bool
  /// Index of the layer, from 0.
  package var layer: Int
  /// Number of drops before the layer.
  package var stage: Int
}

/// The prefill of a request.
package struct FinishedPrefill: Sendable {
  package let request: PreparedRequest
  /// Indices of the tokens of each image that entered the decoder; `nil` for all.
  package let selected: [[Int]]?
  /// The result of each drop, without scores for a prompt from the prompt cache.
  package let drops: [DropResult]
  /// Tokens of the prompt that were in the prefix cache or in the prompt cache, images included.
  package let cachedTokens: Int
}

/// A part of an answer.
package struct GeneratedText: Sendable {
  /// Number of the answer, from 0, of a request for several.
  package var answer: Int
  /// Text that no later token can change, possibly empty.
  package var text: String
  /// The new tokens with their log-probabilities; `nil` unless the request asks for them.
  package var logprobs: [TokenLogprob]?
  /// Number of new tokens.
  package var tokenCount: Int
  /// The reason for the end of the answer; `nil` while it is being generated.
  package var finishReason: RunReport.FinishReason?
}

/// Options of the batch engine: threads, batch size and memory limit.
public struct EngineOptions: Sendable {
  /// Largest batch size, 16; results of more rows would not be batch-invariant.
  public static let maxBatchSize = 16

  /// Number of threads; answers do not depend on it.
  public var threads: Int
  /// Maximum number of records that are decoded together, 1 to `maxBatchSize`; fewer if memory is short. Answers do
  /// not depend on it.
  public var batchSize: Int
  /// Maximum bytes of the process; `nil` for most of the free memory.
  public var memoryLimit: Int?
  /// Drafting of tokens; answers do not depend on it.
  public var speculation = Speculation.off
  /// The share of a prefill while answers are decoded between its layers: they keep 1 minus it of their token rate, and a
  /// quarter of that while more requests wait and the batch has room. `nil` to finish a prefill first.
  package var prefillShare: Double?
  /// Maximum number of prefixes in memory. With several, the prefix of every prompt with an image is kept; with one,
  /// only a prefix that the next requests share.
  package var prefixLimit = 1

  public init(threads: Int, batchSize: Int = Self.maxBatchSize) {
    self.threads = threads
    self.batchSize = batchSize
  }

  /// Maximum rows of a decode step: one per record, and drafts.
  var maxRowCount: Int { speculation == .off ? batchSize : Self.maxBatchSize }
}
