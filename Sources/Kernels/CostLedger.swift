/// A phase of a request, for costs and timings.
package enum Phase: String, Sendable, CaseIterable, Codable {
  /// The vision encoder.
  case encode
  /// The projector, from vision features to decoder embeddings.
  case project
  /// The decoder on the prompt.
  case prefill
  /// Scoring of visual tokens: the cost of dropping in addition to the layers.
  case rank
  /// The decoder on generated tokens.
  case decode
  /// The output head, for the prompt and for generated tokens.
  case head
}

/// An operation whose multiply-adds are counted.
package enum Operation: String, Sendable, CaseIterable, Codable {
  case patchEmbedding, queries, keys, values, attention, attentionOutput
  case mlpGate, mlpUp, mlpDown
  case projector, output
  /// Ranking of visual tokens other than attention: norms, weighted means, trend fits.
  case ranking
}

/// Multiply-adds of a request by phase, stage, layer and operation, counted where they are computed.
///
/// A matmul counts rows · inputs · outputs. Attention counts twice the head dimension per visible query-key pair.
/// Norms, activations and softmax are not counted; the norms, means and fits of ranking are.
package struct CostLedger: Sendable {
  /// Key of a ledger entry.
  package struct Site: Hashable, Sendable {
    package var phase: Phase
    package var stage: Int
    package var layer: Int
    package var operation: Operation
  }

  package private(set) var multiplyAdds: [Site: Int] = [:]
  package var phase = Phase.encode
  package var stage = 0
  package var layer = 0

  package init() {}

  /// Adds multiply-adds to the current phase, stage and layer.
  package mutating func add(_ operation: Operation, _ count: Int) {
    multiplyAdds[Site(phase: phase, stage: stage, layer: layer, operation: operation), default: 0] += count
  }

  /// Moves multiply-adds counted in the current stage and layer from one phase to another.
  package mutating func move(_ operation: Operation, _ count: Int, from source: Phase, to target: Phase) {
    for (phase, change) in [(source, -count), (target, count)] {
      multiplyAdds[Site(phase: phase, stage: stage, layer: layer, operation: operation), default: 0] += change
    }
  }

  /// Total multiply-adds of a phase.
  package func total(_ phase: Phase) -> Int {
    multiplyAdds.reduce(0) { $1.key.phase == phase ? $0 + $1.value : $0 }
  }
}
