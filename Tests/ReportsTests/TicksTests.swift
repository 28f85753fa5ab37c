import Foundation
import Reports
import Testing

@Suite struct TicksTests {
  private func texts(_ ticks: Ticks, _ unit: Axis.Unit = .plain) -> [String] {
    ticks.values.map { ticks.text($0, unit) }
  }

  @Test(arguments: [
    (0.0, 10.0, ["0", "2", "4", "6", "8", "10"]), (0, 0.97, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
    (0, 0.3, ["0.0", "0.1", "0.2", "0.3"]), (-3, 4, ["-4", "-2", "0", "2", "4"]),
    (11_000, 52_000, ["10,000", "20,000", "30,000", "40,000", "50,000", "60,000"]),
    (1234, 5678, ["1000", "2000", "3000", "4000", "5000", "6000"]), (7, 7, ["2", "4", "6", "8", "10", "12"]),
    (0, 0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
  ])
  func `are round numbers around the range`(low: Double, high: Double, expected: [String]) {
    let ticks = Ticks(low...high, count: 5)
    #expect(texts(ticks) == expected)
    #expect(ticks.domain.contains(low) && ticks.domain.contains(high))
  }

  @Test func `are percentages on a percentage axis`() {
    #expect(texts(Ticks(0.4...1, count: 5), .percent) == ["40%", "60%", "80%", "100%"])
    #expect(texts(Ticks(0.96...0.995, count: 5), .percent) == ["96%", "97%", "98%", "99%", "100%"])
    #expect(texts(Ticks(0.99...0.995, count: 5), .percent).first == "99.0%")
  }

  @Test(arguments: [
    (0.001, 100.0, ["0.001", "0.01", "0.1", "1", "10", "100"]), (1e-12, 1, ["1e-12", "1e-09", "1e-06", "0.001", "1"]),
    (2, 90, ["3", "10", "30", "100"]), (15, 70, ["20", "40", "60"]), (3, 4, ["3.0", "3.5", "4.0"]),
    (1, 12_000, ["1", "10", "100", "1000", "10,000"]),
  ])
  func `are powers of ten on a logarithmic axis`(low: Double, high: Double, expected: [String]) {
    let ticks = Ticks(logarithmic: low...high, count: 5)
    #expect(texts(ticks) == expected)
    #expect(ticks.domain.contains(low) && ticks.domain.contains(high))
  }

  @Test func `a scale maps values to positions`() {
    let linear = Scale(Axis("x"), [0, 8], from: 100, to: 300)
    #expect(linear.position(0) == 100 && linear.position(8) == 300 && linear.position(4) == 200)
    let down = Scale(Axis("y", reaches: [0]), [10], from: 200, to: 0)
    #expect(down.position(0) == 200 && down.position(10) == 0)
    let logarithmic = Scale(Axis("x", isLogarithmic: true), [0.01, 1, 100, 0, -1], from: 0, to: 100)
    #expect(abs(logarithmic.position(1) - 50) < 1e-9)
    // A value without a logarithm has a finite position below the lower end.
    #expect(logarithmic.position(0) < 0 && logarithmic.position(0).isFinite)
  }

  @Test func `labels do not overlap and stay on the sheet`() {
    let heights = LabelPlacement.spread([50, 52, 51, 195], apart: 14, within: 0...200)
    #expect(heights == [50, 78, 64, 195])
    let crowded = LabelPlacement.spread([199, 200, 198], apart: 14, within: 0...200)
    #expect(crowded == [186, 200, 172])

    let sheet = Frame(x: 0, y: 0, width: 100, height: 100)
    var placement = LabelPlacement(in: sheet, around: [])
    let right = placement.place("abc", besideX: 40, y: 50)
    #expect(right.x == 47)
    // The same point again: the place at the right is taken, so the label goes to the left.
    #expect(placement.place("ab", besideX: 40, y: 50).x < 40 - LabelPlacement.width("ab"))
    var edge = LabelPlacement(in: sheet, around: [])
    #expect(edge.place("abcdef", besideX: 95, y: 50).x + LabelPlacement.width("abcdef") <= 100)
  }
}
