import Foundation
import Kernels
import TestSupport
import Testing

@Suite struct AttentionTests {
  /// Numbers of queries and keys. Without optimisation the plain loops are slow.
  private static let sizes =
    isOptimized
    ? [
      (1, 1), (1, 2), (1, 70), (1, 260), (2, 129), (3, 7), (5, 5), (17, 127), (63, 63), (64, 64), (65, 65), (66, 130),
      (70, 300), (600, 600),
    ] : [(1, 2), (3, 7), (17, 127)]

  @Test(arguments: sizes)
  func `agrees with plain loops, causal and grouped-query`(queryRows: Int, keyRows: Int) {
    // Fewer layouts for many rows, as the plain loops are slow.
    var layouts = queryRows > 100 ? [(1, 6)] : [(1, 6), (2, 6), (4, 6), (4, 16), (1, 33)]
    if queryRows <= 64 { layouts.append((2, 72)) }
    for (keyValueHeads, dimension) in layouts {
      let heads = HeadLayout(
        headCount: queryRows > 100 ? 1 : 4, keyValueHeadCount: keyValueHeads, headDimension: dimension)
      var numbers = SeededGenerator(UInt64(queryRows * keyRows))
      let (q, k, v) = inputs(&numbers, heads, queryRows, keyRows)
      let expected = plainAttention(q, k, v, heads, queryRows, keyRows) { keyRows - queryRows + $0 + 1 }
      // With keys and values rounded in the reference too, the same bound holds for caches of other types.
      let (k16, v16) = (k.map(rounded), v.map(rounded))
      let expected16 = plainAttention(q, k16, v16, heads, queryRows, keyRows) { keyRows - queryRows + $0 + 1 }
      let (k8, v8) = (stored(k, heads, .int8), stored(v, heads, .int8))
      let expected8 = plainAttention(q, k8, v8, heads, queryRows, keyRows) { keyRows - queryRows + $0 + 1 }
      for variant in InstructionSet.allCases where variant.isAvailable && variant < .avx512BF16 {
        let difference = Difference.absolute(causal(q, k, v, heads, .f32, variant), expected)
        #expect(difference.largest <= 1e-5, "\(variant) \(difference)")
        let stored = Difference.absolute(causal(q, k, v, heads, .bf16, variant), expected16)
        #expect(stored.largest <= 1e-5, "\(variant), bf16 cache, \(stored)")
        let quantized = Difference.absolute(causal(q, k, v, heads, .int8, variant), expected8)
        #expect(quantized.largest <= 1e-5, "\(variant), int8 cache, \(quantized)")
      }
    }
  }

  /// Key-value heads and head dimensions.
  private static let smallLayouts = [(4, 6), (1, 16), (2, 33), (4, 64)]

  @Test(
    .enabled(if: InstructionSet.avx512BF16.isAvailable, "needs AVX512_BF16"),
    arguments: isOptimized
      ? [(1, 1), (1, 260), (2, 3), (3, 3), (17, 127), (64, 64), (65, 65), (70, 301)] : [(1, 1), (3, 3), (17, 33)],
    [InstructionSet.avx512BF16, .avx512AMX].filter(\.isAvailable))
  func `rounds only the operands of matmuls to bf16`(size: (queryRows: Int, keyRows: Int), variant: InstructionSet) {
    let (queryRows, keyRows) = size
    for (keyValueHeads, dimension) in Self.smallLayouts + (isOptimized ? [(4, 72), (2, 96), (1, 128)] : []) {
      let heads = HeadLayout(headCount: 4, keyValueHeadCount: keyValueHeads, headDimension: dimension)
      var numbers = SeededGenerator(UInt64(queryRows * keyRows))
      let (q, k, v) = inputs(&numbers, heads, queryRows, keyRows)
      // Blocks of one or two queries are computed in f32.
      let isPanel = queryRows > 2 || (queryRows == 1 && heads.headCount / keyValueHeads > 2)
      for type in CacheType.allCases {
        // Integers are exact in bf16; their scales are f32.
        let isRounded = isPanel && type == .f32
        let (queries, keys, values) = (
          isPanel ? q.map(rounded) : q, isRounded ? k.map(rounded) : stored(k, heads, type),
          isRounded ? v.map(rounded) : stored(v, heads, type)
        )
        let expected = plainAttention(queries, keys, values, heads, queryRows, keyRows) { keyRows - queryRows + $0 + 1 }
        let difference = Difference.absolute(causal(q, k, v, heads, type, variant), expected)
        // The remaining error is the rounding of probabilities, or for int8 of their products with a scale. Values are
        // at most 1.
        let bound: Double = isPanel ? (type == .int8 ? 0x1p-8 : 0x1p-9) + 1e-5 : 1e-5
        #expect(difference.largest <= bound, "\(queryRows) of \(keyRows) \(difference)")
      }
    }
  }

