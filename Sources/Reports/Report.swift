package import Foundation

/// What a report says, apart from how it looks: rendered as one HTML file, as Markdown or as JSON.
package struct Report: Sendable {
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
  package struct Metadata: Sendable, Encodable {
    package var name: String
    package var text: String

    package init(_ name: String, _ text: String) { (self.name, self.text) = (name, text) }
  }

  package var title: String
  /// What to know first.
  package var summary: String?
  package var sections: [Section]
  /// Stands below all sections.
  package var metadata: [Metadata]

  package init(_ title: String, summary: String? = nil, sections: [Section], metadata: [Metadata] = []) {
    (self.title, self.summary, self.sections, self.metadata) = (title, summary, sections, metadata)
  }
}

extension Report {
  /// The page as one HTML file that needs nothing else: style and drawings are in it.
  ///
  /// - Throws: `ImageEncodingError` for a kept map's image.
  package var html: String {
    get throws { Templates.render("page", try context { try Self.markupContext($0, name: $1) }) }
  }

  /// The page as Markdown: drawings as the numbers after them.
  package var markdown: String { Templates.render("markdown", context { block, _ in Self.markdownContext(block) }) }

  /// The page as JSON, sorted and with line breaks.
  package var json: Data {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      return try encoder.encode(self) + Data("\n".utf8)
    }
  }

  // MARK: - What templates are filled with

  private func context<Failure: Error>(
    _ block: (Block, String) throws(Failure) -> Context
  ) throws(Failure) -> Context {
    var sectionContexts: [Context] = []
    for (number, section) in sections.enumerated() {
      var blocks: [Context] = []
      for (index, part) in section.blocks.enumerated() { blocks.append(try block(part, "figure-\(number)-\(index)")) }
      sectionContexts.append(["heading": section.title, "blocks": blocks])
    }
    var context: Context = [
      "pageTitle": title, "sections": sectionContexts, "facts": metadata.map { ["name": $0.name, "text": $0.text] },
      "hasFacts": !metadata.isEmpty,
    ]
    context["lead"] = summary
    return context
  }

  private static func markupContext(_ block: Block, name: String) throws -> Context {
    switch block {
    case .text(let text): ["text": ["content": text]]
    case .table(let table): ["table": context(table)]
    case .plot(let plot): ["plot": PlotDrawing(plot).context]
    case .bars(let plot): ["bars": BarDrawing(plot).context]
    case .keptMap(let figure): ["keptMap": try KeptMapDrawing(figure, name: name).context]
    }
  }

  private static func markdownContext(_ block: Block) -> Context {
    switch block {
    case .text(let text): ["text": ["content": text]]
    case .table(let table): ["table": context(table)]
    case .plot(let plot): ["table": context(plot.table)]
    case .bars(let plot): ["table": context(plot.table)]
    case .keptMap(let figure): ["table": context(figure.table)]
    }
  }

  private static func context(_ table: Table) -> Context {
    var context: Context = [
      "columns": table.columns.enumerated().map {
        ["heading": $1.heading, "isNumeric": table.isNumeric($0)] as Context
      },
      "rows": table.rows.map { row in
        ["cells": row.enumerated().map { ["text": $1.text, "isNumeric": table.isNumeric($0)] as Context }] as Context
      },
    ]
    context["caption"] = table.caption
    return context
  }
}

// MARK: - JSON

extension Report: Encodable {
  private enum CodingKeys: String, CodingKey { case title, summary, sections, metadata }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(title, forKey: .title)
    try container.encodeIfPresent(summary, forKey: .summary)
    try container.encode(sections, forKey: .sections)
    try container.encode(metadata, forKey: .metadata)
  }
}

extension Report.Block: Encodable {
  private enum CodingKeys: String, CodingKey { case text, table, plot, bars, kept_map }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    switch self {
    case .text(let text): try container.encode(text, forKey: .text)
    case .table(let table): try container.encode(table, forKey: .table)
    case .plot(let plot): try container.encode(plot, forKey: .plot)
    case .bars(let plot): try container.encode(plot, forKey: .bars)
    case .keptMap(let figure): try container.encode(figure, forKey: .kept_map)
    }
  }
}
