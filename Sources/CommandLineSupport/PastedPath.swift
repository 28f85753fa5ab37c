import Foundation

/// A path as people type it or terminals paste it, with quotes and backslashes of a shell.
package enum PastedPath {
  /// The path that a text names.
  ///
  /// A text that is the path of a file is that path. Any other one is read like a word of a shell, in which blanks
  /// without quotes or backslashes are kept: `'my pic.png'`, `"my pic.png"`, `my\ pic.png` and `my pic.png` are the same.
  /// `~` at the beginning is the home folder. URLs are unquoted only.
  ///
  /// - Parameter exists: Whether a path is that of a file.
  package static func path(_ text: String, exists: (String) -> Bool) -> String {
    let text = text.trimmingCharacters(in: .whitespacesAndNewlines)
    let plain = expanded(text)
    if exists(plain) { return plain }
    let unquoted = unquoted(text)
    // A shell expands a tilde only outside of quotes, but terminals paste none inside of them.
    return unquoted.isEmpty ? text : expanded(unquoted)
  }

  private static func expanded(_ path: String) -> String {
    path.hasPrefix("~") ? (path as NSString).expandingTildeInPath : path
  }

  /// The text without the quotes and backslashes of a shell; unchanged if a quotation has no end.
  private static func unquoted(_ text: String) -> String {
    var result = ""
    var quote: Unicode.Scalar?
    var scalars = text.unicodeScalars.makeIterator()
    while let scalar = scalars.next() {
      switch (scalar, quote) {
      case ("'", nil), ("\"", nil): quote = scalar
      case ("'", "'"), ("\"", "\""): quote = nil
      case ("\\", nil):
        guard let next = scalars.next() else { return text }
        result.unicodeScalars.append(next)
      case ("\\", "\""):
        guard let next = scalars.next() else { return text }
        // In double quotes a backslash is one, except before these.
        if !"\"\\$`".unicodeScalars.contains(next) { result.unicodeScalars.append(scalar) }
        result.unicodeScalars.append(next)
      default: result.unicodeScalars.append(scalar)
      }
    }
    return quote == nil ? result : text
  }
}
