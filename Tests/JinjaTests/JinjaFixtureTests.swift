import Foundation
import Jinja
import Storage
import Testing

/// The fixtures that `generate.py` wrote with jinja2.
private enum Fixture {
  static let templates = read("templates.json")
  static let expressions = read("expressions.json")
  /// The time of `strftime_now` in the fixtures.
  static let now = JinjaTime(year: 2024, month: 7, day: 26, hour: 15, minute: 4, second: 5, weekday: 5)

  private static func read(_ name: String) -> JSONValue {
    let url = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures").appending(path: name)
    guard let data = try? Data(contentsOf: url), let json = try? JSONParser.parse(Array(data)) else {
      preconditionFailure("no fixture \(url.path)")
    }
    return json
  }

  static func variables(_ json: JSONValue) -> [String: JinjaValue] {
    Dictionary((json.members ?? []).map { ($0.key, JinjaValue($0.value)) }) { $1 }
  }
}

/// The text of a template, or the error.
private func rendering(_ source: String, _ variables: [String: JinjaValue]) -> Result<String, JinjaError> {
  Result { () throws(JinjaError) in try JinjaTemplate(source).render(variables, now: Fixture.now) }
}

@Suite struct JinjaFixtureTests {
  @Test func `templates of model families give the bytes of jinja2 for every conversation`() {
    let fixture = Fixture.templates
    let contexts = Dictionary(
      uniqueKeysWithValues: (fixture["contexts"].members ?? []).map { ($0.key, Fixture.variables($0.value)) })
    let cases = fixture["cases"].array ?? []
    #expect(cases.count > 4000)
    for entry in cases {
      let parts = entry.array ?? []
      let name = parts[0].string ?? ""
      let context = parts[1].string ?? ""
      let result = rendering(fixture["templates"][name].string ?? "", contexts[context] ?? [:])
      if let expected = parts[2].string {
        #expect(bytes(result) == Array(expected.utf8), "\(name) with \(context): \(result)")
      } else {
        #expect(throws: JinjaError.self, "\(name) with \(context)") { try result.get() }
      }
    }
  }

  @Test func `expressions, filters, tests, methods and statements give the bytes of jinja2`() {
    let variables = Fixture.variables(Fixture.expressions["variables"])
    let cases = Fixture.expressions["cases"].array ?? []
    #expect(cases.count > 800)
    for entry in cases {
      let source = entry.array?[0].string ?? ""
      let result = rendering(source, variables)
      if let expected = entry.array?[1].string {
        #expect(bytes(result) == Array(expected.utf8), "\(source): \(result)")
      } else {
        #expect(throws: JinjaError.self, "\(source)") { try result.get() }
      }
    }
  }

  private func bytes(_ result: Result<String, JinjaError>) -> [UInt8]? { (try? result.get()).map { Array($0.utf8) } }
}
