internal import Kernels
internal import LLaVA
internal import ModelFormats

extension CheckSheet {
  /// The prompt as text and as tokens.
  ///
  /// - Parameter tokens: Those found; negative ones stand for pictures where the vocabulary has no token for them, as that of
  ///   an original LLaVA checkpoint, and are not compared.
  mutating func comparePrompt(_ expected: ReferenceCase, text: String, tokens: [Int]) {
    // Without a question the prompt is the reference's own.
    if expected.question != nil { add(CheckStage(kind: .prompt), text: text, expected.prompt) }
    let comparable = tokens.enumerated().map { index, token in
      token < 0 && index < expected.promptTokens.count ? expected.promptTokens[index] : token
    }
    add(CheckStage(kind: .promptTokens), comparable, expected.promptTokens, "token")
  }

  /// Every picture from its pixels to its features, and the sequence that they and the prompt make.
  mutating func comparePictures(
    _ expected: ReferenceCase, _ tensors: TraceTensors, _ report: RunReport, _ llava: LLaVAModel, on compute: Compute
  ) {
    let hiddenSize = llava.configuration.text.hiddenSize
    var rows = 0
    for ((picture, views), span) in zip(zip(expected.pictures, tensors.views), report.imageSpans) {
      comparePixels(picture, views)
      compareTower(picture, views, llava.vision, on: compute)
      let features = Array(tensors.features[rows * hiddenSize..<(rows + span[1]) * hiddenSize])
      add(
        CheckStage(kind: .features, picture: picture.name), features, picture.features, .features,
        .rows(of: hiddenSize))
      rows += span[1]
    }
    add(CheckStage(kind: .imageSpans), report.imageSpans, expected.imageSpans, "picture")
    add(CheckStage(kind: .sequenceLength), [report.sequenceLength], [expected.sequenceLength], "sequence")
  }

  private mutating func comparePixels(_ picture: ReferenceCase.Picture, _ views: ImageViews) {
    let axes = Comparison.Axes.views(of: views.size)
    add(
      CheckStage(kind: .pixels, picture: picture.name), views.pixels.map(Float.init),
      picture.pixels?.map(Float.init), .pixels(isJPEG: picture.isJPEG), axes)
    if picture.pixelValues != nil {
      add(
        CheckStage(kind: .pixelValues, picture: picture.name), views.pixelValues, picture.pixelValues, .pixelValues,
        axes)
    }
  }

  /// The tower's first and last hidden states, of the first view and with its class row; a run does not keep them.
  private mutating func compareTower(
    _ picture: ReferenceCase.Picture, _ views: ImageViews, _ tower: VisionEncoder, on compute: Compute
  ) {
    let stages: [(kind: CheckStage.Kind, expected: [Float]?, layers: Int)] = [
      (.towerInput, picture.towerInput, 0), (.towerOutput, picture.towerOutput, .max),
    ]
    for stage in stages where stage.expected != nil {
      let firstView = Array(views.pixelValues.prefix(3 * views.size * views.size))
      let hidden = tower.hidden(firstView, views: 1, layers: stage.layers, on: compute)
      add(
        CheckStage(kind: stage.kind, picture: picture.name), hidden.values, stage.expected, .features,
        .rows(of: hidden.columns))
    }
  }
}