  @Test(
    .enabled(if: InstructionSet.avx512VNNI.isAvailable, "needs VNNI"),
    arguments: isOptimized
      ? [(1, 1), (1, 260), (2, 3), (3, 3), (17, 127), (64, 64), (65, 65), (70, 301)] : [(1, 1), (3, 3), (17, 33)],
    [InstructionSet.avx512VNNI, .avx512BF16, .avx512AMX].filter(\.isAvailable))
  func `int8 scores are those of quantized queries and keys`(
    size: (queryRows: Int, keyRows: Int), variant: InstructionSet
  ) {
    let (queryRows, keyRows) = size
    for (keyValueHeads, dimension) in Self.smallLayouts + (isOptimized ? [(4, 72), (2, 96), (1, 128)] : []) {
      let heads = HeadLayout(headCount: 4, keyValueHeadCount: keyValueHeads, headDimension: dimension)
      let queryHeads = HeadLayout(headCount: 4, keyValueHeadCount: 4, headDimension: dimension)
      let isPanel = queryRows > 2 || (queryRows == 1 && heads.headCount / keyValueHeads > 2)
      // Scores of at most 45, and of thousands.
      for (magnitude, bound) in [(Float(1), 1e-5), (100, 2e-3)] {
        var numbers = SeededGenerator(UInt64(queryRows * keyRows))
        var (q, k, v) = inputs(&numbers, heads, queryRows, keyRows)
        for i in q.indices { q[i] *= magnitude }
        // The first row of a head has zeros only.
        for i in 0..<dimension { (q[i], k[i]) = (0, 0) }
        for type in CacheType.allCases {
          let isRounded = isPanel && type == .f32 && variant >= .avx512BF16
          // A row of an int8 cache is used as it is, and any other is quantized.
          let queries = isPanel ? stored(q, queryHeads, .int8) : q
          let keys = isPanel ? stored(stored(k, heads, type), heads, .int8) : stored(k, heads, type)
          let values = isRounded ? v.map(rounded) : stored(v, heads, type)
          let expected = plainAttention(queries, keys, values, heads, queryRows, keyRows) {
            keyRows - queryRows + $0 + 1
          }
          let difference = Difference.absolute(causal(q, k, v, heads, type, variant, scores: .int8), expected)
          // Of probabilities, as with float scores. The factors of large scores are rounded, too.
          let rounding: Double = isPanel && variant >= .avx512BF16 ? (type == .int8 ? 0x1p-8 : 0x1p-9) : 0
          #expect(difference.largest <= rounding + bound, "\(queryRows) of \(keyRows), \(type) \(difference)")
        }
      }
    }
  }

