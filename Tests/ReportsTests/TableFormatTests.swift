import Reports
import Foundation
import Testing

@Suite struct TableFormatTests {
  private let records = [
    TableRow([
      Field("name", .text(#"O'Brien, "the" \ one"#), heading: "who"),
      Field("count", .integer(3), heading: "count"),
      Field("time", 1.25, heading: "ms", decimals: 1),
      Field("samples", .numbers([1.5, .nan, 2])),
      Field("tokens", .integers([576, 288])),
      Field("where", .text("here"), .note(heading: "place")),
      Field("note", .none, .note(heading: "empty")),
    ]),
    TableRow([
      Field("name", .text("line\nbreak"), heading: "who"),
      Field("count", .none, heading: "count"),
      Field("time", Double?.none, heading: "ms", decimals: 1),
      Field("samples", .numbers([])),
      Field("tokens", .integers([])),
      Field("where", .text("here"), .note(heading: "place")),
      Field("note", .none, .note(heading: "empty")),
    ]),
  ]

  @Test func `markdown shows columns, and each note once`() {
    let table = TableFormat.md.rendered([records[0], records[0]], name: "t")
    #expect(
      table == """
        | who | count | ms |
        | --- | --- | --- |
        | O'Brien, "the" \\ one | 3 | 1.2 |
        | O'Brien, "the" \\ one | 3 | 1.2 |

        place: here

        """)
  }

  @Test func `CSV doubles quotation marks`() {
    let lines = TableFormat.csv.rendered([records[0]], name: "t").split(separator: "\n")
    #expect(lines[0] == #""name","count","time","samples","tokens","where","note""#)
    #expect(lines[1] == #""O'Brien, ""the"" \ one","3","1.25","[1.5, null, 2.0]","[576, 288]","here","""#)
  }

  @Test(arguments: [TableFormat.json, .jsonl])
  func `JSON reads back as it was`(format: TableFormat) throws {
    let text = format.rendered(records, name: "t")
    let objects: [Any] =
      format == .json
      ? try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [Any])
      : try text.split(separator: "\n").map { try JSONSerialization.jsonObject(with: Data($0.utf8)) }
    let rows = objects.compactMap { $0 as? [String: Any] }
    try #require(rows.count == 2)
    #expect(rows[0]["name"] as? String == #"O'Brien, "the" \ one"#)
    #expect(rows[0]["count"] as? Int == 3 && rows[0]["time"] as? Double == 1.25)
    let samples = try #require(rows[0]["samples"] as? [Any])
    #expect(samples[0] as? Double == 1.5 && samples[1] is NSNull && samples.count == 3)
    #expect(rows[0]["tokens"] as? [Int] == [576, 288])
    #expect(rows[1]["name"] as? String == "line\nbreak" && rows[1]["count"] is NSNull && rows[1]["time"] is NSNull)
  }

  @Test func `SQL makes a table with the types of its values, and a row for each record`() {
    let statements = TableFormat.sql.rendered(records, name: "bench")
    #expect(
      statements == """
        CREATE TABLE IF NOT EXISTS bench (
          "name" TEXT,
          "count" INTEGER,
          "time" REAL,
          "samples" TEXT,
          "tokens" TEXT,
          "where" TEXT,
          "note" TEXT
        );

        INSERT INTO bench ("name", "count", "time", "samples", "tokens", "where", "note") VALUES \
        ('O''Brien, "the" \\ one', 3, 1.25, '[1.5, null, 2.0]', '[576, 288]', 'here', NULL);
        INSERT INTO bench ("name", "count", "time", "samples", "tokens", "where", "note") VALUES \
        ('line
        break', NULL, NULL, '[]', '[]', 'here', NULL);

        """)
  }

  @Test func `a number that is none is left out`() {
    let field = Field("x", .nan, heading: "x", decimals: 1)
    #expect(field.value == .none)
    #expect(TableFormat.jsonl.rendered([TableRow([Field("x", .number(.infinity))])], name: "t") == "{\"x\": null}\n")
  }
}
