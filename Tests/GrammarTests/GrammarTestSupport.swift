import Grammar
import Storage

/// A generator of random numbers with a seed: SplitMix64.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }

  mutating func chance(_ probability: Double) -> Bool { Double.random(in: 0..<1, using: &self) < probability }

  mutating func integer(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }

  mutating func element<T>(_ elements: [T]) -> T { elements[integer(0...elements.count - 1)] }
}

enum Vocabularies {
  /// A token for each byte.
  static let bytes = TokenVocabulary(tokens: (0..<256).map { [UInt8($0)] })

  /// Tokens for all bytes, pieces of JSON, parts of characters, and random texts; some bytes have two tokens, and some
  /// tokens are special.
  static func mixed(seed: UInt64, count: Int = 600) -> TokenVocabulary {
    var generator = SeededGenerator(seed: seed)
    var tokens: [[UInt8]?] = [nil, nil, []] + (0..<256).map { [UInt8($0)] }
    let pieces = [
      "\":", "\": \"", "\",", "\"}", "\"}]", "{\"", "[{\"", "[[", "]]", "}}", "},{", "],", ", ", ",\n", "{\n  ",
      "\n    ", " [", "true",
      "false", "null", "tru", "12", "0.5", "-1", "e5", "e-", "\\u", "\\ud8", "\\\"", "\\\\", "abc", " the", "é", "日本",
      "👍", "\"a\"",
      "\"b\":", "a\":1", "\":[1,2", "00", "1,", "1}", "2]", "  ", "{}", "[]", "\"\"", "\",\"", "a,b", "A", "B",
    ]
    tokens += pieces.map { Array($0.utf8) }
    tokens += [
      [0xF0, 0x9F], [0x91, 0x8D], [0xE6, 0x97], [0xA5, 0x22], [0xC3], [0xC3, 0xA9, 0x22, 0x2C], [0xED, 0xA0],
    ]
    tokens += [[0x41], [0x22]]
    let alphabet = Array("ab01.-+eE\"\\{}[]:, \nxd9é👍".utf8)
    while tokens.count < count {
      tokens.append((0..<generator.integer(2...6)).map { _ in generator.element(alphabet) })
    }
    return TokenVocabulary(tokens: tokens)
  }
}

func json(_ text: String) throws -> JSONValue { try JSONParser.parse(Array(text.utf8)) }

func schema(_ text: String) throws -> Grammar { try Grammar(.jsonSchema(try json(text))) }

extension Grammar {
  /// The state after a text; nil if the text leaves the grammar.
  func state(after text: String) -> GrammarState? {
    var state = GrammarState(self, Vocabularies.bytes)
    for byte in text.utf8 where !state.accept(Int(byte)) { return nil }
    return state
  }

  /// Whether the text is a complete answer.
  func accepts(_ text: String) -> Bool { state(after: text)?.canEnd ?? false }
}

/// The error of a constraint, or nil.
func problem(_ constraint: Constraint) -> String? {
  do throws(GrammarError) {
    _ = try Grammar(constraint)
    return nil
  } catch {
    return error.description
  }
}

func problem(schema text: String) throws -> String? { problem(.jsonSchema(try json(text))) }
