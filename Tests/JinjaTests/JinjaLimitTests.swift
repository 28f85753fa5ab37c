import Jinja
import Storage
import TestSupport
import Testing

private func error(_ source: String, _ variables: [String: JinjaValue] = [:]) -> JinjaError? {
  do throws(JinjaError) {
    _ = try JinjaTemplate(source).render(variables)
    return nil
  } catch {
    return error
  }
}

/// A piece of source, many times, with what comes before and after it.
private func nested(_ open: String, _ middle: String, _ close: String, _ count: Int) -> String {
  String(repeating: open, count: count) + middle + String(repeating: close, count: count)
}

@Suite struct JinjaRefusalTests {
  @Test(arguments: [
    ("a\nb\n{{ x | groupby('a') }}", "line 3: the filter 'groupby' is not supported"),
    ("{{ x | map('groupby') }}", "line 1: the filter 'groupby' is not supported"),
    ("{% if false %}\n{{ x is escaped }}{% endif %}", "line 2: the test 'escaped' is not supported"),
    ("{{ x | select('escaped') }}", "line 1: the test 'escaped' is not supported"),
    ("\n{{ s.encode('utf-8') }}", "line 2: the method 'encode' is not supported"),
    ("{{ lipsum() }}", "line 1: the function 'lipsum' is not supported"),
    ("{% set a = 1 %}\n{% include 'x' %}", "line 2: the statement 'include' is not supported"),
    ("{% block a %}{% endblock %}", "line 1: the statement 'block' is not supported"),
    ("{{ x.__class__ }}", "line 1: the attribute '__class__' is not supported"),
  ])
  func `what is not supported is refused by name and line`(source: String, problem: String) {
    #expect(error(source, ["x": [], "s": ""])?.problem == problem)
  }

  @Test func `filters, tests, methods, functions and statements are refused before rendering`() {
    for source in ["{{ x | nope }}", "{{ x is nope }}", "{{ x.nope() }}", "{{ nope() }}", "{% nope %}"] {
      #expect(throws: JinjaError.self) { try JinjaTemplate("{% if false %}" + source + "{% endif %}") }
    }
  }

  @Test func `a function that the template tests first may be missing`() throws {
    #expect(try JinjaTemplate("{% if now is defined %}{{ now() }}{% else %}-{% endif %}").render([:]) == "-")
  }

  @Test func `each kind of failure has its case`() {
    #expect(error("{{ raise_exception('roles must alternate') }}") == .raised("roles must alternate"))
    #expect(error("\n{{ x.y }}") == .undefined("'x' is undefined", line: 2))
    #expect(error("{{ 1 + 'a' }}") == .evaluation("+ of values of types int and str", line: 1))
    #expect(error("a\n{% if x %}") == .syntax("expected 'endif', found the end of the template", line: 2))
    #expect(error("{{ 'a' * 10000000 }}") == .limit("the template makes a text above 4194304 bytes", line: 1))
  }

  @Test func `the smallest integer is in no range`() throws {
    let source = "{{ (-9223372036854775807 - 1) in range(0, -5, -1) }}"
    #expect(try JinjaTemplate(source).render([:]) == "False")
  }

  @Test(
    .enabled(if: isOptimized, "slow without optimisation"),
    arguments: [
      "{% set t=(1,)*1000 %}{% set u=(t,)*1000 %}{% set v=(u,)*1000 %}{% set w={}[v] %}",
      "{% set x='a'*4000000 %}{% for i in range(100000) %}{% set y=''.strip(x) %}{% endfor %}",
      "{% set x='0'*4000000 %}{% for i in range(100000) %}{% set y=x|float %}{% endfor %}",
      "{% set x=','*4000000 %}{% for i in range(100000) %}{% set y=[]|sort(attribute=x) %}{% endfor %}",
      "{% set x=[1]*1000000 %}{% for i in range(100000) %}{% set y=x|sum %}{% endfor %}",
      "{% for i in range(100000) %}{% set y=\(nested("0 or ", "0", "", 50_000)) %}{% endfor %}",
      "{% for i in range(100000) %}{% set y=\(nested("1+", "1", "", 50_000)) %}{% endfor %}",
      "{% for i in range(100000) %}{% if false %}{{ [\((0..<20_000).map { "a\($0)" }.joined(separator: ","))] }}{% endif %}{% endfor %}",
    ])
  func `work that repeats is counted`(source: String) {
    let start = ContinuousClock.now
    guard case .limit = error(source) else {
      Issue.record("not refused: \(source.prefix(80))")
      return
    }
    #expect(ContinuousClock.now - start < .seconds(60))
  }

