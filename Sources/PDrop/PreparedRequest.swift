import Grammar
import ImageProcessing
import Kernels
package import LLaVA
import ModelFormats
import TokenDropping

/// The images of requests as inputs of the vision encoder: made by a model, or shared by a cache.
package protocol ImageSource: Sendable {
  /// Decodes and preprocesses an image of a request, unless that has been done, and adds the time to `timings`.
  ///
  /// - Throws: `RequestError.image`, or `.generation(.foreignImage)`.
  func input(
    of image: Request.Image, in request: Request, _ timings: inout RunReport.Timings
  ) throws(RequestError) -> ImageInput
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
  /// Scores of the choices of the request; `nil` without choices.
  package let choices: ChoiceScores?
  /// The constraint of the answer before its first token; `nil` for any text.
  let grammar: GrammarState?
  /// Tokens of each image that enter the decoder.
  package let visualTokenCounts: [Int]
  /// Tokens of each image before any is selected, at each image token of the prompt.
  let visualSpans: [[Int]]
  /// The question, if a selection of visual tokens uses it; otherwise no tokens.
  let question: SelectionQuestion
  /// Rows of each layer after the prompt.
  package let rowsPerLayer: [Int]
  /// Bytes of working memory of the selection of visual tokens.
  package let selectionByteCount: Int

  package init(
    _ request: Request, for model: VisionLanguageModel, threads: Int, images source: some ImageSource
  ) throws(RequestError) {
    let (configuration, text) = (model.llava.configuration, model.llava.configuration.text)
    var report = RunReport(
      model: model.name, policy: try .init(described: request.policy, layerCount: text.layerCount),
      precision: model.precision.name, threads: threads)
    guard request.images.isEmpty || model.preprocessor != nil else { throw .generation(.noVisionEncoder) }
    for image in request.images { try model.checkVideo(image) }
    do throws(GenerationError) {
      let texts = request.options.scoredChoices
      choices = texts.isEmpty ? nil : try ChoiceScores(texts, model.tokenizer)
    } catch { throw .generation(error) }
    try model.checkBiases(request.options)
    let prompt = try model.prompt(of: request)
    if model.keepsAllPatches(request.policy.preselection?.packing ?? .unpadded),
      configuration.anyResolution?.maxMapViews != nil
    {
      throw .generation(.noPacking(modelType: configuration.modelType))
    }
    var images: [ImageInput] = []
    for image in prompt.images { images.append(try source.input(of: image, in: request, &report.timings)) }
    report.promptTokens = model.markingTiles(prompt.tokens, images.map(\.layout))
    visualSpans = images.map { configuration.visualSpans($0.layout) }
    let textTokens = report.promptTokens.count - visualSpans.reduce(0) { $0 + $1.count }

    let counts = images.map(\.tokenCount)
    let preselection = request.policy.preselection
    if let method = preselection?.method, method.usesClassAttention, configuration.vision?.hasClassToken == false {
      throw .generation(.noClassToken(method: method.name))
    }
    if let method = preselection?.method, method.usesPatchFeatures, configuration.pixelShuffle != nil {
      throw .generation(.noPatchFeatures(method: method.name))
    }
    question = preselection.map { model.question(of: request, for: $0.method) } ?? .languageModel([])
    var cost = PrefillCost(
      text, textTokens: textTokens, visualTokenCounts: counts,
      viewCount: images.reduce(0) { $0 + ($1.views?.count ?? 0) }, cacheType: model.precision.cacheType)
    cost.selectionMultiplyAdds = { [layouts = images.map(\.layout), asked = question] in
      configuration.selectionMultiplyAdds($0, layouts, question: asked)
    }
    let policy = try Self.resolved(request.policy, cost)
    let target = report.policy.target
    report.policy = try .init(described: policy, layerCount: text.layerCount)
    report.policy.target = target
    report.policy.relevance = preselection?.method == .cdPruner ? question.relevanceName : nil
    plan = try RequestError.wrapping(RequestError.policy) { () throws(DropPolicyError) in
      try DropPlan(
        policy, layerCount: text.layerCount, visualTokenCounts: counts, padding: images.map(\.paddingTokens))
    }
    let ceiling = text.contextCeiling ?? .max
    let contextLength = min(request.options.contextLength ?? text.contextLength, ceiling)
    let promptLimit = request.options.contextLength ?? configuration.promptLimit ?? contextLength
    visualTokenCounts = plan.selection?.counts ?? counts
    let fullLength = textTokens + counts.reduce(0, +)
    let length = fullLength - counts.reduce(0, +) + visualTokenCounts.reduce(0, +)
    guard length > 0 else { throw .sequence(.empty) }
    guard length <= ceiling else { throw .sequence(.beyondModel(length: length, limit: ceiling)) }
    guard length <= promptLimit else { throw .sequence(.tooLong(length: length, limit: promptLimit)) }
    maxNewTokens = max(0, min(request.options.maxTokens, contextLength - length))
    do throws(ConstraintError) {
      grammar = try Self.grammar(request.options, model, limit: maxNewTokens)
    } catch { throw .constraint(error) }
    rowsPerLayer = plan.rowsPerLayer(
      rowCount: fullLength, visualTokenCount: counts.reduce(0, +), layerCount: text.layerCount)

    report.sequenceLength = length
    report.paperFlops = LLaVA.paperFlops(plan, visualTokenCount: counts.reduce(0, +), text)
    report.baselineFlops =
      2 * prefillMultiplyAdds(rowsPerLayer: Array(repeating: fullLength, count: text.layerCount), text)
    selectionByteCount =
      preselection.map { [question] in
        configuration.selectionByteCount($0, images.map(\.layout), question: question) + model.clipBytes($0.method)
      } ?? 0
    self.request = request
    self.images = images
    self.report = report
  }

  /// The grammar of the answer.
  ///
  /// - Parameter limit: Maximum number of new tokens, which the shortest answer must not exceed.
  private static func grammar(
    _ options: GenerationOptions, _ model: VisionLanguageModel, limit: Int
  ) throws(ConstraintError) -> GrammarState? {
    guard let constraint = options.constraint else { return nil }
    guard options.stop.isEmpty else { throw .stopStrings }
    let grammar = try model.grammars.start(constraint, model.tokenizer)
    guard let shortest = grammar.shortestCompletionTokens() else { throw .unwritable }
    guard shortest.count <= limit else { throw .tooLong(needed: shortest.count, limit: limit) }
    return grammar
  }

  /// The policy with its strength solved for, if it has a cost target.
  private static func resolved(
    _ policy: any TokenDroppingPolicy, _ cost: PrefillCost
  ) throws(RequestError) -> any TokenDroppingPolicy {
    do { return try SchedulePlanner(cost).resolved(policy) } catch let error as TargetError {
      throw .target(error)
    } catch let error as DropPolicyError {
      throw .policy(error)
    } catch {
      preconditionFailure("SchedulePlanner: \(error)")
    }
  }
}

