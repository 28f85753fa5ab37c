import Foundation
import Synchronization

/// The root of the package.
let packageRoot = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()

/// The text that an example prints.
final class PrintedText: Sendable {
  @TaskLocal static var current: PrintedText?

  private let text = Mutex("")

  var value: String { text.withLock { $0 } }

  func append(_ more: String) { text.withLock { $0 += more } }

  /// The text that `example` prints.
  static func of(_ example: () throws -> Void) rethrows -> String {
    let printed = PrintedText()
    try $current.withValue(printed) { try example() }
    return printed.value
  }
}

/// Hides Swift's `print` from the examples, and adds to the current `PrintedText` instead.
func print(_ items: Any..., separator: String = " ", terminator: String = "\n") {
  PrintedText.current?.append(items.map { "\($0)" }.joined(separator: separator) + terminator)
}

/// An example in the documentation.
struct DocumentedExample: CustomStringConvertible {
  /// File and line where it begins.
  var place: String
  var lines: [String]

  var description: String { place }

  /// The imported modules.
  var imports: [String] { lines.compactMap(Self.importedModule) }
  /// The lines of code, without imports and blank lines, and with single spaces.
  var code: [String] { lines.filter { Self.importedModule($0) == nil }.map(Self.normalized).filter { !$0.isEmpty } }

  static func importedModule(_ line: String) -> String? {
    let words = line.split(separator: " ")
    return words.count == 2 && words[0] == "import" ? String(words[1]) : nil
  }

  static func normalized(_ line: String) -> String {
    line.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }
}

extension DocumentedExample {
  /// The examples of all doc comments: blocks of Markdown that are fenced, or indented after an empty line.
  static func inDocComments() throws -> [DocumentedExample] {
    var examples: [DocumentedExample] = []
    for file in try files("swift", under: ["Sources", "Benchmarks"]) where !file.contains(".docc/") {
      var comment: [String] = []
      for (index, line) in (try lines(of: file) + [""]).enumerated() {
        let line = line.drop(while: \.isWhitespace)
        if line.hasPrefix("///") {
          comment.append(String(line.dropFirst(3)))
        } else if !comment.isEmpty {
          examples += blocks(comment, "\(file):\(index - comment.count + 1)")
          comment = []
        }
      }
    }
    return examples
  }

  /// The blocks of code in a comment, which follows the declaration's line in `place`.
  private static func blocks(_ comment: [String], _ place: String) -> [DocumentedExample] {
    var (blocks, block): ([DocumentedExample], [String]?) = ([], nil)
    var (isFenced, isAfterBlank, isInList) = (false, true, false)
    func end() {
      if let block, block.contains(where: { !$0.allSatisfy(\.isWhitespace) }) {
        blocks.append(DocumentedExample(place: place, lines: block))
      }
      block = nil
    }
    for line in comment {
      let text = line.drop(while: \.isWhitespace)
      if text.hasPrefix("```") {
        isFenced.toggle()
        end()
        if isFenced { block = [] }
      } else if isFenced || block != nil && (line.hasPrefix("     ") || text.isEmpty) {
        block?.append(line)
      } else if line.hasPrefix("     "), isAfterBlank, !isInList {
        block = [line]
      } else {
        end()
        if !text.isEmpty { isInList = text.hasPrefix("- ") || isInList && !isAfterBlank }
      }
      isAfterBlank = text.isEmpty
    }
    end()
    return blocks
  }

  /// The Swift blocks of a Markdown file, without package manifests.
  static func inMarkdown(_ file: String) throws -> [DocumentedExample] {
    var (examples, block): ([DocumentedExample], [String]?) = ([], nil)
    for (index, line) in try lines(of: file).enumerated() {
      if line == "```swift" {
        block = []
      } else if line == "```", let lines = block {
        if lines.first != "// Package.swift" {
          examples.append(DocumentedExample(place: "\(file):\(index - lines.count)", lines: lines))
        }
        block = nil
      } else {
        block?.append(line)
      }
    }
    return examples
  }

  /// The code of the tutorial's steps.
  static func inTutorial() throws -> [DocumentedExample] {
    try files("swift", under: ["Sources/PDrop/PDrop.docc"]).map {
      DocumentedExample(place: $0, lines: try lines(of: $0))
    }
  }

  /// Paths of the files with an extension, in order.
  static func files(_ pathExtension: String, under folders: [String]) throws -> [String] {
    try folders.flatMap { folder in
      try FileManager.default.subpathsOfDirectory(atPath: packageRoot.appending(path: folder).path)
        .filter { $0.hasSuffix("." + pathExtension) }.map { "\(folder)/\($0)" }
    }.sorted()
  }

  static func lines(of file: String) throws -> [String] {
    try String(contentsOf: packageRoot.appending(path: file), encoding: .utf8)
      .split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
  }
}
