// How `tokenizer.json` describes tokenizers whose pieces spell bytes, as Llama-3's and Qwen2's do.

extension TextPreparation {
  /// What a `tokenizer.json` says about a byte-level tokenizer, or nil where it is none.
  ///
  /// - Throws: `VocabularyError.unsupported` naming the step that is not one of the published.
  init?(byteLevel root: JSONValue, file: String) throws(VocabularyError) {
    func unsupported(_ part: String, _ found: String) -> VocabularyError {
      .unsupported(file: file, part: part, found: found)
    }
    let steps = root["pre_tokenizer"].steps("pretokenizers")
    guard let last = steps.last, last["type"].string == "ByteLevel" else { return nil }
    let splits = steps.dropLast()
    var pattern: WordPattern? = last["use_regex"].bool ?? true ? .gpt2 : nil
    for split in splits {
      guard pattern == nil, split["type"].string == "Split" else {
        throw unsupported("pre_tokenizer", split["type"].kind)
      }
      // The patterns match every character, so keeping the matches is as good as cutting around them.
      switch (split["behavior"].string, split["invert"].bool ?? false) {
      case ("Isolated", false), ("Removed", true): break
      default: throw unsupported("Split behavior", split["behavior"].kind)
      }
      let expression = split["pattern"]["Regex"].string ?? ""
      pattern = WordPattern(expression: expression)
      if pattern == nil { throw unsupported("pre_tokenizer pattern", expression) }
    }
    guard let pattern else { throw unsupported("pre_tokenizer", "ByteLevel without a pattern") }
    // Older files leave the field out and mean that there is a space.
    let addsSpace = last["add_prefix_space"].bool ?? true
    if addsSpace, !splits.isEmpty { throw unsupported("add_prefix_space", "true behind a Split") }
    let normalizers = root["normalizer"].steps("normalizers")
    for normalizer in normalizers where normalizer["type"].string != "NFC" {
      throw unsupported("normalizer", normalizer["type"].kind)
    }
    let decoders = root["decoder"].steps("decoders").map { $0["type"].kind }
    guard decoders == ["ByteLevel"] else { throw unsupported("decoder", decoders.joined(separator: ", ")) }
    self.init(
      prefix: addsSpace ? .unlessPresent : .never, isNormalizer: !normalizers.isEmpty, words: .byteLevel(pattern),
      stripsLeadingSpace: false)
    composes = !normalizers.isEmpty
  }
}

extension JSONValue {
  /// The steps of a normalizer, pre-tokenizer or decoder: itself, or those of a sequence.
  func steps(_ field: String) -> [JSONValue] {
    isNull ? [] : self["type"].string == "Sequence" ? self[field].array ?? [] : [self]
  }
}
