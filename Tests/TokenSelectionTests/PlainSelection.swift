import Foundation

/// The selections by their definitions in double precision, with all scores computed at every step.
enum PlainSelection {
  typealias Vectors = [[Double]]

  /// Cosines of all pairs, rounded to nine decimals so that ties are exact.
  static func cosines(_ x: Vectors, _ y: Vectors) -> Vectors {
    func norm(_ v: [Double]) -> Double { v.reduce(0) { $0 + $1 * $1 }.squareRoot() }
    return x.map { a in
      y.map { b in
        let length = norm(a) * norm(b)
        let product = zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
        return length == 0 ? 0 : (product / length * 1e9).rounded() / 1e9
      }
    }
  }

  /// Chooses the largest score `count` times, the lowest index of those within rounding of it.
  static func greedy(_ tokens: Int, _ count: Int, _ score: (_ token: Int, _ chosen: [Int]) -> Double) -> [Int] {
    var chosen: [Int] = []
    while chosen.count < min(count, tokens) {
      let left = (0..<tokens).filter { !chosen.contains($0) }
      let scores = left.map { score($0, chosen) }
      let best = scores.max() ?? 0
      chosen.append(left[scores.firstIndex { $0 >= best - 1e-9 * max(1e-3, abs(best)) } ?? 0])
    }
    return chosen
  }

  static func classAttention(_ attention: [Double], _ count: Int) -> [Int] {
    greedy(attention.count, count) { token, _ in attention[token] }
  }

  static func scope(_ features: Vectors, _ attention: [Double], alpha: Double, _ count: Int) -> [Int] {
    let similarity = cosines(features, features)
    return greedy(features.count, count) { token, chosen in
      let gain = features.indices.reduce(0.0) { total, j in
        total + max(0, similarity[token][j] - chosen.reduce(0) { max($0, similarity[$1][j]) })
      }
      return gain * pow(attention[token], alpha)
    }
  }

  static func divPrune(_ embeddings: Vectors, _ count: Int) -> [Int] {
    let similarity = cosines(embeddings, embeddings)
    return greedy(embeddings.count, count) { token, chosen in
      let others = chosen.isEmpty ? embeddings.indices.filter { $0 != token } : chosen
      return others.map { 1 - similarity[token][$0] }.min() ?? 0
    }
  }

  static func mmTok(_ embeddings: Vectors, _ features: Vectors, _ question: Vectors, _ count: Int) -> [Int] {
    func softmax(_ rows: Vectors, _ temperature: Double, _ weight: Double) -> Vectors {
      rows.map { row in
        let powers = row.map { exp(($0 - (row.max() ?? 0)) / temperature) }
        return powers.map { weight * $0 / powers.reduce(0, +) }
      }
    }
    let rows =
      softmax(cosines(question, embeddings), 0.02, 1 / Double(max(1, question.count)))
      + softmax(cosines(features, features), 0.2, 0.5 / Double(features.count))
    return greedy(embeddings.count, count) { token, chosen in
      rows.reduce(0) { total, row in total + max(0, row[token] - chosen.reduce(0) { max($0, row[$1]) }) }
    }
  }

  static func cdPruner(_ embeddings: Vectors, _ question: Vectors, _ count: Int) -> [Int] {
    let means = cosines(embeddings, question).map { $0.reduce(0, +) / Double(max(1, question.count)) }
    let (least, most) = (means.min() ?? 0, means.max() ?? 0)
    let relevance = means.map { most > least ? ($0 - least + 1e-6) / (most - least) : 1 }
    let similarity = cosines(embeddings, embeddings)
    func kernel(_ i: Int, _ j: Int) -> Double { relevance[i] * similarity[i][j] * relevance[j] }
    // The ratio of the determinants with and without the token, by elimination.
    return greedy(embeddings.count, count) { token, chosen in
      let rows = chosen + [token]
      var matrix = rows.map { i in rows.map { kernel(i, $0) } }
      for pivot in 0..<chosen.count {
        for row in pivot + 1..<rows.count {
          let factor = matrix[row][pivot] / matrix[pivot][pivot]
          for column in pivot..<rows.count { matrix[row][column] -= factor * matrix[pivot][column] }
        }
      }
      return matrix[chosen.count][chosen.count]
    }
  }

  static func tops(_ states: Vectors, _ relevance: [Double], alpha: Double, lambda: Double, _ count: Int) -> [Int] {
    let similarity = cosines(states, states)
    func divided(_ values: [Double]) -> [Double] {
      let total = values.reduce(0, +)
      return values.map { total > 0 ? $0 / (total / Double(values.count)) : 0 }
    }
    var chosen = classAttention(relevance, min(1, count))
    while chosen.count < min(count, states.count) {
      let left = states.indices.filter { !chosen.contains($0) }
      func nearest(_ j: Int) -> Double { chosen.map { similarity[j][$0] }.max() ?? 0 }
      let attention = divided(left.map { relevance[$0] })
      let diversity = divided(left.map { 1 - nearest($0) })
      let coverage = divided(left.map { i in left.reduce(0) { $0 + max(0, similarity[i][$1] - nearest($1)) } })
      let scores = left.indices.map { attention[$0] + alpha * diversity[$0] + lambda * coverage[$0] }
      let best = scores.max() ?? 0
      chosen.append(left[scores.firstIndex { $0 >= best - 1e-9 * max(1e-3, abs(best)) } ?? 0])
    }
    return chosen
  }

  static func localGlobal(
    _ local: [Double], _ global: [Double], side: Int, window: Int, _ count: Int
  ) -> [Int] {
    guard count < side * side else { return Array(0..<side * side) }
    let windows = side / window
    var chosen: [Int] = []
    for y in 0..<windows {
      for x in 0..<windows {
        let inside = (0..<side * side).filter { $0 / side / window == y && $0 % side / window == x }
        chosen += greedy(inside.count, count / 2 / (windows * windows)) { token, _ in local[inside[token]] }
          .map { inside[$0] }
      }
    }
    let others = (0..<side * side).filter { !chosen.contains($0) }
    return chosen + greedy(others.count, count - count / 2) { token, _ in global[others[token]] }.map { others[$0] }
  }
}