  @Test func `messages quote at most 60 characters of a template or conversation`() {
    let long = String(repeating: "a\u{1B}", count: 10_000)
    for source in ["{{ raise_exception(x) }}", "{{ x | \(String(repeating: "b", count: 10_000)) }}", "{{ x.y.z }}"] {
      let problem = error(source, ["x": .string(long)])?.problem ?? ""
      #expect(!problem.isEmpty && problem.utf8.count < 500)
      #expect(!problem.unicodeScalars.contains("\u{1B}"))
    }
  }

  @Test(arguments: [
    "{{ x.append(1) }}", "{{ d.update(x) }}", "{{ d.pop('a') }}", "{{ x.sort() }}", "{{ d.setdefault('b', 1) }}",
    "{{ ''.__class__ }}", "{{ ''['__class__'] }}", "{{ x | map(attribute='__class__') | list }}",
    "{% set n = namespace() %}{% set n._a = 1 %}", "{{ namespace(_a=1) }}", "{{ raise_exception.__globals__ }}",
  ])
  func `a template reaches nothing but its data, and changes none of it`(source: String) {
    #expect(error(source, ["x": [1], "d": ["a": 1]]) != nil)
  }
}

@Suite struct JinjaLimitTests {
  @Test(arguments: [
    ("{{ " + nested("(", "1", ")", 5000) + " }}"),
    ("{{ " + nested("[", "", "]", 5000) + " }}"),
    ("{{ " + nested("- ", "1", "", 5000) + " }}"),
    ("{{ a" + nested(".b", "", "", 5000) + " }}"),
    ("{{ a" + nested("()", "", "", 5000) + " }}"),
    ("{{ 1" + nested("|string", "", "", 5000) + " }}"),
    ("{{ " + nested("1 if 0 else ", "2", "", 5000) + " }}"),
    nested("{% if 1 %}", "", "{% endif %}", 5000),
    nested("{% for a in [1] %}", "", "{% endfor %}", 5000),
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(a) %}{{ [[[f([f(a)])]]] | map('string') | list }}{% endmacro %}{{ f(1) }}",
    "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
    "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% set n = namespace(x=[]) %}{% for i in range(100000) %}{% set n.x = [n.x] %}{% endfor %}",
    "{% set n = namespace(x=1) %}{% for i in range(100000) %}{% set n.x = dict(a=n.x) %}{% endfor %}",
    "{% set n = namespace(x=1) %}{% macro f() %}{% set n.x = varargs %}{% endmacro %}"
      + "{% for i in range(100000) %}{{ f(n.x) }}{% endfor %}",
    "{% set n = namespace(x=[]) %}{% for i in range(100000) %}{% set n.x = [n.x] | map('list') %}{% endfor %}",
  ])
  func `nesting is limited in source, evaluation and values`(source: String) {
    guard case .limit = error(source) else {
      Issue.record("\(source.prefix(80)): \(String(describing: error(source)))")
      return
    }
  }

  @Test(arguments: [
    "{{ 'a' * 10 ** 15 }}",
    "{{ [1] * 10 ** 15 }}",
    "{{ ('a' * 100000) | replace('', 'b' * 100000) }}",
    "{{ (['a'] * 100000) | join('b' * 100000) }}",
    "{{ 'a' | center(10 ** 12) }}",
    "{{ 'a'.zfill(9223372036854775807) }}",
    "{{ ('a\n' * 100000) | indent(100000) }}",
    "{{ [[1]] | tojson(indent=10 ** 12) }}",
    "{{ ('{0}' * 100000).format('a' * 100000) }}",
    "{{ ('%s' * 1000) % (('a' * 100000,) * 1000) }}",
    "{% set n = namespace(x='ab') %}{% for i in range(100) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}",
    "{% for i in range(100000) %}{{ 'a' * 1000 }}{% endfor %}",
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{% for a in range(100000) %}{% set x = range(100000) | list %}{% endfor %}",
    "{{ range(100001) | list }}", "{{ range(0, 9223372036854775807) }}",
    "{{ 9223372036854775807 + 1 }}", "{{ 2 ** 63 }}", "{{ -(-9223372036854775807 - 1) }}",
    "{{ (-9223372036854775807 - 1) // -1 }}", "{{ (-9223372036854775807 - 1) | abs }}",
    "{{ 99999999999999999999 }}", "{{ '99999999999999999999' | int }}", "{{ 1e30 | int }}",
  ])
  func `growth is refused before memory is allocated`(source: String) {
    guard case .limit = error(source) else {
      Issue.record("\(source): \(String(describing: error(source)))")
      return
    }
  }

  @Test func `the limits are parameters`() throws {
    let template = try JinjaTemplate("{% for a in range(100) %}{{ a }}{% endfor %}")
    #expect(try template.render([:]).utf8.count == 190)
    #expect(throws: JinjaError.self) { try template.render([:], limits: JinjaLimits(steps: 100)) }
    #expect(throws: JinjaError.self) { try template.render([:], limits: JinjaLimits(outputBytes: 189)) }
    #expect(try template.render([:], limits: JinjaLimits(outputBytes: 190)).utf8.count == 190)
  }

  @Test func `a source above 256 kB is refused`() throws {
    _ = try JinjaTemplate(String(repeating: "a", count: JinjaLimits.sourceBytes))
    #expect(throws: JinjaError.self) { try JinjaTemplate(String(repeating: "a", count: JinjaLimits.sourceBytes + 1)) }
  }

  @Test(arguments: ["{#", "{# a", "{%", "{{", "{", "{% raw %}", "{{ 'a' ", "  {% ", "{%raw%}{% endraw", "{{ a|", "-%}"])
  func `hostile repetitions of a tag take linear time`(piece: String) {
    let source = "x" + String(repeating: piece, count: JinjaLimits.sourceBytes / piece.utf8.count - 1)
    let time = ContinuousClock().measure { _ = try? JinjaTemplate(source) }
    // About 0.3 s in a debug build; a quadratic scan takes minutes.
    #expect(time < .seconds(20))
  }

  @Test func `searching in text takes linear time`() throws {
    let source = """
      {{ (a ~ 'b') in text }}{{ text.count(a ~ 'b') }}{{ text.rsplit(a ~ 'b') | length }}{{ text.find(a ~ 'b') }}
      """
    let variables: [String: JinjaValue] = [
      "a": .string(String(repeating: "a", count: 20_000)), "text": .string(String(repeating: "a", count: 200_000)),
    ]
    #expect(try JinjaTemplate(source).render(variables) == "False01-1")
  }

  @Test func `bounds of any size are those of Python`() throws {
    let low = "(-9223372036854775807 - 1)"
    let high = "9223372036854775807"
    let source = """
      {{ 'abc'[\(low):\(high):\(high)] }}{{ 'abc'[::\(low)] }}{{ [1][\(high):] }}{{ 'ab'[\(low)] }}{{ \(low) in range(5) }}
      """
    #expect(try JinjaTemplate(source).render([:]) == "ac[]False")
  }
}

