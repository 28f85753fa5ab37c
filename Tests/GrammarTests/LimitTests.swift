import Grammar
import Storage
import Testing

@Suite struct RefusalTests {
  @Test(arguments: [
    (
      #"{"type":"integer","multipleOf":3}"#,
      "schema: #/multipleOf: the keyword \"multipleOf\" is not supported; supported are "
    ),
    (#"{"properties":{"a":{"not":{}}}}"#, "schema: #/properties/a/not: the keyword \"not\" is not supported"),
    (
      #"{"properties":{"a/b~":{"oneOf":[]}}}"#,
      "schema: #/properties/a~1b~0/oneOf: the keyword \"oneOf\" is not supported"
    ),
    (#"{"items":{"patternProperties":{}}}"#, "schema: #/items/patternProperties: "),
    ("false", "schema: #: the schema false admits no value"),
    ("3", "schema: #: expected a schema, found \"3\""),
    (
      #"{"type":"text"}"#,
      "schema: #/type: expected one of object, array, string, number, integer, boolean, null, or a list"
    ),
    (#"{"type":[]}"#, "schema: #/type: expected at least one type"),
    (#"{"type":"object","required":["a"]}"#, "schema: #/required: the key \"a\" is not in properties"),
    (
      #"{"type":"array","uniqueItems":true}"#,
      "schema: #/uniqueItems: the keyword uniqueItems is supported as false only"
    ),
    (#"{"items":[{}]}"#, "schema: #/items: a list of schemas is not supported; expected one schema"),
    (#"{"items":false}"#, "schema: #/items: the schema false admits no value"),
    (#"{"minItems":2,"maxItems":1}"#, "schema: #: maxItems is less than minItems"),
    (#"{"minLength":2,"maxLength":1}"#, "schema: #: maxLength is less than minLength"),
    (#"{"minLength":-1}"#, "schema: #/minLength: expected an integer from 0, found \"-1\""),
    (#"{"minLength":1000000000}"#, "schema: #/minLength: expected at most 65536"),
    (#"{"minimum":2,"exclusiveMaximum":2}"#, "schema: #: no number of at most 14 decimal places is within the bounds"),
    (#"{"type":"integer","minimum":1.25,"maximum":1.75}"#, "schema: #: no integer is within the bounds"),
    (#"{"type":"integer","minimum":1e30}"#, "schema: #: a bound is beyond 64 bits"),
    (#"{"maximum":1e16}"#, "schema: #: a bound is beyond 15 digits before the decimal point"),
    (#"{"exclusiveMinimum":true}"#, "schema: #/exclusiveMinimum: expected a number, found \"true\""),
    (#"{"format":"hostname"}"#, "schema: #/format: the format \"hostname\" is not supported; supported are date, time"),
    (#"{"pattern":"a(?=b)"}"#, "schema: #/pattern: position 1: lookahead is not supported"),
    (#"{"pattern":"^a$","format":"uuid"}"#, "schema: #: no text is valid"),
    (#"{"pattern":"^a$","minLength":2}"#, "schema: #: no text is valid"),
    (#"{"enum":[]}"#, "schema: #/enum: expected a list of values, found \"a list\""),
    (#"{"enum":["a"],"minLength":1}"#, "schema: #: the keyword enum beside minLength is not supported"),
    (#"{"const":1,"type":"string"}"#, "schema: #/const: no value has the type"),
    (#"{"const":1e30}"#, "schema: #/const: a number beyond 64 bits is not supported"),
    (#"{"anyOf":[{}],"type":"object"}"#, "schema: #: the keyword anyOf beside type is not supported"),
    (#"{"allOf":[{},{}]}"#, "schema: #/allOf: allOf of more than one schema is not supported"),
    (##"{"$ref":"#/a","minimum":1}"##, "schema: #: the keyword $ref beside minimum is not supported"),
    (#"{"$ref":"other.json"}"#, "schema: #/$ref: \"other.json\" is not a JSON pointer into this schema"),
    (##"{"$ref":"#/$defs/a"}"##, "schema: #/$ref: \"#/$defs/a\" is not a JSON pointer into this schema"),
    (##"{"$ref":"#"}"##, "schema: #: the schema refers to itself without a value"),
    (##"{"anyOf":[{"type":"null"},{"$ref":"#"}]}"##, "schema: #: the schema refers to itself without a value"),
    (#"{"items":{"$id":"x"}}"#, "schema: #/items/$id: the keyword $id is supported at the root only"),
    (#"{"type":"null","type":"null"}"#, "schema: #/type: the keyword appears twice"),
    (#"{"properties":{"a":{},"a":{}}}"#, "schema: #/properties: a property appears twice"),
    (
      ##"{"properties":{"a":{"$ref":"#"}},"required":["a"]}"##,
      "constraint: every answer is infinite, has more than 65536 bytes, or nests deeper than 64 levels"
    ),
  ])
  func `what is not supported is refused by name and place`(text: String, message: String) throws {
    let found = try problem(schema: text)
    #expect(found?.hasPrefix(message) == true, "\(found ?? "accepted")")
    #expect(found?.contains("\n") == false)
  }

  @Test func `messages quote at most a part of a schema`() throws {
    let long = String(repeating: "k\\u001b", count: 10_000)
    for text in [
      "{\"\(long)\":1}", "{\"type\":\"\(long)\"}", "{\"$ref\":\"\(long)\"}",
      "{\"required\":[\"\(long)\"],\"type\":\"object\"}",
    ] {
      let message = try #require(try problem(schema: text))
      #expect(message.utf8.count < 2000 && !message.unicodeScalars.contains("\u{1B}"))
    }
  }
}

@Suite struct LimitTests {
  private func expectBounded(_ constraint: Constraint, isRefused: Bool, line: Int = #line) {
    let start = ContinuousClock.now
    let found = problem(constraint)
    #expect(ContinuousClock.now - start < .seconds(60), "line \(line)")
    #expect((found != nil) == isRefused, "line \(line): \(found ?? "accepted")")
  }

  @Test(arguments: [
    "(a{1000}){1000}", "((((a*)*)*)*)*b{400000}", "(a|b)*a(a|b){30}", "[^a]{0,5000}x[^b]{0,5000}",
    "(x?){30000}x{30000}",
    String(repeating: "(", count: 10_000), "(?:" + String(repeating: "()", count: 200) + "){999999999}",
    String(repeating: ".", count: 100_000), String(repeating: "[^a]", count: 60_000),
    (0x4E00..<0x9000).map { "[^\(UnicodeScalar($0).map(String.init) ?? "")]" }.joined(),
  ])
  func `large expressions are refused in bounded time`(pattern: String) {
    expectBounded(.regex(pattern), isRefused: true)
  }

  @Test func `large schemas are refused or read in bounded time`() throws {
    func repeated(_ count: Int, _ text: (Int) -> String) -> String { (0..<count).map(text).joined(separator: ",") }
    let references = repeated(5000) { "\"a\($0)\":{\"$ref\":\"#/$defs/a\($0 + 1)\"}" }
    let chain = "{\"$ref\":\"#/$defs/a0\",\"$defs\":{\(references),\"a5000\":{}}}"
    let doubling = repeated(100) {
      "\"a\($0)\":{\"type\":\"object\",\"required\":[\"x\",\"y\"],\"properties\":{"
        + "\"x\":{\"$ref\":\"#/$defs/a\($0 + 1)\"},\"y\":{\"$ref\":\"#/$defs/a\($0 + 1)\"}}}"
    }
    let exponential = "{\"$ref\":\"#/$defs/a0\",\"$defs\":{\(doubling),\"a100\":{}}}"
    let lists =
      String(repeating: "{\"minItems\":60000,\"items\":", count: 20) + "{}" + String(repeating: "}", count: 20)
    let deep = String(repeating: "{\"items\":", count: 90) + "{}" + String(repeating: "}", count: 90)
    let wide = "{\"properties\":{\(repeated(9000) { "\"p\($0)\":{\"type\":\"null\"}" })}}"
    let enumeration = "{\"enum\":[\(repeated(20_000) { "\"v\($0)\"" })]}"
    let alternatives = "{\"items\":{\"anyOf\":[\(repeated(8000) { "{\"minLength\":\($0 + 1)}" })]}}"
    let dots = "{\"pattern\":\"\(String(repeating: ".", count: 60_000))\"}"
    let key = String(repeating: "k", count: 120_000)
    let longPlaces = "{\"properties\":{\"\(key)\":{\"properties\":{\(repeated(5000) { "\"p\($0)\":{}" })}}}}"
    for (text, isRefused) in [
      (dots, true), (longPlaces, true), (chain, true), (exponential, true), (lists, true), (deep, false), (wide, false),
      (enumeration, false),
      (alternatives, false), ("{\"title\":\"\(String(repeating: "a", count: 300_000))\"}", true),
    ] {
      expectBounded(.jsonSchema(try json(text)), isRefused: isRefused)
    }
  }

  @Test func `ambiguous nesting keeps a bounded number of readings`() throws {
    let grammar = try schema(
      ##"{"anyOf":[{"type":"array","items":{"$ref":"#"}},{"type":"array","items":{"$ref":"#"},"maxItems":5},{"const":1}]}"##
    )
    var state = GrammarState(grammar, Vocabularies.bytes)
    for _ in 0..<40 {
      let isAccepted = state.accept(Int(UInt8(ascii: "[")))
      #expect(isAccepted)
    }
    #expect(state.shortestCompletionLength == 40)
    for byte in state.shortestCompletion() {
      let isAccepted = state.mask().contains(Int(byte)) && state.accept(Int(byte))
      #expect(isAccepted)
    }
    #expect(state.mustEnd)
  }

  @Test func `thousands of optional properties need no deep stack`() throws {
    let properties = (0..<8000).map { "\"p\($0)\":{\"type\":\"null\"}" }.joined(separator: ",")
    let grammar = try schema("{\"properties\":{\(properties)}}")
    #expect(grammar.accepts("{}"))
    var state = GrammarState(grammar, Vocabularies.bytes)
    var generator = SeededGenerator(seed: 1)
    for _ in 0..<15 where !state.mustEnd {
      let isAccepted = state.accept(generator.element(state.mask().tokens))
      #expect(isAccepted)
    }
    #expect(state.shortestCompletion().count == state.shortestCompletionLength)
  }

  @Test func `answers nest at most 64 levels`() throws {
    let grammar = try Grammar(.jsonSchema(.bool(true)))
    let open = String(repeating: "[", count: 64)
    let state = try #require(grammar.state(after: open))
    #expect(!state.allows(Int(UInt8(ascii: "["))) && state.allows(Int(UInt8(ascii: "1"))))
    #expect(state.shortestCompletionLength == 64)
    // An optional key is not begun where its object would be too deep.
    let nested = try schema(##"{"properties":{"a":{"$ref":"#"},"b":{"type":"null"}}}"##)
    let last = try #require(nested.state(after: String(repeating: #"{"a":"#, count: 63) + #"{""#))
    #expect(!last.allows(Int(UInt8(ascii: "a"))) && last.allows(Int(UInt8(ascii: "b"))))
  }
}
