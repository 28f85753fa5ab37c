import ModelFormats
import Tokenizers

extension GGUFTokenizer {
  /// The values of the `tokenizer.*` keys of a GGUF file.
  ///
  /// - Throws: `CheckpointError` for a value of another type.
  init(_ metadata: GGUFMetadata) throws(CheckpointError) {
    self.init()
    func key(_ key: Key) -> String { key.rawValue }
    model = try metadata.string(key(.model)) ?? ""
    pre = try metadata.string(key(.pre))
    // Files of 2023 have no name of the rules, and those of Qwen2 differ from the default ones.
    if pre == nil, try metadata.string("general.architecture") == "qwen2" { pre = "qwen2" }
    tokens = try metadata.strings(key(.tokens)) ?? []
    scores = try metadata.floats(key(.scores))
    types = try metadata.integers(key(.types))?.map { Int32(clamping: $0) }
    merges = try metadata.strings(key(.merges))
    bosToken = try metadata.integer(key(.bosToken))
    eosToken = try metadata.integer(key(.eosToken))
    eotToken = try metadata.integer(key(.eotToken))
    eomToken = try metadata.integer(key(.eomToken))
    unkToken = try metadata.integer(key(.unkToken))
    padToken = try metadata.integer(key(.padToken))
    addsBOS = try metadata.bool(key(.addsBOS))
    addsEOS = try metadata.bool(key(.addsEOS))
    addsSpacePrefix = try metadata.bool(key(.addsSpacePrefix))
    removesExtraWhitespaces = try metadata.bool(key(.removesExtraWhitespaces))
    chatTemplate = try metadata.string(key(.chatTemplate))
    huggingFaceJSON = try metadata.string(key(.huggingFaceJSON))
    isLegacy = try metadata.bool(key(.isLegacy))
  }
}
