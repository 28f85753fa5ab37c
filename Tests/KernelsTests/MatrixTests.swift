import Kernels
import Testing

@Suite struct MatrixTests {
  @Test func `keeps rows in order`() {
    var matrix = Matrix((0..<10).map(Float.init), columns: 2)
    matrix.keepRows([0, 2, 4])
    #expect(matrix.values == [0, 1, 4, 5, 8, 9])
    matrix.keepRows([])
    #expect(matrix.rows == 0)
  }

  @Test func `keeps rows when it grows`() {
    var matrix = Matrix([1, 2], columns: 2)
    for i in 0..<100 { matrix.append(Matrix([Float(i), 0], columns: 2)) }
    #expect(matrix.rows == 101)
    #expect(matrix.rowValues(0) == [1, 2])
    #expect(matrix.rowValues(100) == [99, 0])
  }

  @Test func `replaces and assigns rows`() {
    var matrix = Matrix(rows: 3, columns: 1)
    matrix.replaceRows(from: 1, with: Matrix([5, 6], columns: 1))
    #expect(matrix.values == [0, 5, 6])
    var part = Matrix(rows: 0, columns: 1)
    part.assign(matrix, rows: 1..<2)
    #expect(part.values == [5])
  }

  @Test func `refuses rows out of range`() async {
    await #expect(processExitsWith: .failure) {
      var matrix = Matrix(rows: 2, columns: 2)
      matrix.keepRows([0, 2])
    }
    await #expect(processExitsWith: .failure) {
      let matrix = Matrix(rows: 2, columns: 2)
      _ = matrix.rowValues(2)
    }
  }
}
