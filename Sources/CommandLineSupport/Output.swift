public import Foundation

/// Where data goes: standard output, or a file.
public struct Output {
  private let handle: FileHandle
  private let name: String

  /// Standard output.
  public init() { self.init(.standardOutput, "standard output") }

  /// A file, emptied if it is there already; `-` for standard output.
  public init(path: String) throws(FileArgumentError) {
    guard path != "-" else {
      self.init()
      return
    }
    let manager = FileManager.default
    if !manager.fileExists(atPath: path) { _ = manager.createFile(atPath: path, contents: nil) }
    guard let handle = FileHandle(forWritingAtPath: path) else {
      throw FileArgumentError("\(path): cannot be written; is it a file in a folder of yours?")
    }
    let kind = try? manager.attributesOfItem(atPath: path)[.type] as? FileAttributeType
    if kind == .typeRegular {
      do { try handle.truncate(atOffset: 0) } catch { throw FileArgumentError("\(path): cannot be emptied") }
    }
    self.init(handle, path)
  }

  /// Checks that a file can be made, or made anew, before the work whose result it is to hold.
  public static func checkFolder(of path: String) throws(FileArgumentError) {
    let folder = URL(filePath: path).deletingLastPathComponent().path(percentEncoded: false)
    guard FileManager.default.isWritableFile(atPath: folder) else {
      throw FileArgumentError("\(path): cannot be written; is it a file in a folder of yours?")
    }
  }

  private init(_ handle: FileHandle, _ name: String) { (self.handle, self.name) = (handle, name) }

  /// Writes all of the data.
  ///
  /// - Throws: `FileArgumentError` when it cannot be written, as on a full disk.
  public func write(_ data: Data) throws(FileArgumentError) {
    do { try handle.write(contentsOf: data) } catch {
      throw FileArgumentError("\(name): cannot be written to; is there room on the disk?")
    }
  }

  /// Writes a text in UTF-8.
  public func write(_ text: String) throws(FileArgumentError) { try write(Data(text.utf8)) }
}

/// Lines for people, on stderr; stdout is for data.
public enum Log {
  /// The longest line written, in characters of Unicode; a damaged file's names may have any length.
  private static let lengthLimit = 4000

  /// Writes one line, whatever the text holds; where stderr takes none, it is lost.
  public static func write(_ line: String) {
    try? FileHandle.standardError.write(contentsOf: Data((oneLine(line) + "\n").utf8))
  }

  public static func error(_ message: String) { write("error: " + message) }

  /// A warning that may come at any time, from any thread; on a terminal it takes the place of a line that shows progress.
  public static func warning(_ message: String) {
    if isatty(STDERR_FILENO) != 0 { try? FileHandle.standardError.write(contentsOf: Data("\r\u{1B}[K".utf8)) }
    write("warning: " + message)
  }

  /// The text with whatever breaks lines, steers terminals or turns the writing direction spelled as an escape, since file
  /// names and contents of files come from others.
  public static func oneLine(_ text: String) -> String {
    var line = ""
    for scalar in text.unicodeScalars.prefix(lengthLimit) {
      let category = scalar.properties.generalCategory
      let isPlain = category != .control && category != .lineSeparator && category != .paragraphSeparator
      if isPlain, !scalar.properties.isBidiControl {
        line.unicodeScalars.append(scalar)
      } else {
        line += scalar.escaped(asASCII: true)
      }
    }
    return text.unicodeScalars.count > lengthLimit ? line + " …" : line
  }
}

/// Values as single lines of JSON.
public enum JSONLine {
  /// The line, newline included.
  public static func encode(_ value: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(value) + Data("\n".utf8)
  }

  /// Writes the line to standard output.
  public static func print(_ value: some Encodable) throws {
    try Output().write(encode(value))
  }
}

/// Text that a user names by its file.
package enum TextFile {
  /// The text of a file, or of standard input for `-`.
  package static func read(_ path: String) throws(FileArgumentError) -> String {
    let data: Data
    if path == "-" {
      data = FileHandle.standardInput.readDataToEndOfFile()
    } else {
      do { data = try Data(contentsOf: URL(filePath: path)) } catch {
        throw FileArgumentError("\(path): the file cannot be read; does it exist?")
      }
    }
    guard let text = String(data: data, encoding: .utf8) else {
      throw FileArgumentError("\(path): expected UTF-8 text")
    }
    return text
  }
}
