import Kernels
import LLaVA
import Testing

@Suite struct LayerCostFitTests {
  /// A typical time of a 7B layer: 3 ms of overhead, 0.02 ms per row, and attention.
  private func time(_ rows: Int) -> Double { 3 + 0.02 * Double(rows) + 4e-6 * Double(rows * rows) }

  @Test func `recovers the curve through exact points`() throws {
    let rows = [1, 72, 144, 288, 576, 1152, 2304]
    let fit = try #require(LayerCostFit(rows.map { ($0, time($0)) }))
    // Rows are scaled to 1, so the system's condition number is below 1000: an error of 1000 units in the last place.
    #expect(abs(fit.a / 3 - 1) < 1e-12 && abs(fit.b / 0.02 - 1) < 1e-12 && abs(fit.c / 4e-6 - 1) < 1e-12)
    #expect(fit.residual < 1e-12)
    #expect(abs(fit.milliseconds(1000) / time(1000) - 1) < 1e-12)
  }

  @Test func `no other curve has smaller differences, and the residual is their root mean square`() throws {
    // The points are alternately 10% above and below the curve.
    let points = [64, 128, 256, 512, 1024, 2048].enumerated().map { i, rows in
      (rows: rows, milliseconds: time(rows) * (i.isMultiple(of: 2) ? 1.1 : 0.9))
    }
    let fit = try #require(LayerCostFit(points))
    func squares(_ a: Double, _ b: Double, _ c: Double) -> Double {
      points.reduce(0) { sum, point in
        let n = Double(point.rows)
        let difference = (a + b * n + c * n * n) / point.milliseconds - 1
        return sum + difference * difference
      }
    }
    let least = squares(fit.a, fit.b, fit.c)
    #expect(abs((least / 6).squareRoot() - fit.residual) < 1e-12)
    for change in [0.99, 1.01] {
      #expect(squares(fit.a * change, fit.b, fit.c) > least)
      #expect(squares(fit.a, fit.b * change, fit.c) > least)
      #expect(squares(fit.a, fit.b, fit.c * change) > least)
    }
  }

  @Test func `requires at least three row counts`() {
    #expect(LayerCostFit([(1, 1), (2, 2)]) == nil)
    #expect(LayerCostFit([(1, 1), (2, 0), (3, 3)]) == nil)
    #expect(LayerCostFit([(5, 1), (5, 1), (9, 2), (9, 2)]) == nil)
  }
}
