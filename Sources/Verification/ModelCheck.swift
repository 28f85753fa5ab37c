import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
package import PDrop
import TokenDropping

/// Runs the cases of a reference through the public API and compares every stage that the reference stores.
package struct ModelCheck: Sendable {
  private let model: VisionLanguageModel
  private let folder: ReferenceFolder
  private let threads: Int

  package init(_ model: VisionLanguageModel, _ folder: ReferenceFolder, threads: Int) {
    (self.model, self.folder, self.threads) = (model, folder, threads)
  }

  /// Checks that a case can be read and fits the model.
  package func validate(_ name: String) throws(ReferenceError) {
    _ = try ReferenceCase(name, of: folder, for: model)
  }

  /// Runs a case under each of its policies; the stages before the decoder are compared in the first run.
  ///
  /// - Throws: `ReferenceError` for a case that cannot be read or does not fit the model, `ImageError` for an image.
  package func report(on name: String) throws -> CaseResult {
    let expected = try ReferenceCase(name, of: folder, for: model)
    let prompt = prompt(of: expected)
    var checker = CaseChecker()
    try checker.comparePrompt(
      expected, text: model.rendered(prompt),
      tokens: model.markedTokens(of: prompt, images: expected.images.map { .file($0.path) }))
    var end: String?
    for (index, run) in expected.runs.enumerated() {
      do {
        let (tensors, report) = try self.run(run, prompt, expected)
        if index == 0 {
          let compute = ComputeContext(workers: Workers(count: threads))
          checker.compareImages(expected, tensors, report, model.llava, on: compute)
        }
        checker.compareRun(run, tensors, report, images: expected.images)
      } catch RequestError.sequence(let error) {
        // Tokens that differ from the reference may not form a valid sequence; equal ones must.
        guard checker.hasDeparture else { throw ReferenceError.doesNotFit(file: expected.file, reason: "\(error)") }
        end = "\(error)"
        break
      }
    }
    return CaseResult(model: model, name: name, stages: checker.results, end: end)
  }

  private func prompt(of expected: ReferenceCase) -> Request.Prompt {
    guard let question = expected.question else { return .rendered(expected.prompt) }
    return Request(question: question, images: expected.images.map { .file($0.path) }).prompt
  }

  /// Generates as many tokens as the reference, ignoring EOS.
  private func run(
    _ run: ReferenceCase.Run, _ prompt: Request.Prompt, _ expected: ReferenceCase
  ) throws -> (TraceTensors, RunReport) {
    var options = GenerationOptions()
    options.maxTokens = run.tokens.count
    options.ignoresEOS = true
    var request = Request(
      prompt: prompt, images: expected.images.map { .file($0.path) }, policy: run.policy, options: options)
    request.recordsTensors = true
    var session = try Session(model, request, threads: threads)
    // NaN logits end the generation early, and are compared like others.
    do { while try session.next() != nil {} } catch {}
    guard let tensors = session.tensors else { preconditionFailure("the request asked for tensors") }
    return (tensors, session.report)
  }
}

/// The result of a case: all stage results, and the first departure with its likely cause.
package struct CaseResult: Sendable {
  package let model: String
  package let name: String
  /// The results in pipeline order.
  package let stages: [StageResult]
  /// The error that ended the run before its last stage; `nil` for a complete run.
  package let end: String?
  /// The first stage that exceeds its tolerance.
  package let departure: StageResult?
  /// The most likely cause of the departure, as one sentence without a full stop.
  package let likelyCause: String?

  package var agrees: Bool { departure == nil }

  init(model: VisionLanguageModel, name: String, stages: [StageResult], end: String?) {
    (self.model, self.name, self.stages, self.end) = (model.name, name, stages, end)
    let first = stages.firstIndex { !$0.agrees }
    departure = first.map { stages[$0] }
    likelyCause = first.map { LikelyCause(of: stages[$0], after: stages[..<$0], model).sentence }
  }
}

/// Compares the stages of a case, in pipeline order.
struct CaseChecker {
  private(set) var results: [StageResult] = []

  var hasDeparture: Bool { results.contains { !$0.agrees } }

  /// Compares numbers, if the reference stores them.
  mutating func add(
    _ stage: CheckStage, _ found: [Float], _ expected: [Float]?, _ tolerance: Tolerance, _ axes: Comparison.Axes
  ) {
    guard let expected else { return }
    add(stage, tolerance, .numbers(found, expected, tolerance, axes))
  }

  /// Compares entries that must be equal, if the reference stores them.
  mutating func add<Entry: Equatable>(_ stage: CheckStage, _ found: [Entry], _ expected: [Entry]?, _ axis: String) {
    guard let expected else { return }
    add(stage, .none, .entries(found, expected, .list(axis)))
  }

  /// Compares texts.
  mutating func add(_ stage: CheckStage, text found: String, _ expected: String) {
    add(stage, .none, .texts(found, expected))
  }

  /// Adds a comparison.
  mutating func add(_ stage: CheckStage, _ tolerance: Tolerance, _ comparison: Comparison) {
    results.append(
      StageResult(stage: stage, tolerance: tolerance, difference: comparison.difference, place: comparison.place))
  }
}

