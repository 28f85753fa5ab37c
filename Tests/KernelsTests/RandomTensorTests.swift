import Kernels
import Testing

@Suite struct RandomTensorTests {
  private func tensor(
    _ shape: [Int], element: ElementType = .f32, seed: UInt64 = 7, threads: Int = 1, mean: Float = 0
  ) -> Tensor {
    Tensor(
      randomShape: shape, mean: mean, deviation: 0.5, element: element, seed: seed, workers: Workers(count: threads))
  }

  @Test func `has the mean and the deviation that was asked for`() {
    let values = tensor([300, 300], mean: 2).floats().map(Double.init)
    let mean = values.reduce(0, +) / 90_000
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 90_000
    // Five standard errors: 0.5 / 300 of the mean, and less than 0.25 · √2 / 300 of the variance.
    #expect(abs(mean - 2) < 5 * 0.5 / 300)
    #expect(abs(variance - 0.25) < 5 * 0.25 * 1.4143 / 300)
    #expect(values.allSatisfy { abs($0 - 2) <= 0.5 * 3.4642 })
  }

  @Test func `is the same for any number of threads, and another for another seed`() {
    let values = tensor([3, 50_000]).floats()
    #expect(tensor([3, 50_000], threads: 3).floats() == values)
    #expect(tensor([3, 50_000], seed: 8).floats() != values)
    #expect(Set(values).count > 80_000)
  }

  @Test func `rounds to bf16`() {
    let (floats, brain) = (tensor([1000]).floats(), tensor([1000], element: .bf16).floats())
    for (float, brain) in zip(floats, brain) { #expect(abs(float - brain) <= abs(float) / 256) }
    #expect(floats != brain)
  }

  @Test func `an empty shape has no numbers`() {
    #expect(tensor([0, 5]).floats().isEmpty)
  }
}
