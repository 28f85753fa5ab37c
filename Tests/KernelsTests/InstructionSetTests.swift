import Kernels
import TestSupport
import Testing

/// Kernels of every ISA level, and of oneDNN, compared with the portable kernels.
///
/// Other suites iterate over the available levels. The tests here are skipped for a missing level, which makes the gap
/// visible in the test report.
@Suite struct InstructionSetTests {
  @Test(.enabled(if: InstructionSet.avx2.isAvailable, "needs AVX2"))
  func `AVX2 kernels agree with portable kernels`() { expectAgreement(.avx2) }

  @Test(.enabled(if: InstructionSet.avx512.isAvailable, "needs AVX-512"))
  func `AVX-512 kernels agree with portable kernels`() { expectAgreement(.avx512) }

  @Test(.enabled(if: InstructionSet.avx512VNNI.isAvailable, "needs AVX512_VNNI"))
  func `AVX-512 VNNI kernels agree with portable kernels`() { expectAgreement(.avx512VNNI) }

  @Test(.enabled(if: InstructionSet.avx512BF16.isAvailable, "needs AVX512_BF16"))
  func `AVX-512 BF16 kernels agree with portable kernels`() { expectAgreement(.avx512BF16) }

  @Test(.enabled(if: InstructionSet.avx512AMX.isAvailable, "needs AMX with BF16"))
  func `AMX kernels agree with portable kernels`() { expectAgreement(.avx512AMX) }

  @Test(.enabled(if: Processor.current.oneDNN?.hasInt8 == true, "needs oneDNN with int8"))
  func `oneDNN in int8 agrees with portable kernels`() {
    expectMatmul(on: .current.limited(to: .avx512BF16), .int8)
  }

  @Test(.enabled(if: Processor.current.oneDNN?.hasBF16 == true, "needs oneDNN with bf16"))
  func `oneDNN in bf16 agrees with portable kernels`() {
    expectMatmul(on: .current.limited(to: .avx512BF16), .bf16)
  }

  private func expectAgreement(_ level: InstructionSet) {
    for computeType in ComputeType.allCases {
      expectMatmul(on: .current.limited(to: level, withoutOneDNN: true), computeType)
    }
    let difference = Difference.absolute(attention(level), attention(.portable))
    // Each is within 1e-5 of the exact result, as `AttentionTests` checks.
    #expect(difference.largest <= 2e-5, "\(level) \(difference)")
  }

  /// Expects matmuls of 5 rows, by small-M kernels, and of 70 rows, in groups or by a library, to agree.
  private func expectMatmul(on processor: Processor, _ computeType: ComputeType) {
    let (inputs, outputs) = (130, 70)
    var numbers = SeededGenerator(17)
    let linear = Linear(weight: Tensor(numbers.floats(outputs * inputs), shape: [outputs, inputs]))
      .converted(to: computeType, workers: Workers(count: 1))
    for rows in [5, 70] {
      let x = Matrix(numbers.floats(rows * inputs), columns: inputs)
      let results = [processor, .current.limited(to: .portable, withoutOneDNN: true)].map { processor in
        var y = Matrix(rows: 0, columns: outputs)
        ComputeContext(workers: Workers(count: 2), processor: processor).matmul(&y, x, by: linear, .output)
        return y.values
      }
      let difference = Difference.absolute(results[0], results[1])
      // Int8 sums are exact. Otherwise each of `inputs` roundings has an error of at most 2^-24 of a partial sum, which
      // is at most `inputs`; twice for the effect on later partial sums, twice for the two results.
      let bound = computeType == .int8 ? 0 : Double(4 * inputs * inputs) * 0x1p-24
      #expect(difference.largest <= bound, "\(computeType), \(rows) rows, \(difference)")
    }
  }

  /// Causal attention of two queries, which every level computes in f32.
  private func attention(_ level: InstructionSet) -> [Float] {
    let heads = HeadLayout(headCount: 4, keyValueHeadCount: 2, headDimension: 33)
    var numbers = SeededGenerator(19)
    var keys = CacheRows(heads, type: .f32)
    var values = CacheRows(heads, type: .f32)
    keys.append(Matrix(numbers.floats(150 * heads.keyValueColumns, in: -2...2), columns: heads.keyValueColumns))
    values.append(Matrix(numbers.floats(150 * heads.keyValueColumns), columns: heads.keyValueColumns))
    let queries = Matrix(numbers.floats(2 * heads.queryColumns, in: -2...2), columns: heads.queryColumns)
    var result = Matrix(rows: 0, columns: heads.queryColumns)
    ComputeContext(workers: Workers(count: 2)).causalAttention(
      &result, queries: queries, keys: keys, values: values, heads: heads, with: AttentionKernel(level))
    return result.values
  }
}
