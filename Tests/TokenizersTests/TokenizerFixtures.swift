/// Small tokenizer files whose parts can be replaced one at a time.
enum TokenizerFixtures {
  static let normalizer = """
    {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
     {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    """
  static let decoder = """
    {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
     {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    """
  static let vocabulary = #"{"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "a": 4, "b": 5, "ab": 6, "▁ab": 7}"#

  static func json(
    vocabulary: String = vocabulary, merges: String = #"["a b", "▁ ab"]"#,
    added: String = #"[{"id": 1, "content": "<s>", "special": true}, {"id": 8, "content": "<image>"}]"#,
    normalizer: String = normalizer, preTokenizer: String = "null", decoder: String = decoder, model: String = ""
  ) -> [UInt8] {
    Array(
      """
      {"added_tokens": \(added), "normalizer": \(normalizer), "pre_tokenizer": \(preTokenizer), "decoder": \(decoder),
       "post_processor": null,
       "model": {"type": "BPE", "unk_token": "<unk>", \(model) "vocab": \(vocabulary), "merges": \(merges)}}
      """.utf8)
  }

  // MARK: - SentencePiece

  static func varint(_ value: UInt64) -> [UInt8] {
    value < 0x80 ? [UInt8(value)] : [UInt8(value & 0x7F) | 0x80] + varint(value >> 7)
  }

  static func field(_ number: UInt64, _ value: UInt64) -> [UInt8] { varint(number << 3) + varint(value) }

  static func field(_ number: UInt64, _ bytes: [UInt8]) -> [UInt8] {
    varint(number << 3 | 2) + varint(UInt64(bytes.count)) + bytes
  }

  static func piece(_ text: String, score: Float = 0, kind: UInt64 = 1) -> [UInt8] {
    let bits = score.bitPattern
    let bytes = stride(from: 0, to: 32, by: 8).map { UInt8(truncatingIfNeeded: bits >> UInt32($0)) }
    return field(1, field(1, Array(text.utf8)) + varint(2 << 3 | 5) + bytes + field(3, kind))
  }

  static let controls = piece("<unk>", kind: 2) + piece("<s>", kind: 3) + piece("</s>", kind: 3)

  /// A BPE model with the identity normalizer.
  static func model(
    _ pieces: [UInt8] = controls + piece("a") + piece("b") + piece("ab", score: -1), trainer: [UInt8] = field(3, 2),
    normalizer: [UInt8] = field(1, Array("identity".utf8)) + field(4, 0)
  ) -> [UInt8] {
    pieces + field(2, trainer) + field(3, normalizer)
  }
}
