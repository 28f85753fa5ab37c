import Kernels
import Testing

@Suite struct CacheRowsTests {
  @Test(arguments: [ElementType.f32, .bf16])
  func `keeps rows when it grows and counts bytes`(element: ElementType) {
    var cache = CacheRows(columns: 2, element: element)
    #expect(cache.byteCount == 0)
    for i in 0..<100 { cache.append(Matrix([Float(i), 0.5, Float(-i), 2], columns: 2)) }
    cache.reserve(rows: 1000)
    #expect(cache.rows == 200)
    #expect(cache.byteCount == 200 * 2 * (element == .f32 ? 4 : 2))
    let expected: [Float] = (0..<100).flatMap { (i: Int) -> [Float] in [Float(i), 0.5, Float(-i), 2] }
    #expect(cache.widened().values == expected)
  }

  @Test func `rounds to bf16, to nearest, ties to even`() {
    let one: Float = 1
    let step: Float = 0x1p-7
    var cache = CacheRows(columns: 1, element: .bf16)
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
}
