import Kernels

/// The index of the largest score among the candidates, the lowest on a tie; `nil` without candidates.
func best<Score: BinaryFloatingPoint>(_ scores: [Score], among isCandidate: [Bool]) -> Int? {
  var best: Int?
  for i in scores.indices where isCandidate[i] {
    if let current = best, scores[i] <= scores[current] { continue }
    best = i
  }
  return best
}

/// The indices of the scores from the largest to the smallest, lower indices first on ties.
func descending<Score: BinaryFloatingPoint>(_ scores: [Score]) -> [Int] {
  scores.indices.sorted { scores[$0] > scores[$1] || (scores[$0] == scores[$1] && $0 < $1) }
}

/// Greedy maximum coverage: at each step the candidate that adds most to what is covered.
///
/// A candidate covers each of `R` columns by a value. What is covered of a column is the largest value of the chosen,
/// at least 0. The gain of a candidate is the sum of what it adds, times its weight.
///
/// Gains never grow, in floating point either, as rounding is monotone. So the last known gain is an upper bound, and
/// only candidates at the top are computed again (Minoux 1978, accelerated greedy algorithm). The result is that of
/// computing all of them.
///
/// - Parameters:
///   - values: `[N, R]`.
///   - weights: `[N]`, 0 or more.
///   - excluded: Candidates that are never chosen.
///   - count: Number of choices.
/// - Returns: The chosen candidates in order.
func maximumCoverage(
  _ values: borrowing Matrix, weights: [Float], excluded: Set<Int> = [], count: Int, on compute: ComputeContext
) -> [Int] {
  let (rows, columns) = (values.rows, values.columns)
  var covered = [Float](repeating: 0, count: columns)
  var bounds = gains(values, weights: weights, on: compute)
  var isCandidate = (0..<rows).map { !excluded.contains($0) }
  // The step in which a bound was computed.
  var computed = [Int](repeating: 0, count: rows)
  var chosen: [Int] = []
  while chosen.count < count, let top = best(bounds, among: isCandidate) {
    guard computed[top] == chosen.count else {
      bounds[top] = gain(values.row(top), beyond: covered.span) * weights[top]
      computed[top] = chosen.count
      continue
    }
    chosen.append(top)
    isCandidate[top] = false
    let row = values.row(top)
    for i in covered.indices { covered[i] = max(covered[i], row[i]) }
  }
  return chosen
}

/// The first gain of every candidate, in parallel.
private func gains(_ values: borrowing Matrix, weights: [Float], on compute: ComputeContext) -> [Float] {
  let (span, columns) = (values.span, values.columns)
  let zeros = [Float](repeating: 0, count: columns)
  return compute.workers.map(tasks: values.rows) { row in
    gain(span.row(row, columns: columns), beyond: zeros.span) * weights[row]
  }
}

/// The sum of what the values are beyond those covered, in 32 lanes, so that every CPU gives the same bits.
private func gain(_ values: Span<Float>, beyond covered: Span<Float>) -> Float {
  var lanes = InlineArray<32, Float>(repeating: 0)
  let blocks = values.count / 32
  for block in 0..<blocks {
    let (value, cover) = (values.row(block, columns: 32), covered.row(block, columns: 32))
    for lane in 0..<32 {
      let difference = value[lane] - cover[lane]
      lanes[lane] += difference > 0 ? difference : 0
    }
  }
  var total: Float = 0
  for lane in 0..<32 { total += lanes[lane] }
  for i in blocks * 32..<values.count { total += max(0, values[i] - covered[i]) }
  return total
}
