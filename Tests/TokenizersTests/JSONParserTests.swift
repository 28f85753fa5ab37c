import Storage
import Testing

@Suite struct JSONParserTests {
  @Test(arguments: [
    ("null", "null"), (" true ", "true"), ("-12", "-12"), ("0", "0"), ("1.5e2", "150.0"), ("1e400", nil), ("01", nil),
    ("-", nil), ("1.", nil), ("1e", nil), ("+1", nil), ("", nil), ("nul", nil), ("[1,]", nil), ("[1 2]", nil),
    ("{\"a\":1,}", nil), ("{a:1}", nil), ("{\"a\"}", nil), ("\"a", nil), ("\"\n\"", nil), ("\"\\x\"", nil),
    ("\"\\u12\"", nil), ("\"\\ud800\"", nil), ("\"\\ud800\\u0041\"", nil), ("\"\\udc00\"", nil), ("1 2", nil),
    ("\"\\ud83d\\ude00\\n\\u2581\\/\"", "😀\n▁/"), ("\"\\\"\"", "\""), ("[]", "a list"), ("{}", "an object"),
    ("1000000000000000000000000000000", "1e+30"), ("[", nil), ("{", nil), ("\"\\", nil), ("\"\\u", nil),
  ])
  func `accepts valid JSON only`(source: String, kind: String?) {
    #expect((try? JSONParser.parse(Array(source.utf8)))?.kind == kind)
  }

  @Test func `refuses bytes that are not UTF-8`() {
    #expect(throws: JSONParser.ParseError(offset: 1, expected: "UTF-8")) {
      try JSONParser.parse([0x22, 0xC3, 0x28, 0x22])
    }
  }

  @Test(arguments: ["[", "{\"a\":"])
  func `refuses deep nesting`(opening: String) {
    let source = String(repeating: opening, count: 200_000)
    #expect(throws: JSONParser.ParseError.self) { try JSONParser.parse(Array(source.utf8)) }
  }

  @Test func `distinguishes canonically equivalent keys`() throws {
    let value = try JSONParser.parse(Array("{\"\u{212B}\": 1, \"\u{C5}\": 2, \"\u{C5}\": 3}".utf8))
    #expect(value.members?.map { $0.value.integer } == [1, 2, 3])
    #expect(value["\u{C5}"].integer == 2)
  }

  @Test func `refuses a truncated document`() throws {
    let whole = TokenizerFixtures.json()
    for end in whole.indices {
      #expect(throws: JSONParser.ParseError.self) { try JSONParser.parse(Array(whole[..<end])) }
    }
  }
}
