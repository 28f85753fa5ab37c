import Kernels
import TestSupport
import Testing

@Suite struct CacheRowsTests {
  @Test(arguments: CacheType.allCases)
  func `keeps rows when it grows and counts bytes`(type: CacheType) {
    var cache = CacheRows(heads(1, of: 2), type: type)
    #expect(cache.byteCount == 0)
    for i in 0..<100 { cache.append(Matrix([Float(i), Float(i), Float(-i), 0], columns: 2)) }
    cache.reserve(rows: 1000)
    #expect(cache.rows == 200)
    #expect(cache.byteCount == 200 * (type == .f32 ? 8 : type == .bf16 ? 4 : 2 + 4))
    let expected: [Float] = (0..<100).flatMap { (i: Int) -> [Float] in [Float(i), Float(i), Float(-i), 0] }
    // The largest value of a row is 127 times its scale, which is rounded.
    let difference = Difference.absolute(cache.widened().values, expected)
    #expect(difference.largest <= (type == .int8 ? 100 * 0x1p-23 : 0), "\(difference)")
    let copy = CacheRows(copying: cache, capacity: 300)
    #expect(copy.widened().values == cache.widened().values)
  }

  @Test func `rounds to bf16, to nearest, ties to even`() {
    let one: Float = 1
    let step: Float = 0x1p-7
    var cache = CacheRows(heads(1, of: 1), type: .bf16)
    let values: [Float] = [
      one + step / 2, one + step * 1.5, one + step * 0.51, -one - step * 0.49, .infinity, -.infinity,
      .greatestFiniteMagnitude, 0x1p-140, Float(bitPattern: 0x7F80_0001), Float(bitPattern: 0x7FFF_FFFF),
    ]
    cache.append(Matrix(values, columns: 1))
    let found = cache.widened().values
    let expected: [Float] = [one, one + step * 2, one + step, -one, .infinity, -.infinity, .infinity, 0]
    #expect(Array(found.prefix(8)) == expected)
    #expect(found[8].isNaN && found[9].isNaN)
  }

  @Test func `rounds to int8 with a scale for each row and head`() {
    var cache = CacheRows(heads(2, of: 3), type: .int8)
    cache.append(Matrix([127, 0.4, -126.6, 1, -0.5, 0.25, 0, 0, 0, .nan, 1, 2, .infinity, 1, 2, 1, 1, 1], columns: 6))
    let found = cache.widened().values
    #expect(Array(found[0..<3]) == [127, 0, -127])
    #expect(Difference.absolute(Array(found[3..<6]), [1, -0.5, 0.25]).largest <= 0.5 / 127)
    #expect(Array(found[6..<9]) == [0, 0, 0])
    #expect(found[9..<12].allSatisfy { $0.isNaN })
    #expect(found[12..<15].allSatisfy { !$0.isFinite })
  }

  private func heads(_ count: Int, of size: Int) -> HeadLayout {
    HeadLayout(headCount: count, keyValueHeadCount: count, headDimension: size)
  }
}
