import ImageProcessing
import Kernels
package import LLaVA
import ModelFormats
import TokenDropping

/// The images of requests as inputs of the vision encoder: made by a model, or shared by a cache.
package protocol ImageSource: Sendable {
  /// Decodes and preprocesses an image of a request, unless that has been done, and adds the time to `timings`.
  ///
  /// - Throws: `ImageError`, or `GenerationError.foreignImage`.
  func input(
    of image: Request.Image, in request: Request, _ timings: inout RunReport.Timings
  ) throws -> ImageInput
}

/// A request after tokenization, image preprocessing and drop planning; everything that needs no weights.
package struct PreparedRequest: Sendable {
  package let request: Request
  package let images: [ImageInput]
  package let plan: DropPlan
  /// Maximum number of new tokens that fit the context.
  package let maxNewTokens: Int
  /// The report, as far as it is known before the run.
  package var report: RunReport
  /// Rows of each layer after the prompt.
  package let rowsPerLayer: [Int]

  /// - Throws: The errors of `images`; `DropPolicyError` for a schedule that does not fit the model, `TargetError` for
  ///   a target that it cannot meet, `SequenceError` for a prompt that is too long or has another number of `<image>`
  ///   than there are images; `PromptError` as `rendered`.
  package init(
    _ request: Request, for model: VisionLanguageModel, threads: Int, images source: some ImageSource
  ) throws {
    let (configuration, text) = (model.llava.configuration, model.llava.configuration.text)
    var report = RunReport(
      model: model.name, policy: try RunReport.Policy(request.policy, layerCount: text.layerCount),
      precision: model.precision.name, threads: threads)
    report.promptTokens = try model.promptTokens(of: request)
    let images = try request.images.map { try source.input(of: $0, in: request, &report.milliseconds) }

    let counts = images.map(\.tokenCount)
    let cost = PrefillCost(
      text, textTokens: report.promptTokens.count - counts.count, visualTokenCounts: counts,
      viewCount: images.reduce(0) { $0 + ($1.views?.count ?? 0) }, cacheElement: model.precision.cacheElement)
    let policy = try SchedulePlanner(cost).resolved(request.policy)
    let target = report.policy.target
    report.policy = try RunReport.Policy(policy, layerCount: text.layerCount)
    report.policy.target = target
    plan = try DropPlan(
      policy, layerCount: text.layerCount, visualTokenCounts: counts, padding: images.map(\.paddingTokens))
    let contextLength = request.options.contextLength ?? text.contextLength
    let promptLimit = request.options.contextLength ?? configuration.promptLimit ?? contextLength
    let visualTokenCount = counts.reduce(0, +)
    let length = report.promptTokens.count - counts.count + visualTokenCount
    guard length > 0 else { throw SequenceError.empty }
    guard length <= promptLimit else { throw SequenceError.tooLong(length: length, limit: promptLimit) }
    maxNewTokens = max(0, min(request.options.maxTokens, contextLength - length))
    rowsPerLayer = plan.rowsPerLayer(rowCount: length, visualTokenCount: visualTokenCount, layerCount: text.layerCount)

    report.sequenceLength = length
    report.paperFlops = LLaVA.paperFlops(plan, visualTokenCount: visualTokenCount, text)
    report.baselineFlops =
      2 * prefillMultiplyAdds(rowsPerLayer: Array(repeating: length, count: text.layerCount), text)
    self.request = request
    self.images = images
    self.report = report
  }
}
