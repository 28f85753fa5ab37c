import ImageProcessing
import LLaVA
import ModelFormats
import PDrop
import Storage
import TokenDropping

/// A prompt with its images, and the reference library's values of every stage.
///
/// Values that the reference does not store are `nil` and are not compared.
struct ReferenceCase {
  /// An image and its values before the decoder.
  struct Image {
    /// The file name without folders.
    var name: String
    var path: String
    /// Whether the file is a JPEG, whose pixels differ slightly between decoders.
    var isJPEG: Bool
    /// The resized pixels, `[views, 3, S, S]`.
    var pixels: [UInt8]?
    /// The normalized pixels, `[views, 3, S, S]`.
    var pixelValues: [Float]?
    /// The input of the vision encoder's first layer for the first view, `[1 + patches, vision hidden size]`.
    var visionEncoderInput: [Float]?
    /// The output of the vision encoder's feature layer for the first view, `[1 + patches, vision hidden size]`.
    var visionEncoderOutput: [Float]?
    /// The projected features that are spliced into the sequence, `[V, D]`.
    var features: [Float]?
  }

  /// A drop of visual tokens.
  struct Drop {
    /// The tokens of one image in the drop.
    struct Image {
      /// The first row of the image in the sequence.
      var start: Int
      var count: Int
      /// The score of each token, `[count]`.
      var scores: [Float]?
      /// The indices of the kept tokens.
      var kept: [Int]?
    }

    /// The layer after the drop.
    var layer: Int
    var tokensBefore: Int
    var tokensAfter: Int
    var images: [Image]
  }

  /// A run of the decoder under one policy.
  struct Run {
    var name: String
    var policy: any TokenDroppingPolicy
    /// The last prompt row before the first layer and after each layer, `[layers + 1, D]`.
    var lastRows: [Float]?
    var drops: [Drop]
    /// The logits after the prefill, `[N]`.
    var lastLogits: [Float]?
    /// The logits of the last generated token, `[N]`.
    var finalLogits: [Float]?
    var tokens: [Int]
    var text: String
    var cacheLengthsAfterPrompt: [Int]
    var cacheLengthsAtEnd: [Int]
  }

  /// The file that describes the case.
  var file: String
  /// The question, if the prompt was rendered from it by the model's chat template.
  var question: String?
  var prompt: String
  var promptTokens: [Int]
  var images: [Image]
  /// Start and length of each image in the sequence.
  var imageSpans: [[Int]]
  var sequenceLength: Int
  var runs: [Run]
}

/// The JSON of a reference case, as the goldens' README describes it.
struct ReferenceCaseFile: Decodable {
  struct Policy: Decodable {
    var method: String
    var layers: [Int]?
    var keep: [Double]?
    var k: Int?
    var r: Double?

    /// The policy; `nil` for an unknown method or missing parameters.
    var policy: (any TokenDroppingPolicy)? {
      switch (method, layers, keep, k, r) {
      case ("none", _, _, _, _): NoDropping()
      case ("pyramiddrop", let layers?, let keep?, _, _): PyramidDrop(.listed(layers: layers, ratios: keep))
      case ("fastv", _, _, let k?, let r?): FastV(k: k, r: r)
      default: nil
      }
    }
  }

  struct Stage: Decodable {
    struct Image: Decodable {
      var start: Int
      var count: Int
      var kept: Int
    }

    var layer: Int
    var tokensBefore: Int
    var tokensAfter: Int
    var images: [Image]

    private enum CodingKeys: String, CodingKey {
      case layer, tokensBefore = "tokens_before", tokensAfter = "tokens_after", images
    }
  }

  struct Run: Decodable {
    var name: String
    var policy: Policy
    var tokens: [Int]
    var text: String
    var cacheLengthsAfterPrompt: [Int]
    var cacheLengthsAtEnd: [Int]
    var stages: [Stage]

    private enum CodingKeys: String, CodingKey {
      case name, policy, tokens, text, stages
      case cacheLengthsAfterPrompt = "kv_len_prefill", cacheLengthsAtEnd = "kv_len_end"
    }
  }

  /// The GGUF file of the language model, and that of the vision encoder.
  var model: String?
  var mmproj: String?
  var images: [String]
  var question: String?
  var prompt: String
  var promptTokens: [Int]
  var imageSpans: [[Int]]
  var sequenceLength: Int
  var newTokens: Int
  var runs: [Run]

  private enum CodingKeys: String, CodingKey {
    case model, mmproj, images, question, prompt, runs
    case promptTokens = "prompt_ids", imageSpans = "image_spans", sequenceLength = "sequence_length"
    case newTokens = "new_tokens"
  }
}

