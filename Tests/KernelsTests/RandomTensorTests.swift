import Kernels
import Testing

@Suite struct RandomTensorTests {
  private func tensor(
    _ shape: [Int], element: ElementType = .f32, seed: UInt64 = 7, threads: Int = 1, mean: Float = 0
  ) -> Tensor {
    Tensor(
      randomShape: shape, mean: mean, deviation: 0.5, element: element, seed: seed, workers: Workers(count: threads))
  }

  @Test func `has the requested mean and deviation`() {
    let values = tensor([300, 300], mean: 2).floats().map(Double.init)
    let mean = values.reduce(0, +) / 90_000
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 90_000
    // Five standard errors: 0.5 / 300 for the mean, less than 0.25 · √2 / 300 for the variance.
    #expect(abs(mean - 2) < 5 * 0.5 / 300)
    #expect(abs(variance - 0.25) < 5 * 0.25 * 1.4143 / 300)
    #expect(values.allSatisfy { abs($0 - 2) <= 0.5 * 3.4642 })
  }

  @Test func `depends on the seed, not on the number of threads`() {
    let values = tensor([3, 50_000]).floats()
    #expect(tensor([3, 50_000], threads: 3).floats() == values)
    #expect(tensor([3, 50_000], seed: 8).floats() != values)
    #expect(Set(values).count > 80_000)
  }

  @Test func `rounds to bf16`() {
    let (exact, rounded) = (tensor([1000]).floats(), tensor([1000], element: .bf16).floats())
    for (exact, rounded) in zip(exact, rounded) { #expect(abs(exact - rounded) <= abs(exact) / 256) }
    #expect(exact != rounded)
  }

  @Test func `an empty shape has no values`() {
    #expect(tensor([0, 5]).floats().isEmpty)
  }
}
