import Evaluation
import TestSupport
import Testing

@Suite struct TSVReaderTests {
  private func rows(_ text: String, _ columns: [String]) throws -> [[String?]] {
    let folder = try TemporaryFolder()
    var table = try TSVReader(folder.write("t.tsv", text), required: columns)
    var rows: [[String?]] = []
    while let (row, _) = try table.next() { rows.append(columns.map { row[$0] }) }
    return rows
  }

  @Test func `reads fields in the format of pandas`() throws {
    let text = "\u{FEFF}a\tb\r\n1\t\"two\twords\nand \"\"more\"\"\"\r\n\nnan\tx\"y\n\"\"\tlast"
    #expect(try rows(text, ["a", "b"]) == [["1", "two\twords\nand \"more\""], [nil, "x\"y"], [nil, "last"]])
    #expect(try rows("a\n", ["a"]).isEmpty)
  }

  @Test func `reads fields longer than the buffer`() throws {
    let long = String(repeating: "x", count: 3_000_000)
    #expect(try rows("a\tb\n\(long)\t1\n2\t\(long)", ["a", "b"]) == [[long, "1"], ["2", long]])
  }

  @Test(arguments: [
    ("a\tc\n", "line 1: expected a column 'b'"), ("a\tb\n1\n", "line 2: expected 2 fields, found 1"),
    ("a\tb\n1\t2\n1\t2\t3\n", "line 3: expected 2 fields, found 3"), ("a\tb\n\"1\n\t2", "line 2: a quoted field"),
    ("", "empty"),
  ])
  func `reports the line of an error`(text: String, words: String) throws {
    let error = try #require(throws: DataError.self) { try rows(text, ["a", "b"]) }
    #expect("\(error)".contains("t.tsv") && "\(error)".contains(words), "\(error)")
  }

  @Test(arguments: [
    ("a\tb\n1\tcaf\u{E9}\n", #"line 2: "b": expected UTF-8"#), ("a\tb\u{E9}\n", "line 1: column 2: expected UTF-8"),
    ("a\tb\u{1}\n1\tcaf\u{E9}\n", #"line 2: "b\u{01}": expected UTF-8"#),
  ])
  func `refuses Latin-1`(text: String, words: String) throws {
    let folder = try TemporaryFolder()
    let path = try folder.write("t.tsv", text.unicodeScalars.map { UInt8($0.value) })
    let error = try #require(throws: DataError.self) {
      var table = try TSVReader(path, required: ["a"])
      _ = try table.next()
    }
    #expect("\(error)".contains(words), "\(error)")
  }

  @Test func `parses Python lists of strings`() {
    let lists: [(text: String, strings: [String]?)] = [
      ("['a', \"it's\"]", ["a", "it's"]), (" [ 'a\\'b' , ] ", ["a'b"]), ("[]", []), ("[1, 2.50]", ["1", "2.5"]),
      ("['a'", nil),
      ("['a' 'b']", ["ab"]), ("[Yes, No]", nil), ("['a", nil), ("['a\\", nil), ("plain", nil), ("['a'] b", nil),
    ]
    for (text, strings) in lists { #expect(PythonList.strings(text) == strings, "\(text)") }
  }
}
