import Kernels
import LLaVA
import ModelFormats
import PDrop
import Testing

/// The choice of compute types for weights as stored.
@Suite struct ModelPrecisionTests {
  /// A processor without bf16.
  private static let plain = Processor.current.limited(to: .avx2)
  /// LLaVA-1.5-7B in f16.
  private static let large = StoredWeights(byteCount: 14_127_000_000, valueCount: 7_063_000_000)

  private static func blocks(_ bytes: [StoredType: Int], head: Bool = true) -> StoredWeights {
    var weights = StoredWeights(byteCount: 4_700_000_000, valueCount: 7_063_000_000)
    (weights.layerBytes, weights.headHasBlocks) = (bytes, head)
    return weights
  }

  /// Mostly Q4_K with some Q6_K and Q5_0, as in a published file.
  private static let mixed = blocks([
    .blocks(.q6K): 700_000_000, .blocks(.q4K): 3_000_000_000, .blocks(.q5zero): 1_000_000,
  ])

  private func precision(
    _ request: PDrop.Precision, _ weights: StoredWeights, vision: PDrop.Precision = .auto,
    cache: CachePrecision = .auto, scores: ScorePrecision = .auto, memory: Int? = nil, on processor: Processor = plain
  ) -> ModelPrecision {
    ModelPrecision(
      request, vision: vision, cache: cache, scores: scores, weights: weights, memory: memory, on: processor)
  }

