import Kernels
import Storage
import TestSupport
import Testing

/// Single operations compared with those of the reference libraries.
@Suite struct GoldenOperationTests {
  @Test func `rmsNorm`() throws {
    let golden = try Goldens.tensors("ops/rmsnorm.safetensors")
    let weight = try golden.floats("weight")
    let x = Matrix(try golden.floats("x"), columns: weight.count)
    var y = Matrix(rows: 0, columns: weight.count)
    ComputeContext(workers: Workers(count: 1)).rmsNorm(&y, x, weight: weight, epsilon: 1e-5)
    try expectClose(y.values, golden.floats("y"))
  }

  @Test func `layerNorm`() throws {
    let golden = try Goldens.tensors("ops/layernorm.safetensors")
    let weight = try golden.floats("weight")
    let x = Matrix(try golden.floats("x"), columns: weight.count)
    var y = Matrix(rows: 0, columns: weight.count)
    ComputeContext(workers: Workers(count: 1)).layerNorm(
      &y, x, weight: weight, bias: try golden.floats("bias"), epsilon: 1e-5)
    try expectClose(y.values, golden.floats("y"))
  }

  @Test(arguments: [(Activation.gelu, "gelu"), (.quickGELU, "quick_gelu"), (.silu, "silu")])
  func `activations`(activation: Activation, name: String) throws {
    let golden = try Goldens.tensors("ops/activations.safetensors")
    let x = Matrix(try golden.floats("x"), columns: 1)
    let identity = Linear(weight: Tensor([1], shape: [1, 1]))
    var y = Matrix(rows: 0, columns: 1)
    ComputeContext(workers: Workers(count: 1)).matmul(&y, x, by: identity, .mlpUp, activation: activation)
    try expectClose(y.values, golden.floats(name))
  }

  @Test func `the approximation of GELU by tanh`() throws {
    let golden = try Goldens.tensors("ops/tanh_gelu.safetensors")
    let x = Matrix(try golden.floats("x"), columns: 1)
    let identity = Linear(weight: Tensor([1], shape: [1, 1]))
    var y = Matrix(rows: 0, columns: 1)
    ComputeContext(workers: Workers(count: 1)).matmul(&y, x, by: identity, .mlpUp, activation: .tanhGELU)
    for (found, expected) in zip(y.values, try golden.floats("y")) {
      #expect(abs(found - expected) <= 1e-6 * max(1, abs(expected)), "\(expected)")
    }
  }

  @Test func `softmax of a row`() throws {
    let golden = try Goldens.tensors("ops/softmax.safetensors")
    var x = Matrix(try golden.floats("x"), columns: 40)
    for row in 0..<x.rows {
      var values = x.mutableSpan
      var span = values.row(row, columns: 40)
      softmax(&span)
    }
    try expectClose(x.values, golden.floats("y"))
  }

  @Test(arguments: [(16, 10_000), (16, 1_000_000), (128, 10_000), (128, 1_000_000)])
  func `RoPE of queries and keys`(dimension: Int, theta: Int) throws {
    let golden = try Goldens.tensors("ops/rope_hd\(dimension)_theta\(theta).safetensors")
    let positions = try golden.integers("positions")
    for name in ["q", "k"] {
      // Stored as [heads, positions, d].
      let heads = try golden.floats(name)
      let rotated = try golden.floats("\(name)_rotated")
      let size = positions.count * dimension
      for head in 0..<heads.count / size {
        var x = Matrix(Array(heads[head * size..<(head + 1) * size]), columns: dimension)
        var table = RotaryTable(headDimension: dimension, theta: Double(theta))
        ComputeContext(workers: Workers(count: 1)).rotate(&x, to: positions, &table)
        expectClose(x.values, Array(rotated[head * size..<(head + 1) * size]))
      }
    }
  }

  @Test func `gated MLP`() throws {
    let golden = try Goldens.tensors("ops/swiglu.safetensors")
    let compute = ComputeContext(workers: Workers(count: 2))
    func linear(_ name: String) throws -> Linear {
      Linear(weight: Tensor(try golden.floats(name), shape: try golden.shape(name)))
    }
    let (gateLayer, upLayer, downLayer) = (try linear("gate"), try linear("up"), try linear("down"))
    let x = Matrix(try golden.floats("x"), columns: gateLayer.inputSize)
    var gate = Matrix(rows: 0, columns: gateLayer.outputSize)
    var up = Matrix(rows: 0, columns: upLayer.outputSize)
    var y = Matrix(rows: 0, columns: downLayer.outputSize)
    compute.matmul(&gate, x, by: gateLayer, .mlpGate)
    compute.matmul(&up, x, by: upLayer, .mlpUp)
    compute.gatedSiLU(&gate, up)
    compute.matmul(&y, gate, by: downLayer, .mlpDown)
    try expectClose(y.values, golden.floats("y"))
  }

  @Test func `f16 and bf16 widen bit for bit`() throws {
    let golden = try Goldens.tensors("ops/half_to_float.safetensors")
    let bits = SharedBytes(copying: try golden.bytes("bits_i16"))
    for (element, name) in [(ElementType.f16, "f16"), (.bf16, "bf16")] {
      let expected = try golden.floats(name)
      let found = Tensor(bits, shape: [expected.count], element: element).floats()
      for i in expected.indices {
        #expect(
          found[i].bitPattern == expected[i].bitPattern || (found[i].isNaN && expected[i].isNaN),
          "\(name) \(i): \(found[i]), expected \(expected[i])")
      }
    }
  }

  @Test func `every f16 widens as in Swift`() {
    let all = (0...UInt16.max).map { $0 }
    let found = Tensor(SharedBytes(copying: all), shape: [all.count], element: .f16).floats()
    for bits in all {
      let expected = Float(Float16(bitPattern: bits))
      #expect(found[Int(bits)].bitPattern == expected.bitPattern || (expected.isNaN && found[Int(bits)].isNaN))
    }
  }

  /// Expects differences of at most 1e-5 of the largest expected value, as the README of the goldens recommends.
  private func expectClose(
    _ found: [Float], _ expected: [Float], sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let difference = Difference.relativeToLargest(found, expected)
    #expect(difference.largest <= 1e-5, "\(difference)", sourceLocation: sourceLocation)
  }
}
