import Foundation
import Kernels

/// A sampler of the next token: greedy, or by temperature, top-k, top-p and min-p in that order.
package struct Sampler {
  private let options: GenerationOptions
  private var generator: SplitMix64

  package init(_ options: GenerationOptions) {
    self.options = options
    generator = SplitMix64(seed: options.seed)
  }

  /// The next token; `nil` if no logit is a number.
  ///
  /// - Parameter logits: `[N]`; minus infinity for tokens that must not be chosen.
  package mutating func callAsFunction(_ logits: [Float]) -> Int? {
    guard let best = indexOfMaximum(logits) else { return nil }
    guard options.temperature > 0, logits[best].isFinite else { return best }
    let candidates = candidates(logits, best: best)
    var remaining = Double.random(in: 0..<1, using: &generator) * candidates.reduce(0) { $0 + $1.weight }
    for candidate in candidates {
      remaining -= candidate.weight
      if remaining < 0 { return candidate.token }
    }
    return candidates.last { $0.weight > 0 }?.token ?? best
  }

  /// The tokens to sample from, most likely first, and their weights, relative to that of the most likely token.
  ///
  /// - Parameters:
  ///   - logits: `[N]`.
  ///   - best: The most likely token, whose logit is finite.
  package func candidates(_ logits: [Float], best: Int) -> [(token: Int, weight: Double)] {
    let order = logits.largestIndices(options.topK > 0 ? options.topK : logits.count)
    let highest = Double(logits[best])
    var weighted = order.map { (token: $0, weight: exp((Double(logits[$0]) - highest) / options.temperature)) }
    if options.topP < 1 {
      let limit = options.topP * weighted.reduce(0) { $0 + $1.weight }
      var sum = 0.0
      let end = weighted.firstIndex {
        sum += $0.weight
        return sum >= limit
      }
      weighted = Array(weighted.prefix((end ?? weighted.count - 1) + 1))
    }
    if options.minP > 0 { weighted = Array(weighted.prefix { $0.weight >= options.minP }) }
    return weighted
  }
}
