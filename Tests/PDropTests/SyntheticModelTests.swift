import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
import PDrop
import TestSupport
import Testing
import TokenDropping

@Suite struct SyntheticModelTests {
  /// A LLaVA-NeXT configuration of four layers, as small as its parts allow.
  private var configuration: LLaVAConfiguration {
    var configuration = ModelPreset.llavaNext7B.configuration
    configuration.text.hiddenSize = 64
    configuration.text.intermediateSize = 96
    configuration.text.layerCount = 4
    (configuration.text.headCount, configuration.text.keyValueHeadCount) = (4, 2)
    configuration.text.headDimension = 16
    configuration.text.vocabularySize = 32_064
    configuration.vision?.hiddenSize = 32
    configuration.vision?.intermediateSize = 48
    configuration.vision?.layerCount = 3
    configuration.vision?.headCount = 2
    configuration.vision?.imageSize = 56
    let pinpoints = [(56, 112), (112, 56), (112, 112)]
    configuration.anyResolution = AnyResolution(
      pinpoints: pinpoints, viewSize: 56, patchesPerSide: 4, sizeRule: .huggingFace)
    return configuration
  }

  private func model(_ precision: PDrop.Precision, distinctLayers: Bool = false) throws -> VisionLanguageModel {
    var options = VisionLanguageModel.Options()
    options.precision = precision
    return try VisionLanguageModel(
      synthetic: configuration, name: "small", distinctLayers: distinctLayers, options: options)
  }

  private func run(_ model: VisionLanguageModel, _ policy: any TokenDroppingPolicy) throws -> RunReport {
    var options = GenerationOptions()
    options.maxTokens = 4
    let image = try Image(width: 96, height: 72, pixels: (0..<96 * 72 * 3).map { UInt8(truncatingIfNeeded: $0 * 31) })
    let request = Request(
      prompt: .tokens([1, 5, model.imageToken, 9, 12]), images: [.decoded(image)], policy: policy, options: options)
    var session = try Session(model, request, threads: 2)
    while try session.next() != nil {}
    return session.report
  }

  @Test(arguments: [PDrop.Precision.f32, .bf16, .int8])
  func `generates tokens in every precision`(precision: PDrop.Precision) throws {
    let model = try model(precision)
    let report = try run(model, PyramidDrop())
    // 16 tokens of the base view; of 2 × 2 tiles the 4:3 image fills 6 of 8 rows, of 8 tokens and a newline each.
    #expect(report.visualTokensPerStage == [16 + 6 * 9, 35, 17, 8])
    #expect(report.tokens.count == 4 && report.text.isEmpty && report.finishReason == .length)
  }

  @Test func `shared layers change neither the cost nor the reported size of the weights`() throws {
    let (shared, distinct) = (try model(.f32), try model(.f32, distinctLayers: true))
    let (one, other) = (try run(shared, NoDropping()), try run(distinct, NoDropping()))
    #expect(one.flops == other.flops && one.cacheBytes == other.cacheBytes)
    #expect(shared.weightBytes == distinct.weightBytes)
    #expect(distinct.llava.distinctWeightBytes == distinct.weightBytes)
    #expect(shared.llava.distinctWeightBytes < distinct.weightBytes)
    #expect(one.tokens != other.tokens)
  }

  /// Eight residual branches each add rows of at most about the root mean square of a normalized row, 1. With distinct
  /// weights the directions differ, so mean squares add up: 1 + 8. With shared weights they are the same: 9².
  @Test(arguments: [(true, 1 + 8.0), (false, 9 * 9.0)])
  func `activations stay as small as the number of layers allows`(distinctLayers: Bool, limit: Double) throws {
    let model = try model(.f32, distinctLayers: distinctLayers)
    let text = configuration.text
    let compute = ComputeContext(workers: Workers(count: 1))
    var state = DecoderState(text)
    var generator = SeededGenerator(1)
    state.hidden = Matrix(generator.floats(20 * text.hiddenSize), columns: text.hiddenSize)
    var layout = SequenceLayout(rowCount: 20)
    _ = model.llava.languageModel.prefill(&state, KVCache(configuration.text), &layout, .none, on: compute)
    let meanSquare = state.hidden.values.reduce(0) { $0 + $1 * $1 } / Float(20 * text.hiddenSize)
    #expect(meanSquare > 0.1 && Double(meanSquare) < limit)
  }
}
