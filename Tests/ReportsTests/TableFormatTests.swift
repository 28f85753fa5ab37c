import Foundation
import Reports
import Testing

@Suite struct TableFormatTests {
  private let rows = [
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

  @Test func `Markdown shows columns, and each note once`() {
    let table = TableFormat.md.rendered([rows[0], rows[0]], name: "t")
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
    let lines = TableFormat.csv.rendered([rows[0]], name: "t").split(separator: "\n")
    #expect(lines[0] == #""name","count","time","samples","tokens","where","note""#)
    #expect(lines[1] == #""O'Brien, ""the"" \ one","3","1.25","[1.5, null, 2.0]","[576, 288]","here","""#)
  }

  @Test(arguments: [TableFormat.json, .jsonl])
  func `JSON round-trips all values`(format: TableFormat) throws {
    let text = format.rendered(rows, name: "t")
    let objects: [Any] =
      format == .json
      ? try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [Any])
      : try text.split(separator: "\n").map { try JSONSerialization.jsonObject(with: Data($0.utf8)) }
    let read = objects.compactMap { $0 as? [String: Any] }
    try #require(read.count == 2)
    #expect(read[0]["name"] as? String == #"O'Brien, "the" \ one"#)
    #expect(read[0]["count"] as? Int == 3 && read[0]["time"] as? Double == 1.25)
    let samples = try #require(read[0]["samples"] as? [Any])
    #expect(samples[0] as? Double == 1.5 && samples[1] is NSNull && samples.count == 3)
    #expect(read[0]["tokens"] as? [Int] == [576, 288])
    #expect(read[1]["name"] as? String == "line\nbreak" && read[1]["count"] is NSNull && read[1]["time"] is NSNull)
  }

  @Test func `SQL creates a table with the types of its values and inserts each row`() {
    let statements = TableFormat.sql.rendered(rows, name: "bench")
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

  @Test func `a number that is not finite is null`() {
    let field = Field("x", .nan, heading: "x", decimals: 1)
    #expect(field.value == .none)
    #expect(TableFormat.jsonl.rendered([TableRow([Field("x", .number(.infinity))])], name: "t") == "{\"x\": null}\n")
  }
}
