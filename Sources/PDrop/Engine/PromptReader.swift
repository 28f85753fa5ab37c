internal import Kernels
internal import LLaVA
internal import ModelFormats

/// Reads prompts, one after the other, in working memory that they share.
struct PromptReader: ~Copyable {
  private let model: VisionLanguageModel
  var state: DecoderState

  init(_ model: VisionLanguageModel) {
    self.model = model
    state = DecoderState(model.llava.configuration.text)
  }

  /// Runs a prompt through the model; the answer has its first token, or is complete.
  ///
  /// - Throws: `SequenceError` for a token that the model does not know.
  mutating func read(
    _ prepared: PreparedRequest, for question: BatchJob.Question, on compute: Compute
  ) throws -> ActiveAnswer {
    let languageModel = model.llava.languageModel
    compute.beginRequest()
    let features = model.features(of: prepared.pictures, on: compute)
    compute.ledger = CostLedger()
    var layout = try languageModel.splice(
      &state.hidden, tokens: prepared.record.promptTokens, placeholder: model.imageToken, features: features,
      featureCounts: prepared.pictures.map(\.tokenCount), limit: prepared.record.sequenceLength)
    var record = prepared.record
    record.imageSpans = layout.visualBlocks.map { [$0.rows.lowerBound, $0.rows.count] }

    let cache = KVCache(model.llava.configuration.text, element: model.precision.cacheElement)
    let drops = languageModel.prefill(&state, cache, &layout, prepared.plan, room: prepared.tokenLimit, on: compute)
    let logits = languageModel.logits(state, on: compute)
    record.stages = drops.map(RunReport.Stage.init)
    record.cacheLengthsAfterPrompt = cache.lengths

    // What pictures cost does not depend on which record was the first to need them.
    var flops = RunReport.Flops(compute.ledger)
    for picture in prepared.pictures { flops += picture.encoding(by: model, on: compute).flops }
    record.milliseconds.add(compute.durations)
    var answer = ActiveAnswer(
      question, GrowingAnswer(model, prepared.request.options, record, tokenLimit: prepared.tokenLimit), cache,
      flops: flops, milliseconds: record.milliseconds)
    answer.grow(by: logits)
    return answer
  }
}
