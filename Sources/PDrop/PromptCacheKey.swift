import LLaVA
import Storage
import TokenDropping

/// The tokens, images, selection and drops that a file of a prompt cache depends on.
struct PromptCacheKey {
  let text: String

  init(prompt request: PreparedRequest, clipKey: String?) {
    let drops = request.plan.drops.map { drop in
      let padding = drop.droppedFirst.map { TokenRuns($0).text }.joined(separator: ";")
      return "drop \(drop.afterLayer) \(drop.scoringLayer) \(drop.positions.rawValue) \(drop.ranking) \(drop.choice) "
        + "\(drop.keepCounts) after \(padding)"
    }
    self.init(
      "prompt", request.report.promptTokens, request.images,
      Self.text(request.plan.selection?.preselection, Self.text(request.question, clipKey)) + drops)
  }

  init(prefix: PrefixKey) {
    self.init(
      "prefix before layer \(prefix.depth)", prefix.tokens, prefix.images, Self.text(prefix.preselection, "[]"))
  }

  private static func text(_ question: SelectionQuestion, _ clipKey: String?) -> String {
    switch question {
    case .languageModel(let tokens): "\(tokens)"
    case .clip(let pieces): "\(pieces) by CLIP \(clipKey ?? "")"
    }
  }

  private static func text(_ selection: Preselection?, _ question: String) -> [String] {
    selection.map { ["select \($0.label) for \(question)"] } ?? []
  }

  private init(_ title: String, _ tokens: [Int], _ images: [ImageInput], _ more: [String]) {
    let contents = images.map { image in
      guard let digest = image.digest else { preconditionFailure("PromptCache: an image without a digest") }
      return "image \(digest.byteCount) \(digest.name) \(image.tokenCount)"
    }
    text = ([title, "tokens \(tokens.map(String.init).joined(separator: " "))"] + contents + more)
      .joined(separator: ", ")
  }

  /// 32 hexadecimal digits.
  var digest: String { SharedBytes(copying: Array(text.utf8)).twoChecksums.hexadecimal }
}
