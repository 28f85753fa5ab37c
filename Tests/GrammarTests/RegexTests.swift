import Grammar
import Storage
import Testing

@Suite struct RegexTests {
  @Test(arguments: [
    ("abc", ["abc"], ["", "ab", "abcd"]),
    ("a|bc|", ["a", "bc", ""], ["b", "abc"]),
    ("(ab)*c+d?", ["c", "ababccd"], ["ab", "abd"]),
    ("a{2}b{1,}c{0,2}", ["aab", "aabbbcc"], ["ab", "aac", "aabccc"]),
    ("a+?b*?c??", ["a", "aabbc"], ["b"]),
    ("[a-cx-]+", ["abc-x"], ["d"]),
    ("[^a-z]", ["A", "é", "日", "👍", "\n"], ["a", "q", ""]),
    (#"\d+\.\w\s"#, ["12.a ", "0._\t"], ["٣.a ", "1.é "]),
    (#"\D\W\S"#, ["a--", "z !"], ["1--", "aé-", "a- "]),
    (#"[^\d]"#, ["a", "\n"], ["1", "é"]),
    (#"[^\W]"#, ["a", "_"], ["-", "é"]),
    (".", ["a", "é", "👍"], ["\n", "\r", "\u{2028}"]),
    ("^a|b$", ["a", "b"], ["ab"]),
    ("^$", [""], ["a"]),
    (#"\x41\u00e9\t\n\/\-"#, ["Aé\t\n/-"], []),
    ("(?:a(?<x>b)(?P<y_1>c))", ["abc"], []),
    ("[é-日]", ["é", "ü", "日"], ["e", "\u{FFFF}"]),
    ("[\u{D7FF}-\u{E000}]", ["\u{D7FF}", "\u{E000}"], ["a"]),
    ("}]", ["}]"], []),
  ])
  func `a whole text matches`(pattern: String, accepted: [String], rejected: [String]) throws {
    let grammar = try Grammar(.regex(pattern))
    for text in accepted { #expect(grammar.accepts(text), "\(pattern) should accept \(text)") }
    for text in rejected { #expect(!grammar.accepts(text), "\(pattern) should reject \(text)") }
  }

  @Test(arguments: [
    (#""b""#, [#""b""#, #""abc""#, #""\nb""#], [#""a""#]),
    (#""^b""#, [#""b""#, #""bc""#], [#""ab""#]),
    (#""b$""#, [#""ab""#], [#""bc""#]),
    (#""^a|b$""#, [#""ac""#, #""cb""#], [#""ba""#]),
    (
      #""^[\"\\\\/\\n\\x01]$""#, [#""\"""#, #""\\""#, #""/""#, #""\n""#, #""\u0001""#],
      [#""\/""#, #""\u0022""#, #""""""#]
    ),
    (#""^é{2}$""#, [#""éé""#], [#""é""#, #""\u00e9\u00e9""#]),
  ])
  func `a pattern searches the text of a string`(pattern: String, accepted: [String], rejected: [String]) throws {
    let grammar = try schema(#"{"type":"string","pattern":\#(pattern)}"#)
    for text in accepted { #expect(grammar.accepts(text), "\(pattern) should accept \(text)") }
    for text in rejected { #expect(!grammar.accepts(text), "\(pattern) should reject \(text)") }
  }

  @Test func `a pattern and lengths hold together`() throws {
    let grammar = try schema(#"{"type":"string","pattern":"^(é|\n)*$","minLength":2,"maxLength":3}"#)
    for text in [#""éé""#, #""é\né""#] { #expect(grammar.accepts(text)) }
    for text in [#""é""#, #""éééé""#, #""\n""#] { #expect(!grammar.accepts(text)) }
    let least = try schema(#"{"pattern":"^a*$","minLength":3}"#)
    #expect(least.accepts(#""aaaaaa""#) && !least.accepts(#""aa""#))
  }

  @Test(arguments: [
    ("a(?=b)", "regular expression: position 1: lookahead is not supported"),
    ("a(?<!b)", "regular expression: position 1: lookbehind and other groups of this kind are not supported"),
    ("(?i)a", "regular expression: position 0: flags and other groups of this kind are not supported"),
    (#"(a)\1"#, "regular expression: position 3: backreferences are not supported"),
    (#"\bx"#, #"regular expression: position 0: the word boundary \b is not supported"#),
    (#"\p{L}"#, #"regular expression: position 0: Unicode properties \p are not supported"#),
    (#"\q"#, #"regular expression: position 0: the escape "\\q" is not supported"#),
    ("a**", "regular expression: position 2: * has nothing to repeat"),
    ("+a", "regular expression: position 0: + has nothing to repeat"),
    ("a{,3}", #"regular expression: position 2: expected a number; \{ is the character {"#),
    ("a{3,2}", "regular expression: position 1: the second number is less than the first"),
    ("(a", "regular expression: position 0: a group does not end"),
    ("a)", "regular expression: position 1: an unmatched )"),
    ("[a", "regular expression: position 0: a class does not end"),
    ("[z-a]", "regular expression: position 1: a range of the class is not from a lower to a higher character"),
    ("[]", #"regular expression: position 1: an empty class is not supported; \] is the character"#),
    (
      "(^a)",
      "regular expression: position 1: ^ and $ are supported only at the ends of the expression or of its alternatives"
    ),
    (
      "a$b",
      "regular expression: position 1: ^ and $ are supported only at the ends of the expression or of its alternatives"
    ),
    (#"\ud800"#, "regular expression: position 0: surrogates are not supported"),
    ("a\\", "regular expression: position 1: a backslash at the end"),
    ("a{9999999999}", "regular expression: position 2: the number is too large"),
  ])
  func `what is not supported is refused by name and position`(pattern: String, message: String) {
    #expect(problem(.regex(pattern)) == message)
  }

  @Test func `choices are whole texts`() throws {
    let grammar = try Grammar(.choices(["yes", "no", "not sure", "日本"]))
    for text in ["yes", "no", "not sure", "日本"] { #expect(grammar.accepts(text)) }
    for text in ["", "n", "not", "yesno"] { #expect(!grammar.accepts(text)) }
    #expect(problem(.choices([])) == "choices: expected at least one")
    #expect(problem(.choices(["a", ""])) == "choices: an empty choice")
  }

  @Test func `a leading space that the detokenizer removes may come first`() throws {
    let choices = try Grammar(.choices(["a", " b"]), leadingSpace: true)
    for text in ["a", " a", "  b"] { #expect(choices.accepts(text)) }
    for text in [" b", "  a"] { #expect(!choices.accepts(text)) }
    let schema = try Grammar(.jsonSchema(.bool(true)), leadingSpace: true)
    for text in ["{}", " {}", " 1"] { #expect(schema.accepts(text)) }
    #expect(!schema.accepts("  1"))
  }
}
