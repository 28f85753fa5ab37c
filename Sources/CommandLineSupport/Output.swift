public import Foundation
import Storage

/// The destination of data: standard output or a file.
public struct Output {
  private let handle: FileHandle
  private let name: String

  /// Standard output.
  public init() { self.init(.standardOutput, "standard output") }

  /// A file, created or truncated; `-` for standard output.
  public init(path: String) throws(FileArgumentError) {
    guard path != "-" else {
      self.init()
      return
    }
    let manager = FileManager.default
    if !manager.fileExists(atPath: path) { _ = manager.createFile(atPath: path, contents: nil) }
    guard let handle = FileHandle(forWritingAtPath: path) else {
      throw FileArgumentError("\(path): cannot be written; check the path and its permissions")
    }
    let kind = try? manager.attributesOfItem(atPath: path)[.type] as? FileAttributeType
    if kind == .typeRegular {
      do { try handle.truncate(atOffset: 0) } catch { throw FileArgumentError("\(path): cannot be truncated") }
    }
    self.init(handle, path)
  }

  /// Writes a whole file: atomically if it is a regular file or does not exist; devices, pipes and the targets of links
  /// are written where they are. `-` is standard output.
  public static func write(_ data: Data, toFile path: String) throws(FileArgumentError) {
    do { try AtomicFile.write([UInt8](data), to: path) } catch { throw FileArgumentError(error.problem) }
  }

  /// Checks that an output file can be written, before the work that produces the output.
  ///
  /// - Parameter kept: Files of the run that the output must not replace.
  public static func checkWritable(_ path: String, keeping kept: [String] = []) throws(FileArgumentError) {
    if path == "-" { return }
    guard !kept.contains(where: { OpenFile.isSame(path, $0) }) else {
      throw FileArgumentError("\(path): is read or written by this run; give another path")
    }
    let manager = FileManager.default
    let target = URL(filePath: path).resolvingSymlinksInPath().path(percentEncoded: false)
    let kind = try? manager.attributesOfItem(atPath: target)[.type] as? FileAttributeType
    guard kind != .typeDirectory else { throw FileArgumentError("\(path): is a folder; give the path of a file") }
    let folder = URL(filePath: path).deletingLastPathComponent().path(percentEncoded: false)
    // A file is replaced in its folder; a device or the target of a link is written itself, and may yet be created.
    let isWritable =
      AtomicFile.isReplaceable(path)
      ? manager.isWritableFile(atPath: folder)
      : manager.isWritableFile(atPath: path) || !manager.fileExists(atPath: path)
    guard isWritable else {
      throw FileArgumentError("\(path): cannot be written; check the path and its permissions")
    }
  }

  private init(_ handle: FileHandle, _ name: String) { (self.handle, self.name) = (handle, name) }

  /// Writes all of the data.
  ///
  /// - Throws: `FileArgumentError` if the data cannot be written, as on a full disk.
  public func write(_ data: Data) throws(FileArgumentError) {
    do { try handle.write(contentsOf: data) } catch {
      throw FileArgumentError("\(name): cannot be written to; is the disk full?")
    }
  }

  /// Writes a text as UTF-8.
  public func write(_ text: String) throws(FileArgumentError) { try write(Data(text.utf8)) }
}

/// Log lines on stderr; stdout is reserved for data.
public enum Log {
  /// The maximum length of a line in Unicode scalars; names in a damaged file may have any length.
  private static let lengthLimit = 4000

  /// Writes the text as one line; lost if stderr is not writable.
  public static func write(_ line: String) {
    try? FileHandle.standardError.write(contentsOf: Data((oneLine(line) + "\n").utf8))
  }

  public static func error(_ message: String) { write("error: " + message) }

  /// Writes a warning from any thread; on a terminal it replaces the progress bar.
  public static func warning(_ message: String) {
    if isatty(STDERR_FILENO) != 0 { try? FileHandle.standardError.write(contentsOf: Data("\r\u{1B}[K".utf8)) }
    write("warning: " + message)
  }

  /// The text with escapes in place of line breaks, terminal controls and bidirectional controls.
  ///
  /// File names and file contents are untrusted input.
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

/// Single-line JSON output.
public enum JSONLine {
  /// The JSON line, including its newline.
  public static func encode(_ value: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(value) + Data("\n".utf8)
  }

  /// Writes the JSON line to standard output.
  public static func print(_ value: some Encodable) throws {
    try Output().write(encode(value))
  }
}

/// Text files named on the command line.
package enum TextFile {
  private static let byteLimit = 64 << 20

  /// The text of a file, without a byte order mark; `-` for standard input.
  ///
  /// - Throws: `FileArgumentError` if it cannot be read or is not UTF-8.
  package static func read(_ path: String) throws(FileArgumentError) -> String {
    let bytes: [UInt8]
    do throws(SystemError) {
      let file = path == "-" ? .standardInput : try OpenFile(reading: path)
      guard !file.isFolder else { throw .isFolder }
      bytes = try file.readAll(limit: byteLimit + 1)
    } catch {
      throw FileArgumentError(
        error.isNotFound ? "\(path): no such file; check the path" : "\(path): cannot be read (\(error.problem))")
    }
    guard bytes.count <= byteLimit else { throw FileArgumentError("\(path): is larger than \(byteLimit >> 20) MiB") }
    if let content = ForeignContent(firstBytes: bytes) { throw FileArgumentError("\(path): is \(content.problem)") }
    let isMarked = bytes.starts(with: [0xEF, 0xBB, 0xBF])
    guard let text = String(validating: isMarked ? bytes[3...] : bytes[...], as: UTF8.self) else {
      throw FileArgumentError("\(path): expected UTF-8 text")
    }
    return text
  }

  /// The question in a file; the line break at the end of the file is not part of it.
  ///
  /// - Throws: `FileArgumentError`.
  package static func readQuestion(_ path: String) throws(FileArgumentError) -> String {
    let text = try read(path)
    // A carriage return and a line feed are one character.
    return text.last == "\n" || text.last == "\r\n" ? String(text.dropLast()) : text
  }
}
