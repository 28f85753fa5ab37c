internal import Kernels
internal import LLaVA
internal import ModelFormats

extension VisionLanguageModel {
  /// A prompt as the model reads it.
  ///
  /// - Parameter systemText: The request's, for messages.
  /// - Throws: `PromptError` for a system text that the template or the prompt has no place for.
  public func rendered(_ prompt: Request.Prompt, systemText: String? = nil) throws(PromptError) -> String {
    switch (prompt, systemText) {
    case (.messages(let messages), _):
      guard (systemText ?? "").isEmpty || template.takesSystemText else {
        throw .noPlaceForSystemText(template: template.name)
      }
      return template.render(messages, systemText: systemText)
    case (_, .some): throw .systemTextForFinishedPrompt
    case (.rendered(let text), nil): return text
    case (.tokens(let tokens), nil):
      return tokenizer.decode(tokens.map(Int32.init(truncatingIfNeeded:)), skipSpecialTokens: false)
    }
  }

  /// A prompt's tokens, beginning token included, one image token per picture.
  ///
  /// - Throws: `PromptError` as `rendered` does.
  public func tokens(of prompt: Request.Prompt, systemText: String? = nil) throws(PromptError) -> [Int] {
    if case .tokens(let tokens) = prompt, systemText == nil { return tokens }
    return tokenizer.encodePrompt(try rendered(prompt, systemText: systemText)).map(Int.init)
  }

  /// The tokens of a request's prompt.
  ///
  /// - Throws: `PromptError` as `rendered` does, `SequenceError` when the prompt does not name as many pictures as are
  ///   given.
  func promptTokens(of request: Request) throws -> [Int] {
    let tokens = try tokens(of: request.prompt, systemText: request.systemText)
    let placeholders = tokens.count { $0 == llava.configuration.imageTokenID }
    guard placeholders == request.pictures.count else {
      throw SequenceError.placeholderMismatch(placeholders: placeholders, pictures: request.pictures.count)
    }
    return tokens
  }

  /// A picture, decoded and cut into what the tower looks at.
  ///
  /// - Precondition: It is not encoded already.
  func views(
    of picture: Request.Picture, appliesOrientation: Bool, _ timings: inout RunReport.Timings
  ) throws -> ImageViews {
    var decoder = ImageDecoder()
    decoder.appliesOrientation = appliesOrientation
    let start = ContinuousClock.now
    let image: Image
    switch picture {
    case .file(let path): image = try decoder.decode(contentsOfFile: path)
    case .encoded(let bytes, let name): image = try decoder.decode(bytes, name: name)
    case .decoded(let decoded): image = decoded
    case .features: preconditionFailure("a picture that is encoded has been looked at")
    }
    let decoded = ContinuousClock.now
    let views = preprocessor(image)
    timings.decodeImage += (decoded - start).milliseconds
    timings.preprocess += (ContinuousClock.now - decoded).milliseconds
    return views
  }

  /// What stands for the pictures among a prompt's embeddings, one after the other, `[V, D]`.
  ///
  /// The views of a picture are one batch; so memory grows with the largest picture, not with their number.
  func features(of pictures: [PreparedPicture], on compute: Compute) -> Matrix {
    var features = Matrix(rows: 0, columns: llava.configuration.text.hiddenSize)
    for picture in pictures {
      features.append(Matrix(picture.encoding(by: self, on: compute).features, columns: features.columns))
    }
    return features
  }
}

extension RunReport.Stage {
  init(_ drop: DropRecord) {
    self.init(
      layer: drop.layer, scoringLayer: drop.scoringLayer, tokensBefore: drop.tokensBefore,
      tokensAfter: drop.tokensAfter,
      images: drop.pictures.map { Picture(start: $0.start, count: $0.count, kept: $0.kept) })
  }
}

extension RunReport.Flops {
  /// Operations are twice the multiply-adds of the ledger.
  init(_ ledger: CostLedger) {
    func count(_ phase: Phase) -> Int { 2 * ledger.total(phase) }
    self.init(
      encode: count(.encode), project: count(.project), prefill: count(.prefill), rank: count(.rank),
      decode: count(.decode), head: count(.head))
  }
}

extension RunReport.Timings {
  mutating func add(_ durations: [Phase: Duration]) {
    func milliseconds(_ phase: Phase) -> Double { durations[phase, default: .zero].milliseconds }
    encode = milliseconds(.encode)
    project = milliseconds(.project)
    prefill = milliseconds(.prefill)
    rank = milliseconds(.rank)
    decode = milliseconds(.decode)
  }
}

extension Duration {
  var milliseconds: Double { Double(components.seconds) * 1e3 + Double(components.attoseconds) * 1e-15 }
}
