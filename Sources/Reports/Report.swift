package import Foundation

/// The content of a report, independent of its format: HTML, Markdown or JSON.
package struct Report: Sendable {
  /// A heading and the blocks below it.
  package struct Section: Sendable, Encodable {
    package var title: String
    package var blocks: [Block]

    package init(_ title: String, _ blocks: [Block]) { (self.title, self.blocks) = (title, blocks) }
  }

  /// A paragraph, table, chart or kept-token map of a section.
  package enum Block: Sendable {
    /// One paragraph.
    case text(String)
    case table(Table)
    case plot(Plot)
    case bars(BarPlot)
    case keptMap(KeptMapFigure)
  }

  /// An entry of the footer, such as processor, commit or command.
  package struct Metadata: Sendable, Encodable {
    package var name: String
    package var text: String

    package init(_ name: String, _ text: String) { (self.name, self.text) = (name, text) }
  }

  package var title: String
  /// The first paragraph, below the title.
  package var summary: String?
  package var sections: [Section]
  /// The footer, below all sections.
  package var metadata: [Metadata]

  package init(_ title: String, summary: String? = nil, sections: [Section], metadata: [Metadata] = []) {
    (self.title, self.summary, self.sections, self.metadata) = (title, summary, sections, metadata)
  }
}

extension Report {
  /// One self-contained HTML file; styles and drawings are inline.
  ///
  /// - Throws: `ImageEncodingError` for the image of a kept-token map.
  package var html: String {
    get throws { Templates.render("page", try context { try Self.markupContext($0, name: $1) }) }
  }

  /// Markdown with a table in place of each drawing.
  package var markdown: String { Templates.render("markdown", context { block, _ in Self.markdownContext(block) }) }

  /// Indented JSON with sorted keys.
  package var json: Data {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      return try encoder.encode(self) + Data("\n".utf8)
    }
  }

  // MARK: - Template contexts

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
      "pageTitle": title, "sections": sectionContexts, "metadata": metadata.map { ["name": $0.name, "text": $0.text] },
      "hasMetadata": !metadata.isEmpty,
    ]
    context["summary"] = summary
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
  private enum CodingKeys: String, CodingKey {
    case text, table, plot, bars
    case keptMap = "kept_map"
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    switch self {
    case .text(let text): try container.encode(text, forKey: .text)
    case .table(let table): try container.encode(table, forKey: .table)
    case .plot(let plot): try container.encode(plot, forKey: .plot)
    case .bars(let plot): try container.encode(plot, forKey: .bars)
    case .keptMap(let figure): try container.encode(figure, forKey: .keptMap)
    }
  }
}
