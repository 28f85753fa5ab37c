/// Where the work of a request is spent.
package enum Phase: String, Sendable, CaseIterable, Codable {
  /// The vision encoder.
  case encode
  /// From the vision encoder's features to the decoder's embeddings.
  case project
  /// The decoder over the prompt.
  case prefill
  /// Scoring visual tokens: what dropping costs beyond the layers themselves.
  case rank
  /// The decoder over generated tokens.
  case decode
  /// The output head, for the prompt and for generated tokens.
  case head
}

/// A step of the computation that multiplies and adds.
package enum Operation: String, Sendable, CaseIterable, Codable {
  case patchEmbedding, queries, keys, values, attention, attentionOutput
  case mlpGate, mlpUp, mlpDown
  case projector, output
  /// What ranks visual tokens beside attention: norms, weights, trends.
  case ranking
}

/// Every multiply-add of a request, counted where it is done.
///
/// Products count rows · inputs · outputs, attention counts the query-key pairs that it may look at (causal pairs only),
/// twice the head dimension each. Norms of rows, activations and softmax are not products and are not counted; what ranking
/// does beside them is.
package struct CostLedger: Sendable {
  /// What an entry of the ledger belongs to.
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

  /// Counts multiply-adds of the present phase, stage and layer.
  package mutating func add(_ operation: Operation, _ count: Int) {
    multiplyAdds[Site(phase: phase, stage: stage, layer: layer, operation: operation), default: 0] += count
  }

  /// Books multiply-adds already counted in the present stage and layer on another phase.
  package mutating func move(_ operation: Operation, _ count: Int, from source: Phase, to target: Phase) {
    for (phase, change) in [(source, -count), (target, count)] {
      multiplyAdds[Site(phase: phase, stage: stage, layer: layer, operation: operation), default: 0] += change
    }
  }

  /// All multiply-adds of a phase.
  package func total(_ phase: Phase) -> Int {
    multiplyAdds.reduce(0) { $1.key.phase == phase ? $0 + $1.value : $0 }
  }
}
