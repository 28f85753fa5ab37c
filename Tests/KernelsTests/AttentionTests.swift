import Foundation
import Kernels
import TestSupport
import Testing

@Suite struct AttentionTests {
  @Test(arguments: [(1, 1), (1, 70), (5, 5), (63, 63), (64, 64), (65, 65), (66, 130)])
  func `agrees with the plain loops, causal and grouped`(queryRows: Int, keyRows: Int) {
    for keyValueHeads in [1, 2, 4] {
      let heads = HeadLayout(headCount: 4, keyValueHeadCount: keyValueHeads, headDimension: 6)
      var numbers = SeededGenerator(UInt64(queryRows * keyRows))
      let (q, k, v) = inputs(&numbers, heads, queryRows, keyRows)
      var result = Matrix(rows: 0, columns: heads.queryColumns)
      let compute = Compute(workers: Workers(count: 2))
      compute.causalAttention(
        &result, queries: Matrix(q, columns: heads.queryColumns), keys: Matrix(k, columns: heads.keyValueColumns),
        values: Matrix(v, columns: heads.keyValueColumns), heads: heads)
      let expected = plainAttention(q, k, v, heads, queryRows, keyRows) { keyRows - queryRows + $0 + 1 }
      let difference = Difference.absolute(result.values, expected)
      #expect(difference.largest <= 1e-5, "\(difference)")
      let pairs = (0..<queryRows).reduce(0) { $0 + keyRows - queryRows + $1 + 1 }
      #expect(compute.ledger.total(.encode) == 2 * heads.queryColumns * pairs)
    }
  }

  @Test func `looks at nothing outside its own sequence`() {
    let heads = HeadLayout(headCount: 2, keyValueHeadCount: 2, headDimension: 8)
    var numbers = SeededGenerator(3)
    let (q, k, v) = inputs(&numbers, heads, 3 * 70, 3 * 70)
    let columns = heads.queryColumns
    let compute = Compute(workers: Workers(count: 2))
    var together = Matrix(rows: 0, columns: columns)
    compute.fullAttention(
      &together, queries: Matrix(q, columns: columns), keys: Matrix(k, columns: columns),
      values: Matrix(v, columns: columns), heads: heads, sequences: 3)
    let size = 70 * columns
    let alone = (0..<3).flatMap { i in
      let part = i * size..<(i + 1) * size
      return plainAttention(Array(q[part]), Array(k[part]), Array(v[part]), heads, 70, 70) { _ in 70 }
    }
    let difference = Difference.absolute(together.values, alone)
    #expect(difference.largest <= 1e-5, "\(difference)")
  }

  @Test func `the last row's attention is the mean over heads of what the row attends to`() {
    let heads = HeadLayout(headCount: 4, keyValueHeadCount: 2, headDimension: 4)
    var numbers = SeededGenerator(5)
    let (q, k, _) = inputs(&numbers, heads, 2, 37)
    let found = Compute(workers: Workers(count: 2)).lastRowAttention(
      queries: Matrix(q, columns: heads.queryColumns), keys: Matrix(k, columns: heads.keyValueColumns), heads: heads)
    // Values that are one for one key and zero for the others read its probability off the plain attention.
    let lastQuery = Array(q.suffix(heads.queryColumns))
    let expected = (0..<37).map { key in
      let v = (0..<37).flatMap { row in [Float](repeating: row == key ? 1 : 0, count: heads.keyValueColumns) }
      let row = plainAttention(lastQuery, k, v, heads, 1, 37) { _ in 37 }
      return stride(from: 0, to: row.count, by: heads.headDimension).reduce(Float(0)) { $0 + row[$1] } / 4
    }
    let difference = Difference.absolute(found, expected)
    #expect(difference.largest <= 1e-6, "\(difference)")
  }

  private func inputs(
    _ numbers: inout SeededGenerator, _ heads: HeadLayout, _ queryRows: Int, _ keyRows: Int
  ) -> ([Float], [Float], [Float]) {
    (
      numbers.floats(queryRows * heads.queryColumns, in: -2...2),
      numbers.floats(keyRows * heads.keyValueColumns, in: -2...2),
      numbers.floats(keyRows * heads.keyValueColumns)
    )
  }

  /// Attention as the definition has it, in double precision.
  private func plainAttention(
    _ q: [Float], _ k: [Float], _ v: [Float], _ heads: HeadLayout, _ queryRows: Int, _ keyRows: Int,
    visible: (Int) -> Int
  ) -> [Float] {
    let d = heads.headDimension
    var result = [Float](repeating: 0, count: queryRows * heads.queryColumns)
    for row in 0..<queryRows {
      for head in 0..<heads.headCount {
        let keyHead = head / (heads.headCount / heads.keyValueHeadCount)
        let scores = (0..<visible(row)).map { key in
          (0..<d).reduce(0.0) {
            $0 + Double(q[row * heads.queryColumns + head * d + $1])
              * Double(k[key * heads.keyValueColumns + keyHead * d + $1])
          } / Double(d).squareRoot()
        }
        let weights = scores.map { exp($0 - (scores.max() ?? 0)) }
        let total = weights.reduce(0, +)
        for i in 0..<d {
          let value = weights.indices.reduce(0.0) {
            $0 + weights[$1] / total * Double(v[$1 * heads.keyValueColumns + keyHead * d + i])
          }
          result[row * heads.queryColumns + head * d + i] = Float(value)
        }
      }
    }
    return result
  }
}
