import Foundation
import Mustache

/// The templates in the folder `Templates`, which are embedded in the program.
enum Templates {
  /// The syntax that the values of a template are escaped for.
  private enum Kind: String {
    case markup = "MARKUP"
    case markdown = "MARKDOWN"
  }

  private static let files: [(name: String, bytes: [UInt8], kind: Kind)] = [
    ("page", PackageResources.page_mustache, .markup),
    ("style", PackageResources.style_mustache, .markup),
    ("table", PackageResources.table_mustache, .markup),
    ("plot", PackageResources.plot_mustache, .markup),
    ("bars", PackageResources.bars_mustache, .markup),
    ("keptmap", PackageResources.keptmap_mustache, .markup),
    ("panel", PackageResources.panel_mustache, .markup),
    ("drawing", PackageResources.drawing_mustache, .markup),
    ("markdown", PackageResources.markdown_mustache, .markdown),
  ]

  private static let library: MustacheLibrary = {
    MustacheContentTypes.register(MarkupEscape(), named: Kind.markup.rawValue)
    MustacheContentTypes.register(MarkdownEscape(), named: Kind.markdown.rawValue)
    var library = MustacheLibrary()
    for (name, bytes, kind) in files {
      // A partial does not inherit the content type of its parent, so each template declares its own.
      let text = "{{% CONTENT_TYPE:\(kind.rawValue)}}" + String(decoding: bytes, as: UTF8.self)
      do { try library.register(text, named: name) } catch {
        preconditionFailure("template \(name) is invalid: \(error)")
      }
    }
    return library
  }()

  /// The text of a template with its values filled in.
  static func render(_ name: String, _ context: Context) -> String {
    guard let text = library.render(context, withTemplate: name) else {
      preconditionFailure("template \(name) is missing")
    }
    return text
  }
}

/// Escaping for HTML and SVG, in elements and in quoted attributes.
///
/// Works on Unicode scalars: a quote followed by a combining mark is one character, but it still ends an attribute.
/// Scalars that XML forbids become replacement characters.
struct MarkupEscape: MustacheContentType {
  func escapeText(_ text: String) -> String {
    var escaped = ""
    escaped.reserveCapacity(text.utf8.count)
    for scalar in text.unicodeScalars {
      switch scalar {
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "&": escaped += "&amp;"
      case "\"": escaped += "&quot;"
      case "'": escaped += "&#39;"
      case "\t", "\n", "\r": escaped.unicodeScalars.append(scalar)
      case _ where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || scalar.value & 0xFFFE == 0xFFFE:
        escaped += "\u{FFFD}"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }
}

/// Escaping for paragraphs and table cells of Markdown: one line, with all markup characters literal.
struct MarkdownEscape: MustacheContentType {
  private static let markupCharacters: Set<Unicode.Scalar> = [
    "\\", "|", "*", "_", "`", "<", ">", "[", "]", "#", "~", "&",
  ]

  func escapeText(_ text: String) -> String {
    var escaped = ""
    for scalar in text.unicodeScalars {
      if Self.markupCharacters.contains(scalar) { escaped += "\\" }
      if scalar.properties.generalCategory == .control || scalar.value == 0x2028 || scalar.value == 0x2029 {
        escaped += " "
      } else {
        escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }
}
