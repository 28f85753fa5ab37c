import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
package import PDrop
import TokenDropping

/// Runs cases of a reference as a user would run them and compares every stage that the reference stores.
package struct ModelCheck: Sendable {
  private let model: VisionLanguageModel
  private let folder: ReferenceFolder
  private let threads: Int

  package init(_ model: VisionLanguageModel, _ folder: ReferenceFolder, threads: Int) {
    (self.model, self.folder, self.threads) = (model, folder, threads)
  }

  /// Finds out whether a case can be read and is of the model's sizes.
  package func validate(_ name: String) throws(ReferenceError) {
    _ = try ReferenceCase(name, of: folder, for: model)
  }

  /// Runs a case under each of its policies; what comes before the decoder is compared in the first run.
  ///
  /// - Throws: `ReferenceError` for a case that cannot be read or does not fit the model, `ImageError` for an image.
  package func report(on name: String) throws -> CaseResult {
    let expected = try ReferenceCase(name, of: folder, for: model)
    let prompt = prompt(of: expected)
    var sheet = CheckSheet()
    try sheet.comparePrompt(expected, text: model.rendered(prompt), tokens: model.tokens(of: prompt))
    var end: String?
    for (index, run) in expected.runs.enumerated() {
      do {
        let (tensors, report) = try self.run(run, prompt, expected)
        if index == 0 {
          let compute = ComputeContext(workers: Workers(count: threads))
          sheet.compareImages(expected, tensors, report, model.llava, on: compute)
        }
        sheet.compareRun(run, tensors, report, images: expected.images)
      } catch let error as SequenceError {
        // Tokens that are not the reference's may not even make a sequence; those that are must.
        guard sheet.hasDeparted else { throw ReferenceError.doesNotFit(file: expected.file, reason: "\(error)") }
        end = "\(error)"
        break
      }
    }
    return CaseResult(model: model, name: name, stages: sheet.results, end: end)
  }

  private func prompt(of expected: ReferenceCase) -> Request.Prompt {
    guard let question = expected.question else { return .rendered(expected.prompt) }
    return Request(question: question, images: expected.images.map { .file($0.path) }).prompt
  }

  /// A run to the reference's last token, EOS tokens like any other.
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
    // Logits that are no numbers end the answer early, and are compared like others.
    do { while try session.next() != nil {} } catch {}
    guard let tensors = session.tensors else { preconditionFailure("the request asked for tensors") }
    return (tensors, session.report)
  }
}

/// What came of a case: every stage's comparison, and the first that departs with its likely cause.
package struct CaseResult: Sendable {
  package let model: String
  package let name: String
  /// In the order of the pipeline.
  package let stages: [StageResult]
  /// Why the run ended before its last stage.
  package let end: String?
  /// The first stage that departs.
  package let departure: StageResult?
  /// What most likely made it depart, in one sentence.
  package let likelyCause: String?

  package var agrees: Bool { departure == nil }

  init(model: VisionLanguageModel, name: String, stages: [StageResult], end: String?) {
    (self.model, self.name, self.stages, self.end) = (model.name, name, stages, end)
    let first = stages.firstIndex { !$0.agrees }
    departure = first.map { stages[$0] }
    likelyCause = first.map { LikelyCause(of: stages[$0], behind: stages[..<$0], model).sentence }
  }
}

/// The comparisons of a case, stage by stage in the order of the pipeline.
struct CheckSheet {
  private(set) var results: [StageResult] = []

  var hasDeparted: Bool { results.contains { !$0.agrees } }

  /// Compares numbers, unless the reference has none.
  mutating func add(
    _ stage: CheckStage, _ found: [Float], _ expected: [Float]?, _ allowance: Allowance, _ axes: Comparison.Axes
  ) {
    guard let expected else { return }
    add(stage, allowance, .numbers(found, expected, allowance, axes))
  }

  /// Compares entries that must be equal, unless the reference has none.
  mutating func add<Entry: Equatable>(_ stage: CheckStage, _ found: [Entry], _ expected: [Entry]?, _ axis: String) {
    guard let expected else { return }
    add(stage, .none, .entries(found, expected, .list(axis)))
  }

  /// Compares texts.
  mutating func add(_ stage: CheckStage, text found: String, _ expected: String) {
    add(stage, .none, .texts(found, expected))
  }

  /// Takes down a comparison.
  mutating func add(_ stage: CheckStage, _ allowance: Allowance, _ comparison: Comparison) {
    results.append(
      StageResult(stage: stage, allowance: allowance, difference: comparison.difference, place: comparison.place))
  }
}