  @Test(arguments: InstructionSet.allCases.filter(\.isAvailable))
  func `agrees with plain loops for extreme scores and many heads of one key head`(variant: InstructionSet) {
    let heads = HeadLayout(headCount: 40, keyValueHeadCount: 2, headDimension: 8)
    for (queryRows, keyRows) in [(1, 33), (2, 20), (33, 150)] {
      var numbers = SeededGenerator(11)
      var (q, k, v) = inputs(&numbers, heads, queryRows, keyRows)
      // Scores of about plus and minus 10,000; powers of two are exact in bf16.
      for i in q.indices { q[i] = q[i] < 0 ? -64 : 64 }
      for i in k.indices { k[i] = k[i] < 0 ? -64 : 64 }
      v = v.map(rounded)
      let expected = plainAttention(q, k, v, heads, queryRows, keyRows) { keyRows - queryRows + $0 + 1 }
      let difference = Difference.absolute(causal(q, k, v, heads, .f32, variant), expected)
      #expect(difference.largest <= (variant == .avx512BF16 ? 0x1p-9 : 1e-5), "\(difference)")
    }
  }

  @Test func `counts visible query-key pairs`() {
    let heads = HeadLayout(headCount: 4, keyValueHeadCount: 2, headDimension: 6)
    for (rows, keyRows) in [(1, 1), (1, 70), (66, 130)] {
      let compute = ComputeContext(workers: Workers(count: 2))
      let zeros = Matrix(rows: keyRows, columns: heads.keyValueColumns)
      var cache = CacheRows(heads, type: .f32)
      cache.append(zeros)
      var result = Matrix(rows: 0, columns: heads.queryColumns)
      compute.causalAttention(
        &result, queries: Matrix(rows: rows, columns: heads.queryColumns), keys: cache, values: cache, heads: heads)
      let pairs = (0..<rows).reduce(0) { $0 + keyRows - rows + $1 + 1 }
      #expect(compute.ledger.total(.encode) == 2 * heads.queryColumns * pairs)
    }
  }

  @Test func `gives the same bits on any number of threads`() {
    let heads = HeadLayout(headCount: 6, keyValueHeadCount: 3, headDimension: 16)
    for (rows, keyRows) in [(1, 300), (150, 150)] {
      var numbers = SeededGenerator(7)
      let (q, k, v) = inputs(&numbers, heads, rows, keyRows)
      let alone = causal(q, k, v, heads, .f32, min(.detected, .avx512), threads: 1)
      for threads in [2, 3] {
        #expect(causal(q, k, v, heads, .f32, min(.detected, .avx512), threads: threads) == alone)
      }
    }
  }

  @Test(arguments: [1, 20])
  func `propagates NaN`(rows: Int) {
    let heads = HeadLayout(headCount: 2, keyValueHeadCount: 2, headDimension: 8)
    for variant in InstructionSet.allCases where variant.isAvailable {
      var numbers = SeededGenerator(9)
      var (q, k, v) = inputs(&numbers, heads, rows, 40)
      q[0] = .nan
      for scores in ScoreType.allCases {
        #expect(causal(q, k, v, heads, .f32, variant, scores: scores)[0].isNaN, "\(variant) \(scores)")
      }
      q[0] = 1
      (k[0], v[0]) = (.nan, .nan)
      for scores in ScoreType.allCases {
        #expect(causal(q, k, v, heads, .f32, variant, scores: scores)[0].isNaN, "\(variant) \(scores)")
      }
    }
  }

  @Test func `selects the key with the dominant score`() {
    let heads = HeadLayout(headCount: 1, keyValueHeadCount: 1, headDimension: 4)
    for variant in InstructionSet.allCases where variant.isAvailable && variant < .avx512BF16 {
      for rows in [1, 9] {
        // Scores rise by 64 from key to key, so the last visible key of a query has all the probability.
        let keyRows = 270
        let q = [Float](repeating: 1, count: rows * 4)
        let k = (0..<keyRows).flatMap { [Float](repeating: Float($0) * 32, count: 4) }
        let v = (0..<keyRows).flatMap { [Float](repeating: Float($0 % 100), count: 4) }
        let expected = (0..<rows).flatMap { [Float](repeating: Float((keyRows - rows + $0) % 100), count: 4) }
        let difference = Difference.absolute(causal(q, k, v, heads, .f32, variant), expected)
        // Values below 100, rounded twice.
        #expect(difference.largest <= 200 * 0x1p-24, "\(variant) \(difference)")
      }
    }
  }

