extension PromptTemplate {
  /// Recognises a checkpoint's Jinja chat template as one of the LLaVA families, or returns nil.
  ///
  /// Nothing is interpreted: the markers tell the family, and the spellings that differ within one are looked up in the
  /// source.
  ///
  /// - Parameter chatTemplate: The Jinja source.
  public static func recognise(chatTemplate: String) -> PromptTemplate? {
    let source = ChatTemplateSource(chatTemplate)
    guard source.contains("<image>"), let preamble = source.preamble else { return nil }
    var template: PromptTemplate
    if source.contains("[INST]"), source.contains("[/INST]") {
      template = mistral(source)
    } else if source.contains("<|im_start|>"), source.contains("<|im_end|>") {
      template = chatML(source)
    } else if source.contains("<|start_header_id|>"), source.contains("<|end_header_id|>\n\n"),
      source.contains("<|eot_id|>")
    {
      template = llama3
    } else if source.contains("upper"), source.contains("ASSISTANT:"), source.contains(": ") {
      template = vicuna(source)
    } else {
      return nil
    }
    template.image = source.contains("<image>\n") ? "<image>\n" : "<image>"
    // Some templates put the line break with the text: `'\n' + content['text']`.
    template.textPrefix = source.text.contains(/'\n'\s*\+\s*[a-z]+(\['text'\]|\.text)/) ? "\n" : ""
    if !preamble.isEmpty {
      let end = preamble.lastIndex { !$0.isWhitespace } ?? preamble.startIndex
      template.systemText = String(preamble[...end])
      template.preamble = Turn(prefix: "", suffix: String(preamble[end...].dropFirst()))
    }
    return template
  }

  private static func mistral(_ source: ChatTemplateSource) -> PromptTemplate {
    let hasSystem = source.contains("<<SYS>>")
    // The assistant's branch begins with a space, in plain text or as an expression.
    let startsWithSpace = source.text.contains(/'assistant'\s*-?%}( |\s*{{-?\s*' )/)
    let endsWithSpace = source.contains(" </s>") || source.text.contains(/' '\s*\+\s*eos_token/)
    return PromptTemplate(
      name: "mistral", systemText: "", systemMessages: hasSystem ? .writeInPlace : .leaveOut,
      system: Turn(prefix: "<<SYS>>\n", suffix: "\n<</SYS>>\n\n"), user: Turn(prefix: "[INST] ", suffix: " [/INST]"),
      assistant: Turn(
        prefix: startsWithSpace ? " " : "", suffix: source.ending.map { (endsWithSpace ? " " : "") + $0 } ?? " "),
      generationPrompt: "")
  }

  private static func chatML(_ source: ChatTemplateSource) -> PromptTemplate {
    let roleEnd = source.text.contains(/role('\])?\s*\+\s*' '/) ? " " : "\n"
    let end =
      source.text.contains(/<\|im_end\|>('\s*\+\s*'|'\s*}}\s*{{\s*')?\n/) ? "<|im_end|>\n" : "<|im_end|>"
    let opening = source.contains("<|im_start|>assistant\n") ? "<|im_start|>assistant\n" : "<|im_start|>assistant"
    func turn(_ role: ChatMessage.Role) -> Turn { Turn(prefix: "<|im_start|>" + role.rawValue + roleEnd, suffix: end) }
    let systemText = source.text.firstMatch(of: /<\|im_start\|>system\n([^'{}<]+)<\|im_end\|>/).map { String($0.1) }
    return PromptTemplate(
      name: "chatml", systemText: systemText ?? "",
      systemMessages: systemText == nil ? .writeInPlace : .replaceSystemText, system: turn(.system), user: turn(.user),
      assistant: turn(.assistant), generationPrompt: opening)
  }

  private static let llama3 = PromptTemplate(
    name: "llama3", systemText: "", systemMessages: .writeInPlace, system: llama3Turn("system"),
    user: llama3Turn("user"),
    assistant: llama3Turn("assistant"), generationPrompt: llama3Turn("assistant").prefix)

  private static func vicuna(_ source: ChatTemplateSource) -> PromptTemplate {
    let hasTextSuffix = source.text.contains(/(\['text'\]|\.text)\s*\+\s*' '/)
    let hasBareSystem = source.text.contains(/role('\])?\s*[!=]=\s*'system'/)
    let plain = hasTextSuffix ? Turn(prefix: "", suffix: "", textSuffix: " ") : Turn(prefix: "", suffix: " ")
    func turn(_ prefix: String) -> Turn { Turn(prefix: prefix, suffix: plain.suffix, textSuffix: plain.textSuffix) }
    return PromptTemplate(
      name: "vicuna", systemText: "", systemMessages: .writeInPlace, system: turn(hasBareSystem ? "" : "SYSTEM: "),
      user: turn("USER: "),
      assistant: source.ending.map { Turn(prefix: "ASSISTANT: ", suffix: $0) } ?? turn("ASSISTANT: "),
      generationPrompt: "ASSISTANT:")
  }
}

/// A Jinja source in one spelling: no comments, single quotes, line breaks for `\n`.
private struct ChatTemplateSource {
  let text: String

  init(_ source: String) {
    text = source.replacing(/(?s){#.*?#}/, with: "").replacing("\"", with: "'").replacing("\\n", with: "\n")
  }

  func contains(_ marker: String) -> Bool { text.contains(marker) }

  /// What ends a completed answer, where the template writes it, with the space that may follow.
  ///
  /// An early llava-v1.6-mistral-7b-hf has a backslash in its end token, and so has what the reference makes of it.
  var ending: String? {
    let isMisspelled = text.contains(/<\\+s>/)
    guard isMisspelled || contains("</s>") || contains("eos_token") else { return nil }
    let space = text.contains(/<[\/\\]+s> ['{]|eos_token\s*\+\s*' '/) ? " " : ""
    return (isMisspelled ? #"<\s>"# : "</s>") + space
  }

  /// The literal text before the first statement, or nil where an expression makes part of it.
  ///
  /// An expression for the beginning token is passed over: the tokenizer adds that token.
  var preamble: String? {
    guard let statement = text.firstRange(of: "{%") else { return nil }
    var preamble = String(text[..<statement.lowerBound]).replacing(/{{-?\s*bos_token\s*-?}}/, with: "")
    guard !preamble.contains("{{") else { return nil }
    let isTrimmed = text[statement.upperBound...].hasPrefix("-")
    while let last = preamble.last, isTrimmed && last.isWhitespace { preamble.removeLast() }
    return preamble.allSatisfy(\.isWhitespace) ? "" : preamble
  }
}