extension VisionLanguageModel {
  /// Bytes of CLIP's weights, for a selection that uses them.
  fileprivate func clipBytes(_ method: Preselection.Method) -> Int {
    method == .cdPruner ? llava.clip?.weightBytes ?? 0 : 0
  }
}

extension RunReport.Policy {
  fileprivate init(described policy: any TokenDroppingPolicy, layerCount: Int) throws(RequestError) {
    self = try RequestError.wrapping(RequestError.policy) { () throws(DropPolicyError) in
      try RunReport.Policy(policy, layerCount: layerCount)
    }
  }
}

extension VisionLanguageModel {
  /// Checks options that all requests share, before any of them is prepared.
  ///
  /// - Throws: `RequestError` for a bias of a token that does not exist, and for a constraint that is not supported.
  package func check(_ options: GenerationOptions) throws(RequestError) {
    try checkBiases(options)
    guard let constraint = options.constraint else { return }
    do { _ = try grammars.start(constraint, tokenizer) } catch { throw .constraint(error) }
  }

  fileprivate func checkBiases(_ options: GenerationOptions) throws(RequestError) {
    let size = llava.configuration.text.vocabularySize
    if let token = options.logitBias.keys.filter({ !(0..<size).contains($0) }).min() {
      throw .generation(.noTokenToBias(token, vocabularySize: size))
    }
  }
}
