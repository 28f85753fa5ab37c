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

  /// The compact text of a value; nil if it has a number whose exact value is not known.
  static func text(of value: JSONValue) -> String? { isExact(value) ? value.text : nil }

  private static func isExact(_ value: JSONValue) -> Bool {
    switch value {
    case .null, .bool, .integer, .string: true
    // It may have been written as an integer of more digits.
    case .number(let value): abs(value) < 0x1p53
    case .array(let items): items.allSatisfy(isExact)
    case .object(let members): members.allSatisfy { isExact($0.value) }
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
