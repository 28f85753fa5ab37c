import Kernels
@testable import LLaVA
import TestSupport
import Testing

/// Norms before layers in int8.
@Suite struct LayerNormTests {
  private let compute = ComputeContext(workers: Workers(count: 2))
  private let size = 192

  private func norm(outliers: [Int: Float]) -> LayerNorm {
    var numbers = SeededGenerator(1)
    let (weight, bias) = (numbers.floats(size, in: 0.5...1.5), numbers.floats(size, in: -0.2...0.2))
    return LayerNorm(
      weight: weight.indices.map { weight[$0] * (outliers[$0] ?? 1) },
      bias: bias.indices.map { bias[$0] * (outliers[$0] ?? 1) })
  }

  /// A layer whose columns make up for outliers.
  private func layer(outliers: [Int: Float]) -> Linear {
    var numbers = SeededGenerator(2)
    let weight = numbers.floats(64 * size)
    return Linear(
      weight: Tensor(weight.indices.map { weight[$0] / (outliers[$0 % size] ?? 1) }, shape: [64, size]))
  }

  private func result(_ norm: LayerNorm, _ layer: Linear) -> [Float] {
    var numbers = SeededGenerator(3)
    let x = Matrix(numbers.floats(20 * size), columns: size)
    var normalized = Matrix(rows: 0, columns: size)
    var y = Matrix(rows: 0, columns: 64)
    compute.layerNorm(&normalized, x, weight: norm.weight, bias: norm.bias, epsilon: 1e-5)
    compute.matmul(&y, normalized, by: layer, .mlpUp)
    return y.values
  }

  private func error(_ found: [Float], _ exact: [Float]) -> Float {
    let squares = zip(found, exact).map { ($0 - $1) * ($0 - $1) }
    return (squares.reduce(0, +) / exact.map { $0 * $0 }.reduce(0, +)).squareRoot()
  }

  @Test func `outliers cost int8 little of its precision`() throws {
    let outliers: [Int: Float] = [3: 32, 70: 32, 190: 64]
    let (norm, layer) = (norm(outliers: outliers), layer(outliers: outliers))
    let exact = result(norm, layer)
    let (balanced, found) = norm.balanced(for: .int8)
    let factors = try #require(found)
    #expect(Set(factors.indices.filter { factors[$0] != 1 }) == Set(outliers.keys))
    let scaled = layer.multiplied(columns: factors, workers: Workers(count: 1))
    // Powers of two round nothing.
    #expect(result(balanced, scaled) == exact)

    func quantized(_ layer: Linear) -> Linear { layer.converted(to: .int8, workers: Workers(count: 1)) }
    let without = error(result(norm, quantized(layer)), exact)
    let with = error(result(balanced, quantized(scaled)), exact)
    #expect(with < without / 4, "\(with) instead of \(without)")
  }

  @Test func `norms without outliers, and those before other types, stay as they are`() {
    let (plain, outlier) = (norm(outliers: [:]), norm(outliers: [5: 100]))
    for (norm, type) in [(plain, ComputeType.int8), (outlier, .bf16), (outlier, .f32), (outlier, .blocks)] {
      let (balanced, factors) = norm.balanced(for: type)
      #expect(factors == nil && balanced.weight == norm.weight && balanced.bias == norm.bias)
    }
  }

  /// Extreme weights give finite factors.
  @Test(arguments: [Float.infinity, .nan, .greatestFiniteMagnitude, 0])
  func `any weights are accepted`(value: Float) throws {
    for weight in [[value, 1, 1], [value, value, 1], [value, value, value]] {
      let (balanced, factors) = LayerNorm(weight: weight, bias: [0, 0, 0]).balanced(for: .int8)
      #expect(balanced.weight.count == 3)
      #expect((factors ?? []).allSatisfy { $0.isFinite && $0 >= 1 })
    }
  }
}