@Suite struct JinjaValueTests {
  @Test func `JSON becomes the values that Python would load`() throws {
    let json = try JSONParser.parse(Array(#"{"a": [1, 2.0, "é", true, null], "b": {"z": 1, "y": 2}, "a2": 1e3}"#.utf8))
    let text = try JinjaTemplate("{{ v }}|{{ v | tojson }}").render(["v": JinjaValue(json)])
    #expect(
      text == """
        {'a': [1, 2.0, 'é', True, None], 'b': {'z': 1, 'y': 2}, 'a2': 1000.0}|\
        {"a": [1, 2.0, "é", true, null], "b": {"z": 1, "y": 2}, "a2": 1000.0}
        """)
  }

  @Test func `keys and texts are distinguished by code point`() throws {
    let composed = "\u{E9}"
    let decomposed = "e\u{301}"
    let dict = JinjaDict([(composed, 1), (decomposed, 2), (composed, 3)])
    #expect(dict.count == 2 && dict[composed] == 3 && dict[decomposed] == 2)
    #expect(JinjaValue.string(composed) != .string(decomposed))
    #expect(JinjaValue.int(1) == .bool(true) && JinjaValue.int(1) == .double(1))
  }

  @Test(arguments: [1, 8, 9, 1000])
  func `a dictionary keeps the order of insertion at any size`(count: Int) {
    var dict = JinjaDict()
    for i in 0..<count { dict["k\(i)"] = .int(i) }
    for i in 0..<count { dict["k\(i)"] = .int(-i) }
    #expect(dict.entries.map(\.value) == (0..<count).map { .int(-$0) })
    #expect(dict["k\(count - 1)"] == .int(1 - count) && dict["k\(count)"] == nil)
  }
}
