import Foundation
import Kernels
import Tokenizers

/// The log-probability of a generated token and of its most likely alternatives, in the form of OpenAI's `logprobs`.
///
/// Log-probabilities are those of the model's own logits, before bias, penalties, temperature and constraints.
public struct TokenLogprob: Codable, Sendable, Equatable {
  /// A token and its log-probability.
  public struct Candidate: Codable, Sendable, Equatable {
    public var id: Int
    /// The text of the token, empty for a special token that answers do not contain.
    public var token: String
    /// The natural logarithm of the probability, at least `TokenLogprob.minimum`.
    public var logprob: Double
    /// The bytes of the token, which may be a part of a character.
    public var bytes: [UInt8]
  }

  /// The value in place of log-probabilities below it, as in OpenAI's API.
  public static let minimum = -9999.0

  public var id: Int
  public var token: String
  public var logprob: Double
  public var bytes: [UInt8]
  /// The most likely tokens of the step, most likely first.
  public var topLogprobs: [Candidate]

  enum CodingKeys: String, CodingKey {
    case id, token, logprob, bytes
    case topLogprobs = "top_logprobs"
  }

  /// - Parameters:
  ///   - token: The chosen token.
  ///   - logits: The model's logits, `[N]`.
  ///   - top: Number of most likely tokens.
  init(_ token: Int, _ logits: [Float], top: Int, _ tokenizer: Tokenizer) {
    let scale = logits.logSumExp
    func candidate(_ id: Int) -> Candidate {
      let bytes = tokenizer.bytes(of: Int32(id))
      return Candidate(
        id: id, token: String(decoding: bytes, as: UTF8.self),
        logprob: max(Self.minimum, Double(logits[id]) - scale), bytes: bytes)
    }
    let chosen = candidate(token)
    (id, self.token, logprob, bytes) = (token, chosen.token, chosen.logprob, chosen.bytes)
    topLogprobs = logits.largestIndices(top).map(candidate)
  }
}

extension [Float] {
  /// The logarithm of the sum of exponentials; values that are not numbers count as minus infinity.
  var logSumExp: Double {
    let largest = reduce(-Float.infinity) { $1 > $0 ? $1 : $0 }
    guard largest.isFinite else { return Double(largest) }
    return Double(largest) + log(reduce(0.0) { $1.isNaN ? $0 : $0 + exp(Double($1) - Double(largest)) })
  }

  /// The indices of the `count` largest numbers, largest first, equal ones by index; NaN is not a number.
  ///
  /// Cost: O(n log count).
  func largestIndices(_ count: Int) -> [Int] {
    guard count > 0 else { return [] }
    func precedes(_ a: Int, _ b: Int) -> Bool { self[a] > self[b] || (self[a] == self[b] && a < b) }
    guard count < self.count else { return indices.filter { !self[$0].isNaN }.sorted(by: precedes) }
    // A heap with the smallest of the largest numbers first, so that most numbers cost one comparison.
    var heap: [Int] = []
    func siftDown(_ heap: inout [Int]) {
      var parent = 0
      while true {
        var child = 2 * parent + 1
        guard child < heap.count else { return }
        if child + 1 < heap.count, precedes(heap[child], heap[child + 1]) { child += 1 }
        guard precedes(heap[parent], heap[child]) else { return }
        heap.swapAt(parent, child)
        parent = child
      }
    }
    for index in indices where !self[index].isNaN {
      if heap.count < count {
        heap.append(index)
        // Sorted from the smallest on, the array is a heap.
        if heap.count == count { heap.sort { precedes($1, $0) } }
      } else if precedes(index, heap[0]) {
        heap[0] = index
        siftDown(&heap)
      }
    }
    return heap.sorted(by: precedes)
  }
}