extension ReferenceCase {
  /// Reads a case with its tensors, and checks them against the sizes of the model.
  ///
  /// - Throws: `ReferenceError` with the file and the reason.
  init(_ name: String, of folder: ReferenceFolder, for model: VisionLanguageModel) throws(ReferenceError) {
    let path = "\(folder.path)/cases/\(folder.model)/\(name)"
    file = path + ".json"
    let stored: ReferenceCaseFile
    do { stored = try JSONFile.read(ReferenceCaseFile.self, at: file) } catch { throw .file(error) }
    let tensors = try ReferenceTensors(path + ".safetensors")
    (question, prompt, promptTokens) = (stored.question, stored.prompt, stored.promptTokens)
    (imageSpans, sequenceLength) = (stored.imageSpans, stored.sequenceLength)
    guard !stored.runs.isEmpty else { throw .badValue(file: file, key: "runs", expected: "one or more", found: "none") }
    images = []
    for image in stored.images {
      images.append(
        try Image(image, isOneOfSeveral: stored.images.count > 1, of: folder, for: model, file))
    }
    runs = []
    for run in stored.runs {
      guard run.tokens.count == stored.newTokens, !run.tokens.isEmpty else {
        throw .badValue(
          file: file, key: "\(run.name): tokens", expected: "new_tokens (\(stored.newTokens)), and at least one",
          found: "\(run.tokens.count)")
      }
      runs.append(try Run(run, tensors, model, file))
    }
  }
}

extension ReferenceCase.Image {
  fileprivate init(
    _ image: String, isOneOfSeveral: Bool, of folder: ReferenceFolder, for model: VisionLanguageModel, _ file: String
  ) throws(ReferenceError) {
    let parts = image.split(separator: "/", omittingEmptySubsequences: false)
    // References of several kinds may share the images of one next to them.
    let inner = parts.first == ".." ? parts.dropFirst() : parts[...]
    guard let last = inner.last, inner.allSatisfy({ !["", ".", ".."].contains($0) }) else {
      throw .badValue(
        file: file, key: "images", expected: "paths inside the reference's folder or next to it", found: image.excerpt)
    }
    name = String(last)
    path = "\(folder.path)/\(image)"
    do {
      let bytes = try SharedBytes(mapping: path)
      isJPEG = ImageFormat(signature: bytes.copy(0..<min(16, bytes.count))) == .jpeg
    } catch {
      throw .file(.file(error))
    }

    let configuration = model.llava.configuration
    guard let vision = configuration.vision, let preprocessor = model.preprocessor else {
      throw .badValue(file: file, key: "images", expected: "none, as the model takes no images", found: image.excerpt)
    }
    let size = preprocessor.size
    let kind =
      configuration.imageSplitting.map { $0.splits ? "smolvlm" : "smolvlm_whole" }
      ?? (preprocessor.tilesOnlySingleImages
        ? "llava_onevision" : preprocessor.mode == .anyres ? "llava_next" : "llava15")
    let stored = isOneOfSeveral && preprocessor.tilesOnlySingleImages ? name + ".several" : name
    if let tensors = try ReferenceTensors(ifPresent: "\(folder.path)/preprocess/\(kind)/\(stored).safetensors") {
      // An image with one view may be stored without the axis of views.
      func views(_ name: String) -> [Int] { (tensors.rank(name) == 3 ? [] : [0]) + [3, size, size] }
      pixels = try tensors.bytes("pixels_u8", views("pixels_u8"))
      pixelValues = try tensors.floats("pixel_values", views("pixel_values"))
    }
    if let tensors = try ReferenceTensors(ifPresent: "\(folder.path)/features/\(folder.model)/\(stored).safetensors") {
      let shape = [vision.rowsPerView, vision.hiddenSize]
      visionEncoderInput = try tensors.floats("vision_hidden_0", shape)
      visionEncoderOutput = try tensors.floats("vision_hidden_select", shape)
      features = try tensors.floats("features", [0, configuration.text.hiddenSize])
    }
  }
}

extension ReferenceCase.Run {
  fileprivate init(
    _ run: ReferenceCaseFile.Run, _ tensors: ReferenceTensors, _ model: VisionLanguageModel, _ file: String
  ) throws(ReferenceError) {
    guard let policy = run.policy.policy else {
      throw .badValue(
        file: file, key: "\(run.name): policy",
        expected: "none, pyramiddrop with layers and keep, or fastv with k and r",
        found: "'\(run.policy.method)' with other parameters")
    }
    let text = model.llava.configuration.text
    do { _ = try policy.stages(layerCount: text.layerCount, visualTokenCount: 1) } catch {
      throw .doesNotFit(file: file, reason: "\(run.name): \(error)")
    }
    (name, self.policy, tokens, self.text) = (run.name, policy, run.tokens, run.text)
    (cacheLengthsAfterPrompt, cacheLengthsAtEnd) = (run.cacheLengthsAfterPrompt, run.cacheLengthsAtEnd)
    lastRows = try tensors.floats("\(name)/hidden_last", [text.layerCount + 1, text.hiddenSize])
    lastLogits = try tensors.floats("\(name)/last_logits", [text.vocabularySize])
    finalLogits = try tensors.floats("\(name)/final_logits", [text.vocabularySize])
    drops = []
    for (s, stage) in run.stages.enumerated() {
      var images: [ReferenceCase.Drop.Image] = []
      for (j, image) in stage.images.enumerated() {
        let prefix = "\(name)/stage\(s)/image\(j)"
        images.append(
          ReferenceCase.Drop.Image(
            start: image.start, count: image.count,
            scores: try tensors.floats("\(prefix)/scores", [image.count]),
            kept: try tensors.integers("\(prefix)/kept", [image.kept])))
      }
      drops.append(
        ReferenceCase.Drop(
          layer: stage.layer, tokensBefore: stage.tokensBefore, tokensAfter: stage.tokensAfter, images: images))
    }
  }
}
