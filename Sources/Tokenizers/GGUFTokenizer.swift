/// The tokenizer of a GGUF file: the values of its `tokenizer.*` keys, nil for a missing key.
///
/// Source: gguf-py's `constants.py`; the meaning of a missing key is that of llama.cpp's `llama-vocab.cpp`.
package struct GGUFTokenizer: Equatable, Sendable {
  /// The keys of the values.
  package enum Key: String, CaseIterable, Sendable {
    case model = "tokenizer.ggml.model"
    case pre = "tokenizer.ggml.pre"
    case tokens = "tokenizer.ggml.tokens"
    case scores = "tokenizer.ggml.scores"
    case types = "tokenizer.ggml.token_type"
    case merges = "tokenizer.ggml.merges"
    case bosToken = "tokenizer.ggml.bos_token_id"
    case eosToken = "tokenizer.ggml.eos_token_id"
    case eotToken = "tokenizer.ggml.eot_token_id"
    case eomToken = "tokenizer.ggml.eom_token_id"
    case unkToken = "tokenizer.ggml.unknown_token_id"
    case padToken = "tokenizer.ggml.padding_token_id"
    case addsBOS = "tokenizer.ggml.add_bos_token"
    case addsEOS = "tokenizer.ggml.add_eos_token"
    case addsSpacePrefix = "tokenizer.ggml.add_space_prefix"
    case removesExtraWhitespaces = "tokenizer.ggml.remove_extra_whitespaces"
    case chatTemplate = "tokenizer.chat_template"
    case huggingFaceJSON = "tokenizer.huggingface.json"
    case isLegacy = "pdrop.tokenizer.legacy"
  }

  /// The values of `types`.
  package enum TokenType {
    package static let normal: Int32 = 1
    package static let unknown: Int32 = 2
    package static let control: Int32 = 3
    package static let userDefined: Int32 = 4
    package static let unused: Int32 = 5
    package static let byte: Int32 = 6
  }

  /// The kind of tokenizer: `llama` for SentencePiece with scores, `gpt2` for byte-level BPE with merges.
  package var model = ""

  /// The name of the rules that split text into words before BPE, such as `llama-bpe`.
  package var pre: String?

  /// The text of each token; the index is the id. A text that is not UTF-8 has U+FFFD for its invalid bytes.
  package var tokens: [String] = []
  package var scores: [Float]?
  package var types: [Int32]?

  /// Pairs of tokens with a space between them; the index is the rank.
  package var merges: [String]?
  package var bosToken: Int?
  package var eosToken: Int?

  /// The token at the end of a turn.
  package var eotToken: Int?

  /// The token at the end of a message.
  package var eomToken: Int?
  package var unkToken: Int?
  package var padToken: Int?
  package var addsBOS: Bool?
  package var addsEOS: Bool?
  package var addsSpacePrefix: Bool?
  package var removesExtraWhitespaces: Bool?

  /// The Jinja source of the chat template, which is not part of the vocabulary.
  package var chatTemplate: String?

  /// The content of `tokenizer.json`; with it, tokens, merges and rules are read from there.
  package var huggingFaceJSON: String?

  /// The field `legacy` of transformers' `LlamaTokenizer`, true by default; a key of this project, as there is no other.
  package var isLegacy: Bool?

  package init() {}
}

extension GGUFTokenizer {
  /// Texts of tokens that end an answer, whatever their type is.
  ///
  /// Source: llama.cpp's `llama-vocab.cpp`, without the tokens of tool calls and of infilling.
  private static let eosNames: Set<[UInt8]> = Set(
    [
      "</s>", "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>",
      "<end_of_utterance>", "<EOT>", "_<EOT>", "<｜end▁of▁sentence｜>",
    ].map { Array($0.utf8) })

  /// Whether a token ends an answer because of its text.
  static func endsAnswer(_ token: String) -> Bool {
    // Most tokens differ in the first byte.
    let first = token.utf8.first
    return (first == UInt8(ascii: "<") || first == UInt8(ascii: "_")) && eosNames.contains(Array(token.utf8))
  }

  /// The tokens that end an answer: the EOS token, those at the end of a turn or message, and those with usual names.
  package var eosTokens: Set<Int32> {
    let defaultEOS = model == GGUFModel.llama.rawValue ? 2 : nil
    let named = [eosToken ?? defaultEOS, eotToken, eomToken].compactMap(\.self).filter(tokens.indices.contains)
    let usual = tokens.indices.filter { Self.endsAnswer(tokens[$0]) }
    return Set((named + usual).map(Int32.init(truncatingIfNeeded:)))
  }
}

/// The kinds of tokenizers in GGUF files.
enum GGUFModel: String, CaseIterable {
  case llama, gpt2
}

/// The meaning of a name in `tokenizer.ggml.pre`.
///
/// Source: llama.cpp's `llama-vocab.cpp`; normalization, which is not in GGUF, is that of the published `tokenizer.json`.
struct GGUFPreTokenizer: Equatable {
  var names: [String]
  var pattern: PreTokenizerPattern
  var composes = false
  var ignoresMerges = false
  var addsBOS = false

  /// All kinds, those first that are preferred in writing.
  static let all = [
    GGUFPreTokenizer(names: ["gpt-2", "phi-2"], pattern: .gpt2),
    GGUFPreTokenizer(names: ["llama-bpe", "llama3", "llama-v3"], pattern: .llama3, ignoresMerges: true, addsBOS: true),
    GGUFPreTokenizer(names: ["smaug-bpe", "dbrx"], pattern: .llama3),
    GGUFPreTokenizer(names: ["qwen2", "deepseek-r1-qwen"], pattern: .qwen2, composes: true),
    GGUFPreTokenizer(names: ["smollm", "starcoder", "refact"], pattern: .smolLM),
    GGUFPreTokenizer(names: ["mpt", "olmo"], pattern: .gpt2, composes: true),
    GGUFPreTokenizer(names: ["default"], pattern: .ggufDefault),
  ]

  /// The kind with a name; nil for an unknown name.
  static func named(_ name: String) -> GGUFPreTokenizer? { all.first { $0.names.contains(name) } }
}
