import Kernels
import Testing

@Suite struct LeastSquaresTests {
  @Test func `is the mean for a column of ones`() throws {
    let x = try #require(leastSquares([1, 1, 1, 1], columns: 1, [2, 4, 9, 1]))
    #expect(abs(x[0] - 4) < 1e-14)
  }

  @Test func `residual is orthogonal to every column`() throws {
    let matrix: [Double] = [1, 2, 1, 3, 1, 5, 1, 8]
    let y: [Double] = [1, 5, 2, 7]
    let x = try #require(leastSquares(matrix, columns: 2, y))
    let residual = (0..<4).map { y[$0] - matrix[2 * $0] * x[0] - matrix[2 * $0 + 1] * x[1] }
    for column in 0..<2 {
      // Sums of four products below 100, in double precision.
      #expect(abs((0..<4).reduce(0) { $0 + residual[$1] * matrix[2 * $1 + column] }) < 1e-12)
    }
  }

  @Test func `solves three equations exactly, whatever the signs`() throws {
    for sign in [1.0, -1] {
      let x = try #require(leastSquares([2, 1, 0, sign, 3, 1, 0, 1, 4], columns: 3, [4, 9 + sign, 14]))
      #expect(zip(x, [1, 2, 3]).allSatisfy { abs($0 - $1) < 1e-14 })
    }
  }

  @Test func `refuses linearly dependent columns`() {
    #expect(leastSquares([1, 3, 2, 6, 5, 15], columns: 2, [1, 2, 3]) == nil)
    #expect(leastSquares([1, 0, 2, 0, 3, 0], columns: 2, [1, 2, 3]) == nil)
  }
}
