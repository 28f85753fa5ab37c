/// Ascending numbers of tokens as a text of runs, `0+24,552+24`: first token and how many.
struct TokenRuns: Equatable {
  let tokens: [Int]

  init(_ tokens: [Int]) { self.tokens = tokens }

  /// - Parameter count: Of all tokens, each of which is named at most once.
  /// - Returns: `nil` for another text.
  init?(_ text: String, of count: Int) {
    var tokens: [Int] = []
    for run in text.split(separator: ",", omittingEmptySubsequences: false) where !text.isEmpty {
      let parts = run.split(separator: "+", omittingEmptySubsequences: false).map { Int($0) }
      guard parts.count == 2, let first = parts[0], let length = parts[1], first > tokens.last ?? -1, first < count,
        length >= 1, length <= count - first
      else { return nil }
      tokens += first..<first + length
    }
    self.tokens = tokens
  }

  var text: String {
    var runs: [Range<Int>] = []
    for token in tokens {
      if let last = runs.last, last.upperBound == token {
        runs[runs.count - 1] = last.lowerBound..<token + 1
      } else {
        runs.append(token..<token + 1)
      }
    }
    return runs.map { "\($0.lowerBound)+\($0.count)" }.joined(separator: ",")
  }
}
