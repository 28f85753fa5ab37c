/// Operations of Python's `str` and `float`, on which the results of published scorers depend.
///
/// They work on Unicode scalars, as Python does: in a `Character`, a letter and the marks that follow it are one.
enum PythonText {
  /// The text without surrounding white space, as `str.strip()`.
  static func stripped(_ text: String) -> String { string(stripped(Array(text.unicodeScalars))) }

  static func stripped(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    guard let first = text.firstIndex(where: { !isSpace($0) }), let last = text.lastIndex(where: { !isSpace($0) })
    else { return [] }
    return Array(text[first...last])
  }

  /// The words between white space, as `str.split()`.
  static func words(_ text: some Sequence<Unicode.Scalar>) -> [String] {
    Array(text).split(whereSeparator: isSpace).map(string)
  }

  /// The lines of a text, as `str.split("\n")`; unlike for a `Character`, a line feed after a return counts.
  static func lines(_ text: String) -> [String] {
    text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).map(string)
  }

  /// White space as `str.isspace()`: Unicode's, and the four separators of ASCII.
  static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
    scalar.properties.isWhitespace || ("\u{1C}"..."\u{1F}").contains(scalar)
  }

  static func string(_ scalars: some Sequence<Unicode.Scalar>) -> String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars)
    return String(view)
  }

  /// The number in a text, as `float()`; `nil` where that raises an error.
  ///
  /// White space around the number and single underscores between digits are allowed, and the words `inf`, `infinity`
  /// and `nan`; hexadecimal numbers are not.
  static func float(_ text: String) -> Double? {
    var digits: [Unicode.Scalar] = []
    for scalar in stripped(Array(text.unicodeScalars)) {
      guard scalar.properties.generalCategory == .decimalNumber, let value = scalar.properties.numericValue else {
        digits.append(scalar)
        continue
      }
      digits += "\(Int(value))".unicodeScalars
    }
    let number = string(digits).lowercased()
    guard number.unicodeScalars.allSatisfy(\.isASCII) else { return nil }
    let unsigned = number.first == "-" || number.first == "+" ? String(number.dropFirst()) : number
    if ["inf", "infinity", "nan"].contains(unsigned) { return Double(number) }
    guard unsigned.wholeMatch(of: /(\d(_?\d)*)?(\.(\d(_?\d)*)?)?(e[+-]?\d(_?\d)*)?/) != nil,
      unsigned.prefix(while: { $0 != "e" }).contains(where: \.isNumber)
    else { return nil }
    return Double(number.filter { $0 != "_" })
  }
}