/// What most likely makes a stage the first to depart, given that those before it agree.
struct LikelyCause {
  private let result: StageResult
  /// The stages that were compared before it.
  private let earlier: ArraySlice<StageResult>
  private let model: VisionLanguageModel

  init(of result: StageResult, behind earlier: ArraySlice<StageResult>, _ model: VisionLanguageModel) {
    (self.result, self.earlier, self.model) = (result, earlier, model)
  }

  /// One sentence, without a full stop.
  var sentence: String {
    switch result.stage.kind {
    case .prompt:
      "the chat template is not the reference's: chat_template.json, chat_template.jinja or --chat-template"
    case .promptTokens:
      "the tokenizer's files are not the reference's, or say otherwise where the BOS token goes (add_bos_token) or "
        + "which text gets a space in front (legacy, add_prefix_space)"
    case .pixels: pixels
    case .pixelValues: "image_mean, image_std or rescale_factor of preprocessor_config.json differs"
    case .visionEncoderInput:
      "the vision encoder's patch, class or position embedding or its pre_layrnorm has other weights"
        + (wasCompared(.pixelValues) ? "" : ", or image_mean or image_std of preprocessor_config.json differs")
    case .visionEncoderOutput:
      "a layer of the vision encoder has other weights, or vision_feature_layer or the vision encoder's hidden_act or layer_norm_eps differs"
    case .features: features
    case .imageSpans, .sequenceLength:
      "<image> stands elsewhere, or an image has another number of tokens (vision_feature_select_strategy, patch_size)"
    case .embedding: "the embedding table (embed_tokens) has other weights"
    case .layers: layers
    case .drop: "the drop happens elsewhere or keeps another number of tokens: the rounding of a share, or of what"
    case .scores:
      "the ranking: the input norm, q_proj or k_proj of the layer that it asks (PyramidDrop the one after the drop, FastV "
        + "the one before), the positions, or the mean over heads"
    case .kept: "the number that stays is rounded otherwise, or two scores are closer than the tolerance"
    case .cacheLengthsAfterPrompt, .cacheLengthsAtEnd: "a layer caches other tokens than those that reach it"
    case .lastLogits: "the final norm or lm_head has other weights, or tie_word_embeddings differs"
    case .tokens, .finalLogits:
      "the positions of new tokens or what they find in the caches, or two tokens are almost equally likely"
    case .text: "the tokenizer turns tokens into text otherwise, or takes other tokens for special ones"
    }
  }

  private var pixels: String {
    result.place?.coordinates.isEmpty == true
      ? "the image is cut into other views: image_grid_pinpoints differs"
      : "the image is fitted to the square otherwise (here by '\(model.preprocessor.mode.rawValue)'; see "
        + "preprocessor_config.json and --image-mode), or resized by another filter"
  }

  private var features: String {
    let pixels = earlier.first { $0.stage.kind == .pixels && $0.stage.image == result.stage.image }
    if pixels?.place != nil {
      return
        "the image's pixels are not quite the reference's, by another JPEG decoder or rounding; another image, as "
        + "PNG, shows whether that is all"
    }
    guard let row = result.place?.coordinates.first?.index else {
      return
        "the image has another number of tokens: vision_feature_select_strategy, image_grid_pinpoints or unpadding"
    }
    if wasCompared(.visionEncoderOutput) {
      return row < model.llava.configuration.visualTokensPerView
        ? "the projector has other weights, or projector_hidden_act differs"
        : "the tiles are put together otherwise (their order, unpadding, image_newline), or the projector has other weights"
    }
    let tiles =
      row < model.llava.configuration.visualTokensPerView
      ? "" : "the tiles are put together otherwise (their order, unpadding, image_newline), or "
    return tiles
      + "the vision encoder or the projector has other weights, vision_feature_layer or an activation differs, or image_mean or "
      + "image_std does; a reference with the vision encoder's hidden states tells them apart"
  }

  private var layers: String {
    let layer = result.place?.coordinates.first?.index ?? 0
    let isBehindDrop = layer > 0 && result.stage.layers?.lowerBound == layer
    // Only the last token's rows are compared, which a change to other tokens reaches a layer later.
    return "layer \(layer) has other weights"
      + (layer > 0 ? ", or one before it with little effect of its own" : "")
      + (isBehindDrop ? ", or positions after the drop are numbered otherwise" : "")
      + (layer < 4 ? ", or rope_theta, rope_scaling or rms_norm_eps differs" : ", or rms_norm_eps differs a little")
  }

  private func wasCompared(_ kind: CheckStage.Kind) -> Bool {
    earlier.contains { $0.stage.kind == kind && $0.stage.image == result.stage.image }
  }
}
