import ImageProcessing
import Kernels
import LLaVA
import ModelFormats
import PDrop

extension CaseChecker {
  /// Compares the prompt as text and as tokens.
  ///
  /// - Parameter tokens: The found tokens. Negative ones are image placeholders of a vocabulary without an image token,
  ///   as in an original LLaVA checkpoint, and are not compared.
  mutating func comparePrompt(_ expected: ReferenceCase, text: String, tokens: [Int]) {
    // Without a question the prompt is taken from the reference.
    if expected.question != nil { add(CheckStage(kind: .prompt), text: text, expected.prompt) }
    let comparable = tokens.enumerated().map { index, token in
      token < 0 && index < expected.promptTokens.count ? expected.promptTokens[index] : token
    }
    add(CheckStage(kind: .promptTokens), comparable, expected.promptTokens, "token")
  }

  /// Compares every image from its pixels to its features, and the layout of the sequence.
  mutating func compareImages(
    _ expected: ReferenceCase, _ tensors: TraceTensors, _ report: RunReport, _ llava: LLaVAModel,
    on compute: ComputeContext
  ) {
    let hiddenSize = llava.configuration.text.hiddenSize
    var rows = 0
    for (image, views) in zip(expected.images, tensors.views) {
      let count = llava.visualTokenCount(views.layout)
      comparePixels(image, views)
      if let encoder = llava.imageEncoder { compareVisionEncoder(image, views, encoder.vision, on: compute) }
      let features = Array(tensors.features[rows * hiddenSize..<(rows + count) * hiddenSize])
      add(
        CheckStage(kind: .features, image: image.name), features, image.features, .features,
        .rows(of: hiddenSize))
      rows += count
    }
    add(CheckStage(kind: .imageSpans), report.imageSpans, expected.imageSpans, "image")
    add(CheckStage(kind: .sequenceLength), [report.sequenceLength], [expected.sequenceLength], "sequence")
  }

  private mutating func comparePixels(_ image: ReferenceCase.Image, _ views: ImageViews) {
    let axes = Comparison.Axes.views(of: views.size)
    add(
      CheckStage(kind: .pixels, image: image.name), views.pixels.map(Float.init),
      image.pixels?.map(Float.init), .pixels(isJPEG: image.isJPEG), axes)
    if image.pixelValues != nil {
      add(
        CheckStage(kind: .pixelValues, image: image.name), views.pixelValues, image.pixelValues, .pixelValues,
        axes)
    }
  }

  /// Compares the vision encoder's first and last hidden states of the first view, class row included.
  ///
  /// A run does not store them, so they are recomputed.
  private mutating func compareVisionEncoder(
    _ image: ReferenceCase.Image, _ views: ImageViews, _ visionEncoder: VisionEncoder, on compute: ComputeContext
  ) {
    let stages: [(kind: CheckStage.Kind, expected: [Float]?, layers: Int)] = [
      (.visionEncoderInput, image.visionEncoderInput, 0), (.visionEncoderOutput, image.visionEncoderOutput, .max),
    ]
    for stage in stages where stage.expected != nil {
      let firstView = Array(views.pixelValues.prefix(3 * views.size * views.size))
      let hidden = visionEncoder.hidden(firstView, views: 1, layers: stage.layers, on: compute)
      add(
        CheckStage(kind: stage.kind, image: image.name), hidden.values, stage.expected, .features,
        .rows(of: hidden.columns))
    }
  }
}

extension CaseChecker {
  /// Compares the last prompt row after each layer, the drops between layers, and the answer.
  mutating func compareRun(
    _ expected: ReferenceCase.Run, _ tensors: TraceTensors, _ report: RunReport, images: [ReferenceCase.Image]
  ) {
    func stage(_ kind: CheckStage.Kind) -> CheckStage { CheckStage(kind: kind, run: expected.name) }
    let embedding = tensors.lastRows.first ?? []
    add(
      stage(.embedding), embedding, expected.lastRows.map { Array($0.prefix(embedding.count)) }, .hiddenStates,
      .list("column"))
    var next = 0
    for s in 0..<max(tensors.drops.count, expected.drops.count) {
      let found = s < tensors.drops.count ? tensors.drops[s] : nil
      if let layer = found?.layer {
        compareLayers(next..<layer, expected, tensors)
        next = layer
      }
      compareDrop(found, s < expected.drops.count ? expected.drops[s] : nil, run: expected.name, images)
    }
    compareLayers(next..<tensors.lastRows.count - 1, expected, tensors)

    add(stage(.cacheLengthsAfterPrompt), report.cacheLengthsAfterPrompt, expected.cacheLengthsAfterPrompt, "layer")
    add(stage(.lastLogits), tensors.lastLogits, expected.lastLogits, .logits, .list("token"))
    add(stage(.tokens), report.tokens, expected.tokens, "token")
    add(stage(.finalLogits), tensors.finalLogits, expected.finalLogits, .logits, .list("token"))
    add(stage(.text), text: report.text, expected.text)
    add(stage(.cacheLengthsAtEnd), report.cacheLengthsAtEnd, expected.cacheLengthsAtEnd, "layer")
  }

  /// Compares the last prompt row after each layer of a range.
  ///
  /// The result is that of the first layer above the tolerance, or else that of the largest difference.
  private mutating func compareLayers(_ layers: Range<Int>, _ expected: ReferenceCase.Run, _ tensors: TraceTensors) {
    guard let rows = expected.lastRows, let last = layers.last else { return }
    let stage = CheckStage(kind: .layers, run: expected.name, layers: layers.lowerBound...last)
    let axes = Comparison.Axes(names: ["layer", "column"], innerSizes: [tensors.lastRows[0].count])
    var reported: Comparison?
    for layer in layers {
      let found = tensors.lastRows[layer + 1]
      let row = Array(rows[(layer + 1) * found.count..<(layer + 2) * found.count])
      var comparison = Comparison.numbers(found, row, .hiddenStates, axes)
      comparison.place?.coordinates[0].index = layer
      if comparison.difference >= reported?.difference ?? 0 { reported = comparison }
      guard comparison.difference <= Tolerance.hiddenStates.limit else { break }
    }
    if let reported { add(stage, .hiddenStates, reported) }
  }

  /// Compares a drop: its sizes, scores and kept tokens.
  private mutating func compareDrop(
    _ found: DropResult?, _ expected: ReferenceCase.Drop?, run: String, _ images: [ReferenceCase.Image]
  ) {
    let layer = found?.layer ?? expected?.layer
    let foundSizes = found.map { drop in
      [drop.layer, drop.tokensBefore, drop.tokensAfter] + drop.images.flatMap { [$0.start, $0.count] }
    }
    let expectedSizes = expected.map { drop in
      [drop.layer, drop.tokensBefore, drop.tokensAfter] + drop.images.flatMap { [$0.start, $0.count] }
    }
    add(CheckStage(kind: .drop, run: run, layer: layer), foundSizes ?? [], expectedSizes ?? [], "size")
    guard let found, let expected else { return }
    for (image, (foundPart, expectedPart)) in zip(images, zip(found.images, expected.images)) {
      func stage(_ kind: CheckStage.Kind) -> CheckStage {
        CheckStage(kind: kind, run: run, image: image.name, layer: layer)
      }
      add(stage(.scores), foundPart.scores, expectedPart.scores, .scores, .list("token"))
      add(stage(.kept), foundPart.kept, expectedPart.kept, "place")
    }
  }
}