  /// Causal attention by a kernel, with a cache of a type, `[queryRows, heads · d]`.
  private func causal(
    _ q: [Float], _ k: [Float], _ v: [Float], _ heads: HeadLayout, _ type: CacheType,
    _ variant: InstructionSet, scores: ScoreType = .float, threads: Int = 2
  ) -> [Float] {
    var keys = CacheRows(heads, type: type)
    var values = CacheRows(heads, type: type)
    keys.append(Matrix(k, columns: heads.keyValueColumns))
    values.append(Matrix(v, columns: heads.keyValueColumns))
    var result = Matrix(rows: 0, columns: heads.queryColumns)
    ComputeContext(workers: Workers(count: threads, processors: threads)).causalAttention(
      &result, queries: Matrix(q, columns: heads.queryColumns), keys: keys, values: values, heads: heads,
      with: AttentionKernel(variant, scores: scores))
    return result.values
  }

  /// The values of rows in a cache of a type.
  private func stored(_ rows: [Float], _ heads: HeadLayout, _ type: CacheType) -> [Float] {
    var cache = CacheRows(heads, type: type)
    cache.append(Matrix(rows, columns: heads.keyValueColumns))
    return cache.widened().values
  }

  /// Rounds to bf16, to nearest, ties to even.
  private func rounded(_ x: Float) -> Float {
    Float(bitPattern: (x.bitPattern + 0x7FFF + (x.bitPattern >> 16) & 1) & 0xFFFF_0000)
  }

  @Test func `full attention is limited to its own sequence`() {
    let heads = HeadLayout(headCount: 2, keyValueHeadCount: 2, headDimension: 8)
    var numbers = SeededGenerator(3)
    let (q, k, v) = inputs(&numbers, heads, 3 * 70, 3 * 70)
    let columns = heads.queryColumns
    let compute = ComputeContext(workers: Workers(count: 2))
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

  @Test func `last-row probabilities agree with plain attention in the mean over heads`() {
    let heads = HeadLayout(headCount: 4, keyValueHeadCount: 2, headDimension: 4)
    var numbers = SeededGenerator(5)
    let (q, k, _) = inputs(&numbers, heads, 2, 37)
    let found = columnMeans(
      ComputeContext(workers: Workers(count: 2)).lastRowProbabilities(
        queries: Matrix(q, columns: heads.queryColumns), keys: Matrix(k, columns: heads.keyValueColumns), heads: heads))
    // With values of 1 for one key and 0 for all others, plain attention returns the probability of that key.
    let lastQuery = Array(q.suffix(heads.queryColumns))
    let expected = (0..<37).map { key in
      let v = (0..<37).flatMap { row in [Float](repeating: row == key ? 1 : 0, count: heads.keyValueColumns) }
      let row = plainAttention(lastQuery, k, v, heads, 1, 37) { _ in 37 }
      return stride(from: 0, to: row.count, by: heads.headDimension).reduce(Float(0)) { $0 + row[$1] } / 4
    }
    let difference = Difference.absolute(found, expected)
    #expect(difference.largest <= 1e-6, "\(difference)")
  }

  /// Random queries, keys and values.
  private func inputs(
    _ numbers: inout SeededGenerator, _ heads: HeadLayout, _ queryRows: Int, _ keyRows: Int
  ) -> ([Float], [Float], [Float]) {
    (
      numbers.floats(queryRows * heads.queryColumns, in: -2...2),
      numbers.floats(keyRows * heads.keyValueColumns, in: -2...2),
      numbers.floats(keyRows * heads.keyValueColumns)
    )
  }

  /// Attention by its definition, in double precision, `[queryRows, heads · d]`.
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
