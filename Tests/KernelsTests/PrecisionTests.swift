import Kernels
import Testing

@Suite struct PrecisionTests {
  @Test func `without bf16 instructions, only int8 differs from f32`() {
    let processor = Processor.current.limited(to: .avx2)
    for precision in [Precision.auto, .f32, .bf16] { #expect(precision.choice(on: processor).computeType == .f32) }
    #expect(Precision.int8.choice(on: processor).computeType == .int8)
    #expect(Precision.f32.choice(on: processor).reason.hasPrefix("f32 by OpenBLAS"))
  }

  @Test func `reason names the missing feature`() {
    let bare = Processor.current.limited(to: .portable, withoutOneDNN: true)
    #expect(Precision.bf16.choice(on: bare).reason.hasSuffix("the processor has no AVX512_BF16"))
    #expect(Precision.int8.choice(on: bare).reason == "int8 by own kernels (portable); no oneDNN")
  }

  @Test(.enabled(if: InstructionSet.avx512BF16.isAvailable, "needs AVX512_BF16"))
  func `uses bf16 without oneDNN`() {
    let without = Processor.current.limited(withoutOneDNN: true)
    for precision in [Precision.auto, .bf16] {
      #expect(precision.choice(on: without).computeType == .bf16)
      #expect(precision.choice(on: without).reason == "bf16 by own kernels; no oneDNN")
    }
  }

  @Test(
    .enabled(
      if: InstructionSet.avx512BF16.isAvailable && Processor.current.oneDNN?.hasBF16 == true,
      "needs AVX512_BF16 and oneDNN with bf16"))
  func `uses bf16 with oneDNN`() throws {
    let oneDNN = try #require(Processor.current.oneDNN)
    #expect(Precision.auto.choice().computeType == .bf16)
    #expect(Precision.auto.choice().reason == "bf16 by oneDNN \(oneDNN.version)")
  }

  @Test func `limits never add instructions`() {
    #expect(Processor.current.limited(to: .avx512BF16).instructions == Processor.current.instructions)
  }
}
