import Grammar
import Storage
import Testing

@Suite struct NumberTests {
  @Test(arguments: [
    (
      #"{"type":"integer","minimum":-20,"maximum":120}"#, ["-20", "-0", "0", "7", "120"], ["-21", "121", "1000", "07"]
    ),
    (#"{"type":"integer","exclusiveMinimum":8,"exclusiveMaximum":12}"#, ["9", "10", "11"], ["8", "12", "1"]),
    (#"{"type":"integer","minimum":1.5,"maximum":3.5}"#, ["2", "3"], ["1", "4"]),
    (#"{"type":"integer","minimum":18}"#, ["18", "99", "123456789012345"], ["17", "1", "-20"]),
    (
      #"{"type":"integer","minimum":9223372036854775806}"#, ["9223372036854775806", "9223372036854775807"],
      ["9223372036854775805", "9223372036854775808"]
    ),
    (
      #"{"minimum":0.25,"maximum":1.5}"#, ["0.25", "0.250", "1", "1.0", "1.5", "1.50", "0.9999"],
      ["0.2", "0.24999", "1.51", "1.500001", "2", "1e0", "-1", "0", "0."]
    ),
    (#"{"exclusiveMinimum":0,"maximum":1}"#, ["0.1", "0.00001", "1", "1.000"], ["0", "0.0", "-0", "1.01", "-0.1"]),
    (#"{"minimum":-1.5,"exclusiveMaximum":-0.5}"#, ["-1.5", "-1", "-0.51"], ["-0.5", "-0.50", "0", "-1.6"]),
    (#"{"minimum":0}"#, ["0", "-0", "-0.00", "12345.25"], ["-1", "-0.01", "1e5"]),
    (#"{"maximum":100,"exclusiveMaximum":50}"#, ["49.9", "-3"], ["50", "51"]),
    (#"{"minimum":1e-7}"#, ["0.0000001", "1"], ["0.00000009", "0"]),
    (#"{"minimum":5,"maximum":5}"#, ["5", "5.0"], ["5.1", "4.9"]),
  ])
  func `bounds are exact`(text: String, accepted: [String], rejected: [String]) throws {
    let grammar = try schema(text)
    for answer in accepted { #expect(grammar.accepts(answer), "\(text) should accept \(answer)") }
    for answer in rejected { #expect(!grammar.accepts(answer), "\(text) should reject \(answer)") }
  }

  @Test func `every integer within small bounds is accepted, and no other`() throws {
    for (low, high) in [(-12, 34), (0, 9), (5, 5), (95, 1005), (-250, -99)] {
      let grammar = try schema(#"{"type":"integer","minimum":\#(low),"maximum":\#(high)}"#)
      for value in -1100...1100 {
        #expect(grammar.accepts(String(value)) == (low...high ~= value), "\(value) in \(low)...\(high)")
      }
    }
  }

  @Test func `every decimal within bounds is accepted, and no other`() throws {
    for (low, high) in [(-1.25, 2.5), (0.05, 0.1), (9.9, 10.1), (-3, -0.01)] {
      let grammar = try schema(#"{"minimum":\#(low),"exclusiveMaximum":\#(high)}"#)
      for value in -1100...1100 {
        let text = (value < 0 ? "-" : "") + "\(abs(value) / 100)." + String(abs(value) % 100 + 100).dropFirst()
        let number = try #require(Double(text))
        #expect(grammar.accepts(text) == (number >= low && number < high), "\(text) in \(low)..<\(high)")
      }
    }
  }

  @Test(arguments: [
    (
      "date", ["2024-02-29", "2000-02-29", "0001-01-01", "9999-12-31"],
      ["2023-02-29", "1900-02-29", "0000-01-01", "2024-04-31"]
    ),
    ("time", ["23:59:59Z", "00:00:00.123+05:30"], ["24:00:00Z", "12:00:00", "12:60:00Z"]),
    ("date-time", ["2024-01-31T10:20:30Z"], ["2024-01-31 10:20:30Z", "2024-01-32T10:20:30Z"]),
    ("uuid", ["123e4567-e89b-12d3-A456-426614174000"], ["123e4567e89b12d3a456426614174000"]),
    ("ipv4", ["0.0.0.0", "255.199.10.9"], ["256.0.0.0", "01.0.0.0", "1.2.3"]),
    ("email", ["a.b+c@example.co.uk"], ["a@b", "@x.org", "a b@x.org", "a..b@x.org"]),
  ])
  func `formats are exact`(name: String, accepted: [String], rejected: [String]) throws {
    let grammar = try schema(#"{"type":"string","format":"\#(name)"}"#)
    for text in accepted { #expect(grammar.accepts("\"\(text)\""), "\(name) should accept \(text)") }
    for text in rejected { #expect(!grammar.accepts("\"\(text)\""), "\(name) should reject \(text)") }
  }
}
