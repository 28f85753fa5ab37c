import Grammar
import Storage
import Testing

@Suite struct SchemaTests {
  @Test(arguments: [
    (#"{"type":"null"}"#, ["null"], ["", "nul", "true", " null"]),
    (#"{"type":"boolean"}"#, ["true", "false"], ["null", "tru", "truefalse"]),
    (
      #"{"type":"integer"}"#, ["0", "-0", "7", "-12", "123456789012345"],
      ["", "-", "01", "1.0", "1e2", "1234567890123456"]
    ),
    (
      #"{"type":"number"}"#, ["0", "-1.5", "1e5", "2.25E-10", "0.0", "3e+07"],
      [".5", "1.", "1e", "1e123", "00", "+1", "NaN"]
    ),
    (
      #"{"type":"string"}"#, [#""""#, #""a""#, #""é日👍""#, #""\n\"\\\/\u00e9\ud83d\udc4d""#, "\"\u{7F}\u{2028}\""],
      [#"""#, "\"\n\"", #""\x""#, #""\ud83d""#, #""\udc4d""#, #""\ud83d\u0041""#, "\"a\"b", #""\u12""#]
    ),
    (
      #"{"type":"string","minLength":2,"maxLength":3}"#, [#""ab""#, #""日本語""#, #""👍👍""#, #""\ud83d\udc4d\n""#],
      [#""""#, #""a""#, #""abcd""#, #""👍""#, #""\u0041""#, #""\u0041\u0041\u0041\u0041""#]
    ),
    (
      #"{"properties":{"a":{"type":"string"},"b":{"type":"string","pattern":"^nil$"}}}"#, [#"{"a":"x","b":"nil"}"#],
      [#"{"b":"x"}"#]
    ),
    (#"{"type":"string","maxLength":0}"#, [#""""#], [#""a""#]),
    (#"{"type":"string","minLength":1}"#, [#""a""#, #""abcdefghijkl""#], [#""""#]),
    (#"{"type":["string","null"]}"#, [#""""#, "null"], ["1", "true"]),
    (#"{"type":["integer","number"]}"#, ["1", "1.5"], ["null"]),
    (
      #"{"properties":{"a":{"type":"integer"},"b":{"type":"null"}}}"#,
      ["{}", "{ }", "{\n}", #"{"a":1}"#, #"{"b":null}"#, #"{"a": 1, "b": null}"#, "{\n  \"a\": 1,\n  \"b\": null\n}"],
      [#"{"b":null,"a":1}"#, #"{"a":1,}"#, #"{"a" :1}"#, #"{"c":1}"#, #"{"a":1 ,"b":null}"#, #"{"a":1,"a":2}"#, "{\t}"]
    ),
    (
      #"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"null"},"c":{"type":"null"}},"required":["b"]}"#,
      [#"{"b":null}"#, #"{"a":1,"b":null}"#, #"{"b":null,"c":null}"#, #"{"a":1,"b":null,"c":null}"#],
      ["{}", #"{"a":1}"#, #"{"c":null}"#, #"{"a":1,"c":null}"#]
    ),
    (#"{"type":"object","additionalProperties":false}"#, ["{}"], [#"{"a":1}"#]),
    (#"{"type":"object","properties":{}}"#, ["{}"], [#"{"a":1}"#]),
    (
      #"{"type":"object","additionalProperties":{"type":"integer"}}"#, ["{}", #"{"x":1}"#, #"{"": 1, "é\n": 2}"#],
      [#"{"x":null}"#, #"{"x":1,}"#, #"{x:1}"#]
    ),
    (#"{"type":"object"}"#, ["{}", #"{"x":[{"y":null}]}"#], ["[]", "1"]),
    (
      #"{"type":"array","items":{"type":"integer"}}"#, ["[]", "[ ]", "[1]", "[1, 2]", "[\n1,\n2\n]"],
      ["[", "[1,]", "[,1]", "[null]", "[1 ,2]", "[1  ]"]
    ),
    (#"{"type":"array","minItems":2,"maxItems":3}"#, ["[1,2]", "[1,[],{}]"], ["[]", "[1]", "[1,2,3,4]"]),
    (#"{"type":"array","maxItems":0}"#, ["[]"], ["[1]"]),
    (
      #"{"minItems":2,"items":{"minItems":2,"items":{"type":"null"}}}"#, ["[[null,null],[null,null]]"],
      ["[[null,null]]"]
    ),
    (
      #"{"enum":["a",1,1.5,null,[1,"é"],{"k":true}]}"#, [#""a""#, "1", "1.5", "null", #"[1,"é"]"#, #"{"k":true}"#],
      ["2"]
    ),
    (#"{"type":"string","enum":["a",1]}"#, [#""a""#], ["1"]),
    (#"{"const":"a\n\"\\\u0001/"}"#, [#""a\n\"\\\u0001/""#], [#""a""#]),
    (#"{"const":{"a":[1,{"b":null}]}}"#, [#"{"a":[1,{"b":null}]}"#], ["{}"]),
    (#"{"anyOf":[{"type":"string"},{"type":"integer","minimum":5}]}"#, [#""""#, "5", "17"], ["4", "null"]),
    (#"{"allOf":[{"type":"null"}],"description":"x"}"#, ["null"], ["1"]),
    (##"{"$ref":"#/$defs/a~1b%20c","$defs":{"a/b c":{"type":"null"}}}"##, ["null"], ["1"]),
    (
      ##"{"properties":{"v":{"type":"integer"},"n":{"$ref":"#"}},"required":["v"]}"##,
      [#"{"v":1}"#, #"{"v":1,"n":{"v":2,"n":{"v":3}}}"#], [#"{"v":1,"n":{}}"#]
    ),
    (##"{"properties":{"a":{"$ref":"#/properties/b"},"b":{"type":"null"}}}"##, [#"{"a":null}"#], [#"{"a":1}"#]),
    (#"{"properties":{"é\"":{"type":"null"}}}"#, [#"{"é\"":null}"#], ["{\"é\":null}"]),
    ("true", ["null", "1", #"{"a":[]}"#, #""x""#], ["", "x"]),
    (#"{"title":"x","uniqueItems":false}"#, ["[]"], ["1"]),
  ])
  func `texts are accepted or not`(text: String, accepted: [String], rejected: [String]) throws {
    let grammar = try schema(text)
    for answer in accepted { #expect(grammar.accepts(answer), "\(text) should accept \(answer)") }
    for answer in rejected { #expect(!grammar.accepts(answer), "\(text) should reject \(answer)") }
  }
}