/// The most likely cause of the first departure, given that all stages before it agree.
struct LikelyCause {
  private let result: StageResult
  /// The stages before the departure.
  private let earlier: ArraySlice<StageResult>
  private let model: VisionLanguageModel

  init(of result: StageResult, after earlier: ArraySlice<StageResult>, _ model: VisionLanguageModel) {
    (self.result, self.earlier, self.model) = (result, earlier, model)
  }

  /// The cause as one sentence, without a full stop.
  var sentence: String { rounding.map { "\($0), or \(cause)" } ?? cause }

  /// The rounding of compute types, for stages whose numbers depend on it; `nil` in f32.
  private var rounding: String? {
    let (types, cache) = (model.precision.computeType, model.precision.cacheType)
    switch result.stage.kind {
    case .visionEncoderOutput, .features:
      guard types.vision != .f32 else { return nil }
    case .layers, .scores, .kept, .lastLogits, .tokens, .finalLogits:
      guard types.decoder != .f32 || types.head != .f32 || types.vision != .f32 || cache != .f32 else { return nil }
    default: return nil
    }
    return "the numbers are rounded as \(model.precision.name) requires (compare in f32 to exclude this)"
  }

  private var cause: String {
    switch result.stage.kind {
    case .prompt:
      "the chat template differs: chat_template.json, chat_template.jinja, or the chosen template"
    case .promptTokens:
      "the tokenizer files differ, or their settings for the BOS token (add_bos_token) or for the space before a text "
        + "(legacy, add_prefix_space)"
    case .pixels: pixels
    case .pixelValues: "image_mean, image_std or rescale_factor of preprocessor_config.json differs"
    case .visionEncoderInput:
      "the vision encoder's patch, class or position embedding or its pre_layrnorm has different weights"
        + (wasCompared(.pixelValues) ? "" : ", or image_mean or image_std of preprocessor_config.json differs")
    case .visionEncoderOutput:
      "a layer of the vision encoder has different weights, or vision_feature_layer or the vision encoder's hidden_act "
        + "or layer_norm_eps differs"
    case .features: features
    case .imageSpans, .sequenceLength:
      "<image> is in another position, or an image has a different number of tokens (vision_feature_select_strategy, "
        + "patch_size)"
    case .embedding: "the embedding table (embed_tokens) has different weights"
    case .layers: layers
    case .drop:
      "the drop is at another layer or keeps a different number of tokens: the rounding of a keep ratio, or its base"
    case .scores:
      "the ranking: the input norm, q_proj or k_proj of the scoring layer (after the drop in PyramidDrop, before it in "
        + "FastV), the positions, or the mean over heads"
    case .kept: "the number of kept tokens is rounded differently, or two scores are closer than the tolerance"
    case .cacheLengthsAfterPrompt, .cacheLengthsAtEnd: "a layer does not cache exactly the tokens that reach it"
    case .lastLogits: "the final norm or lm_head has different weights, or tie_word_embeddings differs"
    case .tokens, .finalLogits:
      "the positions of new tokens or the contents of the KV cache, or two tokens are almost equally likely"
    case .text: "the detokenizer differs, or the set of special tokens"
    }
  }

  private var pixels: String {
    result.place?.coordinates.isEmpty == true
      ? "the image is split into different views: image_grid_pinpoints differs"
      : "the image is fitted to the square in another mode (here '\(model.preprocessor?.mode.rawValue ?? "none")'; see "
        + "preprocessor_config.json and image mode), or resized with another filter"
  }

  private var features: String {
    let pixels = earlier.first { $0.stage.kind == .pixels && $0.stage.image == result.stage.image }
    if pixels?.place != nil {
      return
        "the image's pixels differ slightly from the reference's, by the JPEG decoder or by rounding; check with "
        + "a PNG image"
    }
    guard let row = result.place?.coordinates.first?.index else {
      return
        "the image has a different number of tokens: vision_feature_select_strategy, image_grid_pinpoints or unpadding"
    }
    if wasCompared(.visionEncoderOutput) {
      return row < model.llava.configuration.visualTokensPerView
        ? "the projector has different weights, or projector_hidden_act differs"
        : "the tiles are packed differently (their order, unpadding, image_newline), or the projector has different "
          + "weights"
    }
    let tiles =
      row < model.llava.configuration.visualTokensPerView
      ? "" : "the tiles are packed differently (their order, unpadding, image_newline), or "
    return tiles
      + "the vision encoder or the projector has different weights, or vision_feature_layer, an activation, image_mean "
      + "or image_std differs; a reference with the vision encoder's hidden states can distinguish these"
  }

  private var layers: String {
    let layer = result.place?.coordinates.first?.index ?? 0
    let isAfterDrop = layer > 0 && result.stage.layers?.lowerBound == layer
    // Only the rows of the last token are compared; a change to other tokens reaches them one layer later.
    return "layer \(layer) has different weights"
      + (layer > 0 ? ", or an earlier one with a smaller effect" : "")
      + (isAfterDrop ? ", or positions after the drop are numbered differently" : "")
      + (layer < 4 ? ", or rope_theta, rope_scaling or rms_norm_eps differs" : ", or rms_norm_eps differs slightly")
  }

  private func wasCompared(_ kind: CheckStage.Kind) -> Bool {
    earlier.contains { $0.stage.kind == kind && $0.stage.image == result.stage.image }
  }
}
