import Foundation
import Kernels
import TestSupport
import Testing

@Suite struct RankingScoresTests {
  private let compute = ComputeContext(workers: Workers(count: 2))

  @Test(arguments: [1, 31, 32, 33, 100])
  func `norms are per head and row`(dimension: Int) {
    let heads = HeadLayout(headCount: 6, keyValueHeadCount: 3, headDimension: dimension)
    var numbers = SeededGenerator(7)
    let x = numbers.floats(5 * 3 * dimension)
    let found = compute.headNorms(Matrix(x, columns: 3 * dimension), heads: heads).values
    let expected = (0..<15).map { i in
      let (head, row) = (i / 5, i % 5)
      let part = x[(row * 3 + head) * dimension..<(row * 3 + head + 1) * dimension]
      return Float(part.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot())
    }
    expectClose(found, expected, 1e-5, "norms")
  }

  @Test func `an exponential has no excess; zeros and NaN give -infinity`() {
    let places = [3, 5, 6, 11, 40]
    let line = places.map { Float(0.25 * exp(-0.1 * Double($0))) }
    expectClose(compute.logResiduals(line, over: places), [0, 0, 0, 0, 0], 1e-6, "excess")
    let excess = compute.logResiduals([0, line[1], line[2], .nan, line[4]], over: places)
    #expect(excess[0] == -.infinity && excess[3] == -.infinity)
    expectClose([excess[1], excess[2], excess[4]], [0, 0, 0], 1e-6, "excess")
    #expect(compute.logResiduals([1], over: [7]) == [0] && compute.logResiduals([], over: []).isEmpty)
  }

  @Test func `a reversed table inverts RoPE`() {
    var table = RotaryTable(headDimension: 8, theta: 10_000)
    var inverse = table.reversed
    var numbers = SeededGenerator(2)
    let x = numbers.floats(3 * 16)
    var rotated = Matrix(x, columns: 16)
    compute.rotate(&rotated, to: [0, 7, 900], &table)
    #expect(Difference.absolute(rotated.values, x).largest > 0.1)
    compute.rotate(&rotated, to: [0, 7, 900], &inverse)
    expectClose(rotated.values, x, 1e-6, "inverse rotation")
  }
}
