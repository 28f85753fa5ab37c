import Foundation
import Kernels

/// A sampler of the next token: greedy, or by temperature, top-k and top-p in that order.
struct Sampler {
  private let options: GenerationOptions
  private var generator: SplitMix64

  init(_ options: GenerationOptions) {
    self.options = options
    generator = SplitMix64(seed: options.seed)
  }

  /// The next token; `nil` if no logit is a number.
  ///
  /// - Parameter logits: `[N]`.
  mutating func callAsFunction(_ logits: [Float]) -> Int? {
    guard let best = indexOfMaximum(logits) else { return nil }
    guard options.temperature > 0, logits[best].isFinite else { return best }
    let candidates = weightedCandidates(logits, best: Double(logits[best]))
    var remaining = Double.random(in: 0..<1, using: &generator) * candidates.reduce(0) { $0 + $1.weight }
    for candidate in candidates {
      remaining -= candidate.weight
      if remaining < 0 { return candidate.token }
    }
    return candidates.last?.token ?? best
  }

  /// The tokens to sample from, most likely first, and their weights.
  private func weightedCandidates(_ logits: [Float], best: Double) -> [(token: Int, weight: Double)] {
    var order = logits.indices.filter { !logits[$0].isNaN }
    order.sort { logits[$0] > logits[$1] || (logits[$0] == logits[$1] && $0 < $1) }
    if options.topK > 0 { order = Array(order.prefix(options.topK)) }
    let weighted = order.map { (token: $0, weight: exp((Double(logits[$0]) - best) / options.temperature)) }
    guard options.topP < 1 else { return weighted }
    let limit = options.topP * weighted.reduce(0) { $0 + $1.weight }
    var sum = 0.0
    let end = weighted.firstIndex {
      sum += $0.weight
      return sum >= limit
    }
    return Array(weighted.prefix((end ?? weighted.count - 1) + 1))
  }
}
