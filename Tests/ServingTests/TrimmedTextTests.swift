import Foundation
import TestSupport
import Testing

@testable import Serving

@Suite struct TrimmedTextTests {
  @Test(arguments: ["", " ", "a", " a ", "\n\ta b\u{A0} c \n", "  \n ", "a\n\n", "ünïcödé \u{2003}x"])
  func `parts of any length give the trimmed text`(text: String) {
    let expected = text.trimmingCharacters(in: .whitespacesAndNewlines)
    let scalars = Array(text.unicodeScalars)
    for length in 1...3 {
      var trimmed = TrimmedText()
      var sent = ""
      for start in stride(from: 0, to: scalars.count, by: length) {
        var part = String.UnicodeScalarView()
        part.append(contentsOf: scalars[start..<min(start + length, scalars.count)])
        let new = trimmed.push(String(part))
        #expect(new.last?.isWhitespace != true, "white space is sent before the text after it")
        sent += new
      }
      #expect(sent == expected)
    }
  }
}
