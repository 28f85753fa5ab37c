import Foundation
import Kernels
import Testing

@Suite struct ComputeTypeChoiceTests {
  @Test func `without bf16 instructions, only int8 differs from f32`() {
    let processor = Processor.current.limited(to: .avx2)
    for request in [nil, ComputeType.f32, .bf16] {
      #expect(ComputeType.best(for: request, on: processor).computeType == .f32)
    }
    #expect(ComputeType.best(for: .int8, on: processor).computeType == .int8)
    #expect(ComputeType.best(for: .f32, on: processor).summary().hasPrefix("f32 (OpenBLAS, "))
  }

  @Test func `uses own kernels without OpenBLAS`() {
    let without = Processor.current.limited(to: .avx2, withoutOpenBLAS: true)
    let choice = ComputeType.best(for: .f32, on: without)
    #expect(choice.summary() == "f32 (own kernels, \(without.instructions); no OpenBLAS)")
    #expect(
      ComputeType.best(for: .bf16, on: without).summary()
        == "f32 (own kernels, \(without.instructions); no OpenBLAS; the processor has no AVX512_BF16)")
  }

  @Test func `reason names the missing feature`() {
    let bare = Processor.current.limited(to: .portable, withoutOneDNN: true)
    #expect(ComputeType.best(for: .bf16, on: bare).summary().hasSuffix("; the processor has no AVX512_BF16)"))
    #expect(ComputeType.best(for: .int8, on: bare).summary() == "int8 (own kernels, portable; no oneDNN)")
  }

  @Test(.enabled(if: InstructionSet.avx512BF16.isAvailable, "needs AVX512_BF16"))
  func `uses bf16 without oneDNN`() {
    let without = Processor.current.limited(to: .avx512BF16, withoutOneDNN: true)
    for request in [nil, ComputeType.bf16] {
      #expect(ComputeType.best(for: request, on: without).computeType == .bf16)
      #expect(ComputeType.best(for: request, on: without).summary() == "bf16 (own kernels; no oneDNN)")
    }
  }

  @Test(
    .enabled(
      if: InstructionSet.avx512BF16.isAvailable && Processor.current.oneDNN?.hasBF16 == true,
      "needs AVX512_BF16 and oneDNN with bf16"))
  func `uses bf16 with oneDNN`() throws {
    let oneDNN = try #require(Processor.current.oneDNN)
    let choice = ComputeType.best(for: nil, on: .current.limited(to: .avx512BF16))
    #expect(choice.computeType == .bf16 && choice.summary() == "bf16 (oneDNN \(oneDNN.version))")
  }

  @Test(.enabled(if: InstructionSet.avx512AMX.isAvailable, "needs AMX"), arguments: [ComputeType.bf16, .int8])
  func `uses own kernels with AMX`(computeType: ComputeType) {
    #expect(ComputeType.best(for: computeType).summary() == "\(computeType) (own kernels, avx512AMX)")
  }

  @Test(
    .enabled(
      if: InstructionSet.avx2.isAvailable && ProcessInfo.processInfo.environment["OPENBLAS_CORETYPE"] == nil,
      "needs AVX2 and the kernels of our choice"))
  func `OpenBLAS uses kernels with AVX on processors newer than itself`() throws {
    let library = try #require(Processor.current.openBLAS)
    #expect(library.coreName != "Prescott")
  }

  @Test func `limits never add instructions`() {
    #expect(Processor.current.limited(to: .avx512AMX).instructions == Processor.current.instructions)
  }
}
