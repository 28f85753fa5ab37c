import Storage

/// JSON texts as expressions and DFAs, as answers write them.
enum JSONString {
  /// Any string: characters in UTF-8 or escaped, without lone surrogates.
  static let any: DFA = shared(.sequence([.byte("\""), characters, .byte("\"")]), countsCharacters: true)

  /// Any number of any characters.
  private static var characters: ByteExpression {
    let hex: ByteExpression = .bytes(ByteSet("0123456789abcdefABCDEF".utf8))
    func unit(_ first: ByteExpression...) -> ByteExpression {
      .sequence([.literal("\\u")] + first + Array(repeating: hex, count: 4 - first.count))
    }
    let dD: ByteExpression = .bytes(ByteSet("dD".utf8))
    let plain = CodePointSet([0x20...0x21, 0x23...0x5B, 0x5D...0x10FFFF]).utf8
    let escapes: [ByteExpression] = [
      .sequence([.byte("\\"), .bytes(ByteSet("\"\\/bfnrt".utf8))]),
      unit(.bytes(ByteSet("0123456789abcefABCEF".utf8))),
      unit(dD, .byte(in: 0x30...0x37)),
      .sequence([
        unit(dD, .bytes(ByteSet("89abAB".utf8))), unit(dD, .bytes(ByteSet("cdefCDEF".utf8))),
      ]),
    ]
    return .repeated(.choice([plain] + escapes), minimum: 0, maximum: nil)
  }

  /// The text of a JSON string of this one character, without quotation marks.
  static func escape(_ scalar: Unicode.Scalar) -> String {
    switch scalar {
    case "\"", "\\": return "\\" + String(Character(scalar))
    case "\n": return "\\n"
    case "\r": return "\\r"
    case "\t": return "\\t"
    case "\u{8}": return "\\b"
    case "\u{C}": return "\\f"
    default:
      guard scalar.value < 0x20 else { return String(Character(scalar)) }
      return "\\u00" + (scalar.value < 0x10 ? "0" : "") + String(scalar.value, radix: 16)
    }
  }

  static func literal(_ text: String) -> String {
    // Not by appending characters, which would combine.
    var result = String.UnicodeScalarView(["\""])
    for scalar in text.unicodeScalars { result.append(contentsOf: escape(scalar).unicodeScalars) }
    result.append("\"")
    return String(result)
  }

  /// The compact text of a value; nil if it has a number whose exact value is not known.
  static func text(of value: JSONValue) -> String? {
    switch value {
    case .null: return "null"
    case .bool(let value): return value ? "true" : "false"
    case .integer(let value): return String(value)
    case .number(let value):
      // It may have been written as an integer of more digits.
      return abs(value) < 0x1p53 ? value.description : nil
    case .string(let text): return literal(text)
    case .array(let items):
      let texts = items.compactMap(text)
      return texts.count == items.count ? "[" + texts.joined(separator: ",") + "]" : nil
    case .object(let members):
      let texts = members.compactMap { member in text(of: member.value).map { literal(member.key) + ":" + $0 } }
      return texts.count == members.count ? "{" + texts.joined(separator: ",") + "}" : nil
    }
  }

  // MARK: - Terminals that all grammars share

  static let integer: DFA = shared(NumberExpression.integer)
  static let number: DFA = shared(NumberExpression.number)
  static let space: DFA = shared(.byte(" "))
  static let openObject: DFA = shared(.sequence([.byte("{"), .whitespace]))
  static let closeObject: DFA = shared(.sequence([.whitespace, .byte("}")]))
  static let openArray: DFA = shared(.sequence([.byte("["), .whitespace]))
  static let closeArray: DFA = shared(.sequence([.whitespace, .byte("]")]))
  /// The end of an object or array without content, after the whitespace.
  static let endObject: DFA = shared(.byte("}"))
  static let endArray: DFA = shared(.byte("]"))
  static let comma: DFA = shared(.sequence([.byte(","), .whitespace]))
  static let colon: DFA = shared(.sequence([.byte(":"), .whitespace]))
  static let null: DFA = shared(.literal("null"))
  static let boolean: DFA = shared(.choice([.literal("true"), .literal("false")]))

  private static func shared(_ expression: ByteExpression, countsCharacters: Bool = false) -> DFA {
    var budget = GrammarBudget()
    guard let dfa = try? DFABuilder.build(expression, countsCharacters: countsCharacters, &budget) else {
      preconditionFailure("a fixed expression has no automaton")
    }
    return dfa
  }
}
