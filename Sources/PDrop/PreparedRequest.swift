import ImageProcessing
import Kernels
package import LLaVA
import ModelFormats
public import TokenDropping

/// A request as far as it can be brought without the model's weights: its tokens, its images, its drops and its length.
package struct PreparedRequest: Sendable {
  package let request: Request
  package let images: [ImageInput]
  package let plan: DropPlan
  /// The most tokens that may be generated.
  package let maxNewTokens: Int
  /// What is known of the run before it.
  package var record: RunReport
  /// Rows of each layer after the prompt.
  package let rowsPerLayer: [Int]

  /// - Parameter prepare: Makes ready one of the images, and books the time that it takes.
  /// - Throws: What `prepare` does; `DropPolicyError` for a schedule that does not fit the model, `TargetError` for a
  ///   target that it cannot meet; `SequenceError` for a
  ///   prompt that is too long or does not name its images; `PromptError` as `rendered` does.
  package init(
    _ request: Request, for model: VisionLanguageModel, threads: Int,
    image prepare: (Request.Image, inout RunReport.Timings) throws -> ImageInput
  ) throws {
    let (configuration, text) = (model.llava.configuration, model.llava.configuration.text)
    var record = RunReport(
      model: model.name, policy: try RunReport.Policy(request.policy, layerCount: text.layerCount),
      precision: model.precision.name, threads: threads)
    record.promptTokens = try model.promptTokens(of: request)
    let images = try request.images.map { try prepare($0, &record.milliseconds) }

    let counts = images.map(\.tokenCount)
    let cost = PrefillCost(
      text, textTokens: record.promptTokens.count - counts.count, visualTokenCounts: counts,
      viewCount: images.reduce(0) { $0 + ($1.views?.count ?? 0) }, cacheElement: model.precision.cacheElement)
    let policy = try SchedulePlanner(cost).resolved(request.policy)
    let target = record.policy.target
    record.policy = try RunReport.Policy(policy, layerCount: text.layerCount)
    record.policy.target = target
    plan = try DropPlan(
      policy, layerCount: text.layerCount, visualTokenCounts: counts, padding: images.map(\.paddingTokens))
    let contextLength = request.options.contextLength ?? text.contextLength
    let promptLimit = request.options.contextLength ?? configuration.promptLimit ?? contextLength
    let visualTokenCount = counts.reduce(0, +)
    let length = record.promptTokens.count - counts.count + visualTokenCount
    guard length > 0 else { throw SequenceError.empty }
    guard length <= promptLimit else { throw SequenceError.tooLong(length: length, limit: promptLimit) }
    maxNewTokens = max(0, min(request.options.maxTokens, contextLength - length))
    rowsPerLayer = plan.rowsPerLayer(rowCount: length, visualTokenCount: visualTokenCount, layerCount: text.layerCount)

    record.sequenceLength = length
    record.paperFlops = LLaVA.paperFlops(plan, visualTokenCount: visualTokenCount, text)
    record.baselineFlops =
      2 * prefillMultiplyAdds(rowsPerLayer: Array(repeating: length, count: text.layerCount), text)
    self.request = request
    self.images = images
    self.record = record
  }
}

extension VisionLanguageModel {
  /// A policy with what it needs to know of the machine: one with a target in seconds is given it, measured now.
  public func timed(_ policy: any TokenDroppingPolicy, threads: Int) -> any TokenDroppingPolicy {
    guard var targeted = policy as? TargetedDrop, case .firstToken = targeted.target, targeted.timing == nil else {
      return policy
    }
    targeted.timing = prefillTiming(threads: threads)
    return targeted
  }

  /// Measures the vision encoder on one view, two decoder layers over prompts of four lengths, and the head; each once to warm up.
  package func prefillTiming(threads: Int) -> PrefillTiming {
    let compute = ComputeContext(workers: Workers(count: threads))
    let (text, decoder) = (llava.configuration.text, llava.languageModel)
    let pixels = [Float](repeating: 0, count: 3 * preprocessor.size * preprocessor.size)
    let view = Self.secondTime { _ = llava.viewFeatures(pixels, views: 1, on: compute) }

    var state = DecoderState(text)
    let depth = min(2, text.layerCount)
    var measured: [(rows: Int, milliseconds: Double)] = []
    for part in [8, 4, 2, 1] {
      let rows = max(1, longestPrompt / part)
      let seconds = Self.secondTime {
        state.hidden = Matrix(
          [Float](repeating: 0.5, count: rows * text.hiddenSize), columns: text.hiddenSize)
        let cache = KVCache(text, element: precision.cacheElement)
        _ = decoder.prefix(&state, cache, depth: depth, reservedRows: 0, on: compute)
      }
      measured.append((rows, 1e3 * seconds / Double(depth)))
    }
    let head = Self.secondTime { _ = decoder.logits(state, on: compute) }
    return PrefillTiming(secondsPerView: view, layer: Self.layerSeconds(measured), headSeconds: head)
  }

  /// Rows of a prompt about an image of the most tiles.
  private var longestPrompt: Int {
    let (configuration, size) = (llava.configuration, preprocessor.size)
    let tiles = (configuration.anyResolution?.canvases ?? []).map { $0.width / size * ($0.height / size) }
    let rows = configuration.visualTokensPerView * (1 + (tiles.max() ?? 0)) + 64
    return min(configuration.text.contextLength, rows)
  }

  /// The coefficients of a layer's time by its rows; a line through the longest measurement where no curve fits.
  private static func layerSeconds(_ measured: [(rows: Int, milliseconds: Double)]) -> [Double] {
    if let fit = LayerCostFit(measured) { return [fit.a, fit.b, fit.c].map { $0 / 1e3 } }
    let longest = measured[measured.count - 1]
    return [0, longest.milliseconds / 1e3 / Double(longest.rows), 0]
  }

  /// What something takes that has been done once before, in seconds.
  private static func secondTime(_ body: () -> Void) -> Double {
    body()
    let start = ContinuousClock.now
    body()
    return (ContinuousClock.now - start).milliseconds / 1e3
  }
}
