internal import Kernels
internal import LLaVA
internal import ModelFormats
internal import TokenDropping

extension ReferenceCase {
  /// Reads a case and everything that is stored for it, and checks that its tensors are of the model's sizes.
  ///
  /// - Throws: `ReferenceError` naming the file and what is wrong with it.
  init(_ name: String, of folder: ReferenceFolder, for model: VisionLanguageModel) throws(ReferenceError) {
    let path = "\(folder.path)/cases/\(folder.model)/\(name)"
    file = path + ".json"
    let stored: ReferenceCaseFile
    do { stored = try JSONFile.read(ReferenceCaseFile.self, at: file) } catch { throw .file(error) }
    let tensors = try ReferenceTensors(path + ".safetensors")
    (question, prompt, promptTokens) = (stored.question, stored.prompt, stored.prompt_ids)
    (imageSpans, sequenceLength) = (stored.image_spans, stored.sequence_length)
    guard !stored.runs.isEmpty else { throw .badValue(file: file, key: "runs", expected: "one or more", found: "none") }
    pictures = []
    for image in stored.images { pictures.append(try Picture(image, of: folder, for: model, file)) }
    runs = []
    for run in stored.runs {
      guard run.tokens.count == stored.new_tokens, !run.tokens.isEmpty else {
        throw .badValue(
          file: file, key: "\(run.name): tokens", expected: "new_tokens, \(stored.new_tokens), and at least one",
          found: "\(run.tokens.count)")
      }
      runs.append(try Run(run, tensors, model, file))
    }
  }
}

extension ReferenceCase.Picture {
  fileprivate init(
    _ image: String, of folder: ReferenceFolder, for model: VisionLanguageModel, _ file: String
  ) throws(ReferenceError) {
    let parts = image.split(separator: "/", omittingEmptySubsequences: false)
    guard let last = parts.last, parts.allSatisfy({ !["", ".", ".."].contains($0) }) else {
      throw .badValue(file: file, key: "images", expected: "paths inside the reference's folder", found: "'\(image)'")
    }
    name = String(last)
    path = "\(folder.path)/\(image)"
    do {
      let bytes = try SharedBytes(mapping: path)
      isJPEG = ImageFormat(signature: bytes.copy(0..<min(16, bytes.count))) == .jpeg
    } catch {
      throw .file(.file(error))
    }

    let (configuration, size) = (model.llava.configuration, model.preprocessor.size)
    let kind = model.preprocessor.mode == .anyres ? "llava_next" : "llava15"
    if let tensors = try ReferenceTensors(ifPresent: "\(folder.path)/preprocess/\(kind)/\(name).safetensors") {
      // A picture in one view may be stored without the axis of views.
      func views(_ name: String) -> [Int] { (tensors.rank(name) == 3 ? [] : [0]) + [3, size, size] }
      pixels = try tensors.bytes("pixels_u8", views("pixels_u8"))
      pixelValues = try tensors.floats("pixel_values", views("pixel_values"))
    }
    if let tensors = try ReferenceTensors(ifPresent: "\(folder.path)/features/\(folder.model)/\(name).safetensors") {
      let tower = [1 + configuration.vision.patchCount, configuration.vision.hiddenSize]
      towerInput = try tensors.floats("vision_hidden_0", tower)
      towerOutput = try tensors.floats("vision_hidden_select", tower)
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
        found: "'\(run.policy.method)' with others")
    }
    let text = model.llava.configuration.text
    do { _ = try policy.stages(layerCount: text.layerCount, visualTokenCount: 1) } catch {
      throw .doesNotFit(file: file, reason: "\(run.name): \(error)")
    }
    (name, self.policy, tokens, self.text) = (run.name, policy, run.tokens, run.text)
    (cacheLengthsAfterPrompt, cacheLengthsAtEnd) = (run.kv_len_prefill, run.kv_len_end)
    lastRows = try tensors.floats("\(name)/hidden_last", [text.layerCount + 1, text.hiddenSize])
    lastLogits = try tensors.floats("\(name)/last_logits", [text.vocabularySize])
    finalLogits = try tensors.floats("\(name)/final_logits", [text.vocabularySize])
    drops = []
    for (s, stage) in run.stages.enumerated() {
      var pictures: [ReferenceCase.Drop.Picture] = []
      for (j, picture) in stage.images.enumerated() {
        let prefix = "\(name)/stage\(s)/image\(j)"
        pictures.append(
          ReferenceCase.Drop.Picture(
            start: picture.start, count: picture.count,
            scores: try tensors.floats("\(prefix)/scores", [picture.count]),
            kept: try tensors.integers("\(prefix)/kept", [picture.kept])))
      }
      drops.append(
        ReferenceCase.Drop(
          layer: stage.layer, tokensBefore: stage.tokens_before, tokensAfter: stage.tokens_after, pictures: pictures))
    }
  }
}
