import Foundation
import TestSupport
import Tokenizers

/// The tokenizers of the GGUF fixtures, and reference ids and texts.
enum GGUFFixtures {
  struct Cases: Decodable {
    struct Case: Decodable {
      var text: String
      var ids: [Int32]
      var decode: String
    }

    /// A prompt, or an answer.
    struct Text: Decodable {
      var text: String
      var ids: [Int32]
    }

    var addsBOS: Bool
    var cases: [Case]
    var prompts: [Text]
    var answers: [Text]

    enum CodingKeys: String, CodingKey {
      case cases, prompts, answers
      case addsBOS = "adds_bos"
    }
  }

  static let names = ["vicuna", "vicuna-2023", "mistral", "qwen2"]

  static func cases(_ name: String) throws -> Cases {
    let all = try JSONDecoder().decode(
      [String: Cases].self, from: Data(contentsOf: Fixtures.url("tokenizers/gguf/cases.json")))
    guard let cases = all[name] else { throw CocoaError(.coderValueNotFound) }
    return cases
  }

  static func tokenizer(_ name: String) throws -> GGUFTokenizer {
    try tokenizer(at: Fixtures.url("tokenizers/gguf/\(name).gguf"))
  }

  /// Reads the tokenizer of a well-formed GGUF file.
  static func tokenizer(at url: URL) throws -> GGUFTokenizer {
    var reader = MetadataReader(data: [UInt8](try Data(contentsOf: url, options: .mappedIfSafe)))
    let values = reader.values()
    func value<Value>(_ key: GGUFTokenizer.Key) -> Value? { values[key.rawValue] as? Value }
    func integers(_ key: GGUFTokenizer.Key) -> [Int]? { value(key) }
    var tokenizer = GGUFTokenizer()
    tokenizer.model = value(.model) ?? ""
    tokenizer.pre = value(.pre)
    tokenizer.tokens = value(.tokens) ?? []
    tokenizer.scores = (value(.scores) as [Double]?)?.map(Float.init)
    tokenizer.types = integers(.types)?.map(Int32.init)
    tokenizer.merges = value(.merges)
    tokenizer.bosToken = value(.bosToken)
    tokenizer.eosToken = value(.eosToken)
    tokenizer.eotToken = value(.eotToken)
    tokenizer.unkToken = value(.unkToken)
    tokenizer.padToken = value(.padToken)
    tokenizer.addsBOS = value(.addsBOS)
    tokenizer.addsEOS = value(.addsEOS)
    tokenizer.addsSpacePrefix = value(.addsSpacePrefix)
    tokenizer.chatTemplate = value(.chatTemplate)
    return tokenizer
  }
}

/// A reader of the metadata of GGUF files of versions 2 and 3, without checks.
private struct MetadataReader {
  var data: [UInt8]
  var position = 24

  mutating func values() -> [String: Any] {
    position = 16
    var values: [String: Any] = [:]
    for _ in 0..<integer(8) {
      let key = string()
      values[key] = value(integer(4))
    }
    return values
  }

  private mutating func value(_ type: Int) -> Any {
    switch type {
    case 0: integer(1)
    case 2: integer(2)
    case 4: integer(4)
    case 5: Int(Int32(truncatingIfNeeded: integer(4)))
    case 6: Double(Float(bitPattern: UInt32(integer(4))))
    case 7: integer(1) != 0
    case 8: string()
    case 9: array(integer(4), integer(8))
    case 10, 11: integer(8)
    default: Double(bitPattern: UInt64(truncatingIfNeeded: integer(8)))
    }
  }

  private mutating func array(_ type: Int, _ count: Int) -> Any {
    switch type {
    case 6, 12: (0..<count).map { _ in value(type) as? Double ?? 0 }
    case 8: (0..<count).map { _ in string() }
    default: (0..<count).map { _ in value(type) as? Int ?? 0 }
    }
  }

  private mutating func string() -> String {
    let count = integer(8)
    defer { position += count }
    return String(decoding: data[position..<position + count], as: UTF8.self)
  }

  private mutating func integer(_ count: Int) -> Int {
    defer { position += count }
    return Int(
      truncatingIfNeeded: data[position..<position + count].reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) })
  }
}
