internal import LLaVA
internal import ModelFormats

/// A request as far as it can be brought without the model's weights: its tokens, its pictures, its drops and its length.
struct PreparedRequest: Sendable {
  let request: Request
  let pictures: [PreparedPicture]
  let plan: DropPlan
  /// The most tokens that may be generated.
  let tokenLimit: Int
  /// What is known of the run before it.
  var record: RunReport
  /// Rows of each layer behind the prompt.
  let rowsPerLayer: [Int]

  /// - Parameter prepare: Makes ready one of the pictures, and books the time that it takes.
  /// - Throws: What `prepare` does; `DropPolicyError` for a schedule that does not fit the model, `TargetError` for a
  ///   target that it cannot meet; `SequenceError` for a
  ///   prompt that is too long or does not name its pictures; `PromptError` as `rendered` does.
  init(
    _ request: Request, for model: VisionLanguageModel, threads: Int,
    picture prepare: (Request.Picture, inout RunReport.Timings) throws -> PreparedPicture
  ) throws {
    let (configuration, text) = (model.llava.configuration, model.llava.configuration.text)
    var record = RunReport(
      model: model.name, policy: try RunReport.Policy(request.policy, layerCount: text.layerCount),
      precision: model.precision.name, threads: threads)
    record.promptTokens = try model.promptTokens(of: request)
    let pictures = try request.pictures.map { try prepare($0, &record.milliseconds) }

    let counts = pictures.map(\.tokenCount)
    let cost = PromptCost(
      text, textTokens: record.promptTokens.count - counts.count, visualTokenCounts: counts,
      viewCount: pictures.reduce(0) { $0 + ($1.views?.count ?? 0) }, cacheElement: model.precision.cacheElement)
    let policy = try SchedulePlanner(cost).resolved(request.policy)
    let target = record.policy.target
    record.policy = try RunReport.Policy(policy, layerCount: text.layerCount)
    record.policy.target = target
    plan = try DropPlan(
      policy, layerCount: text.layerCount, visualTokenCounts: counts, padding: pictures.map(\.paddingTokens))
    let contextLength = request.options.contextLength ?? text.contextLength
    let promptLimit = request.options.contextLength ?? configuration.promptLimit ?? contextLength
    let visualTokenCount = counts.reduce(0, +)
    let length = record.promptTokens.count - counts.count + visualTokenCount
    guard length > 0 else { throw SequenceError.empty }
    guard length <= promptLimit else { throw SequenceError.tooLong(length: length, limit: promptLimit) }
    tokenLimit = max(0, min(request.options.maxTokens, contextLength - length))
    rowsPerLayer = plan.rowsPerLayer(rowCount: length, visualTokenCount: visualTokenCount, layerCount: text.layerCount)

    record.sequenceLength = length
    record.paperFlops = LLaVA.paperFlops(plan, visualTokenCount: visualTokenCount, text)
    record.flopsWithoutDropping =
      2 * prefillMultiplyAdds(rowsPerLayer: Array(repeating: length, count: text.layerCount), text)
    self.request = request
    self.pictures = pictures
    self.record = record
  }
}
