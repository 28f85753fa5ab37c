/// What a report says, apart from how it looks: rendered as one HTML file, as Markdown or as JSON.
package struct Page: Sendable {
  /// What is said about one subject.
  package struct Section: Sendable, Encodable {
    package var title: String
    package var blocks: [Block]

    package init(_ title: String, _ blocks: [Block]) { (self.title, self.blocks) = (title, blocks) }
  }

  /// A part of a section.
  package enum Block: Sendable {
    /// A paragraph of prose.
    case text(String)
    case table(Table)
    case plot(Plot)
    case bars(BarPlot)
    case keptMap(KeptMapFigure)
  }

  /// What the page was made by, such as machine, commit and command.
  package struct Fact: Sendable, Encodable {
    package var name: String
    package var text: String

    package init(_ name: String, _ text: String) { (self.name, self.text) = (name, text) }
  }

  package var title: String
  /// What to know first.
  package var lead: String?
  package var sections: [Section]
  /// Stands below all sections.
  package var facts: [Fact]

  package init(_ title: String, lead: String? = nil, sections: [Section], facts: [Fact] = []) {
    (self.title, self.lead, self.sections, self.facts) = (title, lead, sections, facts)
  }
}
