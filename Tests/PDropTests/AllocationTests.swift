import CAllocationCount
import Foundation
import Kernels
import LLaVA
import ModelFormats
import PDrop
import TestSupport
import Testing

@Suite struct AllocationTests {
  /// A decoder with rows long enough that every kernel has several tasks.
  private static func model(_ precision: PDrop.Precision, layers: Int) throws -> VisionLanguageModel {
    var configuration = ModelPreset.llava15With7B.configuration
    (configuration.text.hiddenSize, configuration.text.intermediateSize) = (1024, 2048)
    (configuration.text.headCount, configuration.text.keyValueHeadCount) = (8, 4)
    (configuration.text.layerCount, configuration.text.vocabularySize) = (layers, 32_064)
    configuration.vision?.layerCount = 2
    var options = VisionLanguageModel.Options()
    options.precision = precision
    return try VisionLanguageModel(synthetic: configuration, name: "small", options: options)
  }

  /// Allocations of a prompt of 100 rows, and of three tokens for each of two sequences after it.
  private static func counts(_ model: VisionLanguageModel) -> (prefill: Int, decode: Int) {
    let (text, decoder) = (model.llava.configuration.text, model.llava.languageModel)
    let compute = ComputeContext(workers: Workers(count: 2, processors: 2))
    var state = DecoderState(text)
    var prefill = 0
    // The memory of the first prompt is kept for the second.
    let caches = (0..<2).map { _ in
      let cache = KVCache(text, type: model.precision.cacheType)
      var layout = SequenceLayout(rowCount: 100)
      state.hidden = Matrix([Float](repeating: 0.5, count: 100 * text.hiddenSize), columns: text.hiddenSize)
      let before = allocation_count()
      _ = decoder.prefill(&state, cache, &layout, .none, reservedRows: 8, on: compute)
      prefill = allocation_count() - before
      return cache
    }
    func decode() {
      decoder.embed([3, 5], into: &state.hidden)
      decoder.decode(&state, caches, on: compute)
    }
    // The first step makes the entries of the ledger.
    for _ in 0..<2 { decode() }
    let before = allocation_count()
    for _ in 0..<3 { decode() }
    return (prefill, allocation_count() - before)
  }

  /// The smallest of several counts, as other threads of the process may allocate at the same time.
  private static func smallestCounts(_ precision: PDrop.Precision, layers: Int) throws -> (prefill: Int, decode: Int) {
    let model = try model(precision, layers: layers)
    let all = (0..<5).map { _ in counts(model) }
    return (all.map(\.prefill).min() ?? 0, all.map(\.decode).min() ?? 0)
  }

  @Test(.enabled(if: isOptimized && allocation_count() >= 0, "closures allocate without optimisation"))
  func `decode allocates nothing in a layer`() async {
    // A process of its own, as tests that run at the same time allocate.
    await #expect(processExitsWith: .success) {
      for precision in [PDrop.Precision.f32, .bf16, .int8, .int4] {
        let counts = try [2, 6].map { try Self.smallestCounts(precision, layers: $0) }
        print(precision, counts)
        guard counts[0].decode == counts[1].decode else { exit(EXIT_FAILURE) }
      }
    }
  }

  @Test(.enabled(if: isOptimized && allocation_count() >= 0, "closures allocate without optimisation"))
  func `prefill allocates the rows of the cache in a layer`() async {
    await #expect(processExitsWith: .success) {
      // Our own kernels compute these weights; libraries allocate in each call.
      let counts = try [2, 6].map { try Self.smallestCounts(.int4, layers: $0) }
      print(counts)
      // In four more layers: keys and values of an int8 cache have numbers and scales.
      guard counts[1].prefill - counts[0].prefill == 4 * 4 else { exit(EXIT_FAILURE) }
    }
  }
}
