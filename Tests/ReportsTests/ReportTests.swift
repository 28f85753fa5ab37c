import Foundation
import Reports
import Testing

#if canImport(FoundationXML)
  import FoundationXML
#endif

/// Elements, attributes and text of an XML document, or the parse error.
final class XMLCheck: NSObject, XMLParserDelegate {
  private(set) var counts: [String: Int] = [:]
  private(set) var text = ""
  private(set) var attributes: [String] = []
  private(set) var error: String?

  init(_ document: String) {
    super.init()
    let parser = XMLParser(data: Data(document.utf8))
    parser.delegate = self
    if !parser.parse() { error = "line \(parser.lineNumber): \(String(describing: parser.parserError))" }
  }

  func parser(
    _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
    attributes: [String: String]
  ) {
    counts[name, default: 0] += 1
    self.attributes += attributes.map { "\($0)=\($1)" }
  }

  func parser(_ parser: XMLParser, foundCharacters string: String) { text += string }
}

@Suite struct ReportTests {
  /// Strings that break unescaped markup. The last one is one character in Swift, but a quote in a browser.
  static let hostile = [
    "<script>alert(1)</script>", "a & b", "\" onload='x'", "]]>", "{{title}}", "\u{1}\u{FFFE}", "\"\u{338}x",
  ]

  static func report(_ words: String) -> Report {
    let points = [Plot.Point(1, 10, low: 8, high: 12, label: words), Plot.Point(10, 0.1, label: "b")]
    return Report(
      words, summary: words,
      sections: [
        Report.Section(
          words,
          [
            .text(words),
            .table(
              Table(
                caption: words, columns: [.init("a", heading: words), .init("b", heading: "number")],
                rows: [[.init(words), .init("1.50", number: 1.5)], [.init("x"), .init("2", number: 2)]])),
            .plot(
              Plot(
                words, caption: words, x: Axis(words), y: Axis(words, isLogarithmic: true),
                series: [
                  Plot.Series(words, points), Plot.Series("line \(words)", [Plot.Point(2, 1), Plot.Point(9, 5)]),
                ])),
            .bars(
              BarPlot(
                words, axis: Axis(words, unit: .percent), groups: [words, "second"],
                series: [
                  BarPlot.Series(words, [BarPlot.Bar(0.5, low: 0.4, high: 0.6), nil]),
                  BarPlot.Series("other", [BarPlot.Bar(0.25), BarPlot.Bar(1)]),
                ])),
          ])
      ], metadata: [Report.Metadata(words, words)])
  }

  @Test(arguments: hostile)
  func `escapes markup in all texts`(words: String) throws {
    let html = try Self.report(words).html
    let check = XMLCheck(html.replacing("<!DOCTYPE html>\n", with: ""))
    #expect(check.error == nil)
    #expect(check.counts["script"] == nil && !check.attributes.contains { $0.hasPrefix("onload") })
    // The elements are the same as with a plain text.
    let plain = try XMLCheck(Self.report("plain").html.replacing("<!DOCTYPE html>\n", with: ""))
    #expect(check.counts == plain.counts)
    let shown = words.replacing("\u{1}\u{FFFE}", with: "\u{FFFD}\u{FFFD}")
    #expect(check.text.components(separatedBy: shown).count > 10)
  }

  @Test func `HTML is self-contained and adapts to theme and width`() throws {
    let html = try Self.report("plain").html
    #expect(
      !html.contains("http://") && !html.contains("https://") && !html.contains("url(") && !html.contains("@import"))
    #expect(html.contains("prefers-color-scheme: dark") && html.contains("width=device-width"))
    #expect(!html.contains("{{") && !html.contains("}}"))
  }

  @Test func `renders Markdown`() {
    let markdown = Self.report("a|b").markdown
    #expect(
      markdown.hasPrefix("# a\\|b\n\na\\|b\n\n## a\\|b\n\na\\|b\n\na\\|b:\n\n| a\\|b | number |\n| --- | ---: |\n"))
    #expect(markdown.contains("| a\\|b | 1.50 |\n| x | 2 |\n"))
    #expect(markdown.contains("| a\\|b | 50% (40% to 60%) | 25% |\n| second |  | 100% |\n"))
    #expect(markdown.hasSuffix("\n- a\\|b: a\\|b\n"))
    #expect(!Self.report("x\n# y").markdown.contains("\n# y"))
  }

  @Test func `renders JSON with numbers as numbers`() throws {
    let json = try #require(JSONSerialization.jsonObject(with: Self.report("q").json) as? [String: Any])
    let sections = try #require(json["sections"] as? [[String: Any]])
    let blocks = try #require(sections.first?["blocks"] as? [[String: Any]])
    #expect(blocks.compactMap(\.keys.first) == ["text", "table", "plot", "bars"])
    let table = try #require(blocks[1]["table"] as? [String: Any])
    #expect((table["rows"] as? [[Any]])?[0][1] as? Double == 1.5)
    #expect((table["rows"] as? [[Any]])?[0][0] as? String == "q")
  }

  @Test func `draws points and error bars at their positions`() {
    let plot = Plot(
      "t", x: Axis("x"), y: Axis("y"),
      series: [Plot.Series("s", [Plot.Point(0, 0), Plot.Point(10, 10, low: 5, high: 10)])])
    let context = PlotDrawing(plot).context
    let series = context["series"] as? [Context]
    let points = series?.first?["points"] as? [Context]
    #expect(points?[0]["x"] as? String == context["left"] as? String)
    #expect(points?[0]["y"] as? String == context["bottom"] as? String)
    #expect(points?[1]["x"] as? String == context["right"] as? String)
    #expect(points?[1]["y"] as? String == context["top"] as? String)
    let bar = points?[1]["bar"] as? Context
    #expect(bar?["high"] as? String == context["top"] as? String)
    #expect(Double(bar?["low"] as? String ?? "") == 122)
  }

  @Test func `bar charts widen to fit their labels`() throws {
    func width(_ name: String) throws -> Double {
      let plot = BarPlot(
        "t", axis: Axis("a"), groups: [name], series: [.init(name, [.init(1)]), .init("other", [.init(2)])])
      let context = BarDrawing(plot).context
      let groups = try #require(context["groups"] as? [Context])
      let bars = try #require(groups.first?["bars"] as? [Context])
      let width = try #require(Double(context["width"] as? String ?? ""))
      for bar in bars {
        let label = try #require(bar["seriesName"] as? Context)
        let (end, value) = (Double(label["x"] as? String ?? ""), Double(bar["textX"] as? String ?? ""))
        // Coordinates are rounded to 0.1.
        #expect(try #require(end) + 0.1 >= LabelPlacement.width(label["name"] as? String ?? ""))
        #expect(try #require(value) + LabelPlacement.width(bar["text"] as? String ?? "") <= width + 0.1)
      }
      return width
    }
    #expect(try width("short") == 400)
    #expect(try width(String(repeating: "a long name ", count: 8)) > 500)
  }

  @Test func `all values of a chart have the same number of decimals`() {
    let plot = BarPlot(
      "t", axis: Axis("a", unit: .percent), groups: ["g", "h"], series: [.init("s", [.init(0.42), .init(0.533)])])
    let report = Report("r", sections: [.init("s", [.bars(plot)])])
    #expect(report.markdown.contains("| g | 42.0% |\n| h | 53.3% |\n"))
  }
}
