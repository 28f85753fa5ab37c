/// The indices of the `count` largest scores, ascending. Ties prefer the lower index; NaN ranks as -infinity.
///
/// - Precondition: `count` is at most the number of scores.
package func topIndices(_ scores: [Float], count: Int) -> [Int] {
  precondition(count >= 0 && count <= scores.count, "topIndices: \(count) of \(scores.count)")
  if count == scores.count { return Array(scores.indices) }
  let rank = scores.map { $0.isNaN ? -Float.infinity : $0 }
  let best = rank.indices.sorted { rank[$0] > rank[$1] || (rank[$0] == rank[$1] && $0 < $1) }
  return best.prefix(count).sorted()
}

/// The indices of the `count` largest scores, ascending; those in `last` are used only after all others.
///
/// - Parameter last: Ascending indices.
package func topIndices(_ scores: [Float], count: Int, last: [Int]) -> [Int] {
  guard !last.isEmpty else { return topIndices(scores, count: count) }
  let isLast = Set(last)
  let others = scores.indices.filter { !isLast.contains($0) }
  func top(_ indices: [Int], _ count: Int) -> [Int] {
    topIndices(indices.map { scores[$0] }, count: count).map { indices[$0] }
  }
  let count = (others: min(count, others.count), last: max(0, count - others.count))
  return (top(others, count.others) + top(last, count.last)).sorted()
}

/// The index of the largest value, the first one of ties; `nil` if all values are NaN or there are none.
package func indexOfMaximum(_ values: [Float]) -> Int? {
  var best: Int?
  for i in values.indices where !values[i].isNaN {
    if let current = best, values[i] <= values[current] { continue }
    best = i
  }
  return best
}