  @Test(arguments: [nil, 1 << 20, 1 << 40])
  func `auto keeps stored blocks, whatever the memory`(memory: Int?) {
    let precision = precision(.auto, Self.mixed, memory: memory)
    #expect(precision.name == "Q4_K" && precision.memoryNote == nil)
    // Floats among blocks are meant to be precise.
    #expect(
      precision.computeType == ModelComputeTypes(decoder: .blocks, vision: .int8, head: .blocks, blocks: .q8zero))
    #expect(precision.cacheType == .int8)
    #expect(precision.reason.hasPrefix("Q4_K (") && precision.reason.contains("; computes Q5_0 as Q8_0; "))
    #expect(precision.reason.hasSuffix("; vision encoder in int8, head in blocks; KV cache in int8"))
  }

  @Test func `auto keeps a head that is not in blocks`() {
    let precision = precision(.auto, Self.blocks([.blocks(.q8zero): 1000], head: false))
    #expect(precision.name == "Q8_0" && precision.computeType.head == .f32)
    #expect(!precision.reason.contains("computes"))
  }

  @Test func `auto does not keep blocks that are the smaller part`() {
    let precision = precision(
      .auto, Self.blocks([.blocks(.q4K): 1_000_000_000, .floats(.f16): 3_700_000_000], head: false))
    #expect(precision.name == "f32" && precision.computeType == ModelComputeTypes(.f32))
  }

  @Test(arguments: [(PDrop.Precision.f32, ComputeType.f32), (.bf16, .f32), (.int8, .int8)])
  func `a requested type replaces stored blocks`(request: PDrop.Precision, expected: ComputeType) {
    let precision = precision(request, Self.mixed, memory: 1 << 20)
    #expect(precision.name == expected.rawValue && precision.memoryNote == nil)
    #expect(precision.computeType.decoder == expected)
    #expect(precision.computeType.head == .f32)
    #expect(precision.computeType.vision == (expected == .int8 ? .int8 : .f32))
    #expect(precision.cacheType == (expected == .f32 ? .f32 : .bf16))
    #expect(!precision.reason.contains("computes"))
  }

  @Test(.enabled(if: InstructionSet.avx512BF16.isAvailable, "needs AVX512_BF16"))
  func `unquantized parts are in bf16 where the processor has it`() {
    #expect(precision(.int8, Self.mixed, on: .current).computeType.head == .bf16)
    #expect(precision(.bf16, Self.mixed, on: .current).computeType == ModelComputeTypes(.bf16))
  }

  @Test func `int4 quantizes layers and head of floats`() {
    let precision = precision(.int4, Self.large)
    #expect(precision.name == "int4" && precision.memoryNote == nil)
    #expect(precision.computeType == ModelComputeTypes(decoder: .blocks, vision: .int8, head: .blocks, blocks: .q4K))
    #expect(
      precision.reason.hasPrefix("int4 (") && precision.reason.contains("; vision encoder in int8, head in blocks"))
  }

  @Test func `int4 of stored blocks keeps them, and quantizes the floats among them and the head`() {
    let precision = precision(.int4, Self.blocks([.blocks(.q6K): 1000, .floats(.f16): 10], head: false))
    #expect(precision.name == "Q6_K")
    #expect(precision.computeType == ModelComputeTypes(decoder: .blocks, vision: .int8, head: .blocks, blocks: .q4K))
  }

  @Test(arguments: [
    // Weights of 14.127 GB are mapped, and 2^30 bytes are for the rest.
    (15_300_000_000, "f32", nil),
    (15_100_000_000, "int8", "auto chose int8: f32 needs 15.2 GB of memory, 15.1 GB are available"),
    (8_200_000_000, "int8", "auto chose int8: f32 needs 15.2 GB of memory, 8.2 GB are available"),
    (8_100_000_000, "int4", "auto chose int4: f32 needs 15.2 GB of memory, 8.1 GB are available"),
    (1_000_000, "int4", "auto chose int4: f32 needs 15.2 GB of memory, 0.0 GB are available"),
  ])
  func `auto quantizes floats for which the memory is too small`(memory: Int, name: String, note: String?) {
    let precision = precision(.auto, Self.large, memory: memory)
    #expect(precision.name == name && precision.memoryNote == note)
    #expect(note.map(precision.reason.contains) ?? !precision.reason.contains("auto chose"))
    #expect(precision.computeType.vision == (note == nil ? .f32 : .int8))
    #expect(precision.computeType == self.precision(PDrop.Precision(rawValue: name) ?? .auto, Self.large).computeType)
  }

  @Test func `auto quantizes nothing if the memory is unknown`() {
    let precision = precision(.auto, Self.large, memory: nil)
    #expect(precision.name == "f32" && precision.memoryNote == nil)
  }

  @Test func `auto computes small models in f32, whatever the memory`() {
    let small = StoredWeights(byteCount: 100_000_000, valueCount: 50_000_000)
    let precision = precision(.auto, small, memory: 1000, on: .current)
    #expect(precision.computeType == ModelComputeTypes(.f32) && precision.memoryNote == nil)
    #expect(precision.reason.contains("auto chose f32: weights < 256 MB"))
  }

  @Test func `auto computes small models with blocks in f32, and int4 keeps the blocks`() {
    var small = Self.mixed
    small.byteCount = 100_000_000
    #expect(precision(.auto, small, memory: 1000).computeType == ModelComputeTypes(.f32))
    #expect(precision(.int4, small, memory: 1000).name == "Q4_K")
  }

  @Test func `vision encoder and cache have the types that are requested`() {
    let precision = precision(.int4, Self.large, vision: .f32, cache: .bf16)
    #expect(precision.computeType.vision == .f32 && precision.cacheType == .bf16)
  }

  @Test(arguments: InstructionSet.allCases.filter(\.isAvailable))
  func `attention scores are in int8 on request, or where that is faster`(instructions: InstructionSet) {
    let (processor, hasVNNI) = (Processor.current.limited(to: instructions), instructions >= .avx512VNNI)
    func scores(
      _ request: ScorePrecision, _ precision: PDrop.Precision, vision: PDrop.Precision = .auto
    ) -> ScoreType {
      let found = self.precision(precision, Self.large, vision: vision, scores: request, on: processor)
      #expect(found.reason.hasSuffix("; attention scores in int8") == (found.computeType.scores == .int8))
      return found.computeType.scores
    }
    for precision in [PDrop.Precision.int8, .int4] {
      #expect(scores(.auto, precision) == (hasVNNI && instructions != .avx512AMX ? .int8 : .float))
      #expect(scores(.float, precision) == .float)
      #expect(scores(.int8, precision) == (hasVNNI ? .int8 : .float))
      #expect(scores(.auto, precision, vision: .f32) == .float)
    }
    #expect(scores(.auto, .f32) == .float && scores(.int8, .f32) == .float)
    #expect(scores(.int8, .f32, vision: .int8) == (hasVNNI ? .int8 : .float))
  }
}
