import Foundation
import PDrop
package import Storage

/// The result of polling a source.
package enum Poll<Value> {
  case ready(Value)
  /// Nothing is available yet.
  case pending
  case finished
}

extension Poll: Sendable where Value: Sendable {}

/// A line of a file or pipe.
package struct Line: Sendable {
  /// Number of the line, from the reader's `firstNumber`.
  package var number: Int
  /// Bytes of the line without its line feed; empty if the line is too long.
  package var bytes: [UInt8]
  /// Length of the line without its line feed.
  package var byteCount: Int
  /// Offset of the line in the file.
  package var offset: Int
  /// Whether the line ends in a line feed; only the last line may lack one.
  package var isComplete: Bool

  package var isTooLong: Bool { bytes.count < byteCount }
  /// Whether the line consists of white space.
  package var isBlank: Bool { !isTooLong && bytes.allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D } }
}

/// A reader of lines, in memory for one line, that returns each line as soon as it is complete.
package struct LineReader {
  /// Maximum length of a line in bytes.
  package static let lengthLimit = 64 << 20

  private let file: OpenFile
  private let lengthLimit: Int
  private let isStopped: () -> Bool
  private var chunk = [UInt8](repeating: 0, count: 1 << 16)
  /// Range of the chunk that is not searched yet.
  private var unread = 0..<0
  private var isAtEnd = false
  /// The current, incomplete line.
  private var line: Line

  /// - Parameters:
  ///   - firstNumber: Number of the first line.
  ///   - lengthLimit: Maximum length of a line in bytes; the bytes of longer lines are discarded.
  ///   - isStopped: Whether to stop waiting for input.
  package init(
    _ file: OpenFile, firstNumber: Int = 1, lengthLimit: Int = Self.lengthLimit,
    isStopped: @escaping () -> Bool = { false }
  ) {
    self.file = file
    line = Line(number: firstNumber, bytes: [], byteCount: 0, offset: 0, isComplete: false)
    self.lengthLimit = lengthLimit
    self.isStopped = isStopped
  }

  /// The next line.
  ///
  /// - Parameter waits: Whether to wait until there is one; a stopped reader does not wait.
  package mutating func next(waits: Bool = true) throws(SystemError) -> Poll<Line> {
    while true {
      if let feed = chunk[unread].firstIndex(of: UInt8(ascii: "\n")) {
        append(unread.lowerBound..<feed)
        unread = feed + 1..<unread.upperBound
        line.isComplete = true
        return .ready(takeLine())
      }
      append(unread)
      unread = 0..<0
      guard !isAtEnd else { return line.byteCount > 0 ? .ready(takeLine()) : .finished }
      guard waitForMore(waits: waits) else { return .pending }
      unread = 0..<(try file.read(into: &chunk))
      isAtEnd = unread.isEmpty
    }
  }

  /// Appends bytes of the chunk to the line.
  private mutating func append(_ range: Range<Int>) {
    line.byteCount += range.count
    if line.byteCount <= lengthLimit { line.bytes += chunk[range] } else { line.bytes = [] }
  }

  private mutating func takeLine() -> Line {
    defer {
      let end = line.offset + line.byteCount + 1
      line = Line(number: line.number + 1, bytes: [], byteCount: 0, offset: end, isComplete: false)
    }
    return line
  }

  /// Whether the file has more bytes or is at its end.
  private func waitForMore(waits: Bool) -> Bool {
    guard waits else { return file.isReadable(withinMilliseconds: 0) }
    while !isStopped() {
      if file.isReadable(withinMilliseconds: 200) { return true }
    }
    return false
  }
}

/// The records of a file or pipe with a JSON object on each line; blank lines are ignored.
struct QuestionLines: RecordSource {
  private let name: String
  private let parser: RecordParser
  private let members: BatchShard.Members
  private var lines: LineReader
  /// Format of lines whose fields do not determine it.
  private var family: RecordFamily?
  private var ordinal = 0
  private let byteCount: Int?
  private var bytesRead = 0

  /// - Parameters:
  ///   - path: Path of the file, which is opened again to find its format and, if the shard requires it, to count its
  ///     lines.
  ///   - firstLine: Number of the first line, for a part of a longer file.
  ///   - isStopped: Whether to stop waiting for a line.
  init(
    _ file: OpenFile, path: String, firstLine: Int, parser: RecordParser, shard: BatchShard,
    isStopped: @escaping () -> Bool
  ) throws(BatchError) {
    name = path == "-" ? "standard input" : path
    self.parser = parser
    members = try shard.members { () throws(BatchError) in
      guard path != "-", file.isRegular else {
        throw .unreadable(path: path, reason: "a chunk requires a regular file, whose lines can be counted")
      }
      return try Self.recordCount(path)
    }
    lines = LineReader(file, firstNumber: firstLine, isStopped: isStopped)
    byteCount = file.isRegular ? file.size : nil
    if path != "-", file.isRegular { family = try Self.firstFamily(path) }
  }

  var fractionRead: Double? { byteCount.map { $0 == 0 ? 1 : min(1, Double(bytesRead) / Double($0)) } }

  mutating func next(waits: Bool) throws(BatchError) -> Poll<ParsedRecord> {
    while true {
      let line: Line
      switch try nextLine(waits: waits) {
      case .ready(let next): line = next
      case .pending: return .pending
      case .finished: return .finished
      }
      bytesRead = line.offset + line.byteCount + 1
      if line.isBlank { continue }
      ordinal += 1
      let isOurs = members.contains(ordinal)
      // Lines of other shards are parsed only until the format is known.
      if !isOurs, family != nil { continue }
      let record = parser.record(line, orElse: family ?? .llava)
      if family == nil { family = RecordParser.family(of: line) }
      if isOurs { return .ready(record) }
    }
  }

  private mutating func nextLine(waits: Bool) throws(BatchError) -> Poll<Line> {
    do { return try lines.next(waits: waits) } catch { throw .unreadable(path: name, reason: "\(error)") }
  }

  private static func firstFamily(_ path: String) throws(BatchError) -> RecordFamily? {
    try scan(path) { lines throws(SystemError) in
      while case .ready(let line) = try lines.next() {
        if let family = RecordParser.family(of: line) { return family }
      }
      return nil
    }
  }

  private static func recordCount(_ path: String) throws(BatchError) -> Int {
    try scan(path) { lines throws(SystemError) in
      var count = 0
      while case .ready(let line) = try lines.next() {
        if !line.isBlank { count += 1 }
      }
      return count
    }
  }

  /// The result of a separate pass over the lines of a file.
  private static func scan<Value>(
    _ path: String, _ body: (inout LineReader) throws(SystemError) -> Value
  ) throws(BatchError) -> Value {
    do throws(SystemError) {
      var lines = LineReader(try OpenFile(reading: path))
      return try body(&lines)
    } catch {
      throw .unreadable(path: path, reason: "\(error)")
    }
  }
}

/// One question about every image of a folder and its subfolders, in the order of their paths.
///
/// Files without an image extension are ignored, as are hidden files and links to folders. The names of one folder and
/// of the folders around it are in memory.
struct ImageFolder: RecordSource {
  /// Extensions of image files: supported formats, and others, which result in an error record.
  fileprivate static let extensions: Set<String> = [
    "jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif",
    "jxl", "jp2",
  ]

  private let base: Request
  private let question: String
  private let members: BatchShard.Members
  private let count: Int
  private var walk: FolderWalk
  private var number = 0

  /// - Parameter base: The request without its image.
  init(_ path: String, asking question: String, base: Request, shard: BatchShard) throws(BatchError) {
    self.base = base
    self.question = question
    walk = try FolderWalk(path, extensions: Self.extensions)
    var walk = walk
    var count = 0
    while try walk.next() != nil { count += 1 }
    self.count = count
    members = shard.members { count }
  }

  var fractionRead: Double? { count == 0 ? 1 : min(1, Double(number) / Double(count)) }

  mutating func next(waits: Bool) throws(BatchError) -> Poll<ParsedRecord> {
    while let path = try walk.next() {
      number += 1
      guard members.contains(number) else { continue }
      let record = BatchRecord(family: .llava, number: number, identifier: .text(path), question: question)
      var request = base
      request.images = [.file(walk.root + "/" + path)]
      return .ready(ParsedRecord(record: record, request: .success(request)))
    }
    return .finished
  }
}

extension VisionLanguageModel {
  /// The paths of all images in a folder and its subfolders, relative to it and in order.
  ///
  /// - Throws: `BatchError` for a folder that cannot be read.
  package static func images(inFolder path: String) throws(BatchError) -> [String] {
    var walk = try FolderWalk(path, extensions: ImageFolder.extensions)
    var paths: [String] = []
    while let path = try walk.next() { paths.append(path) }
    return paths
  }
}

/// A traversal of a folder and its subfolders.
private struct FolderWalk {
  let root: String
  private let extensions: Set<String>
  /// Entries to visit in the current folder and in those around it, the next one last.
  private var pending: [[String]]

  init(_ root: String, extensions: Set<String>) throws(BatchError) {
    (self.root, self.extensions) = (root, extensions)
    pending = []
    pending = [try entries(below: "")]
  }

  /// The next file's path below the root.
  mutating func next() throws(BatchError) -> String? {
    while !pending.isEmpty {
      guard let path = pending[pending.count - 1].popLast() else {
        pending.removeLast()
        continue
      }
      if path.hasSuffix("/") {
        pending.append(try entries(below: path))
      } else {
        return path
      }
    }
    return nil
  }

  /// The images and folders in a folder, in reverse order; folders end in `/`.
  private func entries(below folder: String) throws(BatchError) -> [String] {
    let manager = FileManager.default
    let path = root + "/" + folder
    let names: [String]
    do { names = try manager.contentsOfDirectory(atPath: path) } catch {
      throw .unreadable(path: path, reason: "is it a folder?")
    }
    let entries = names.filter { !$0.hasPrefix(".") }.compactMap { name -> String? in
      if extensions.contains((name as NSString).pathExtension.lowercased()) { return folder + name }
      let kind = try? manager.attributesOfItem(atPath: path + "/" + name)[.type] as? FileAttributeType
      return kind == .typeDirectory ? folder + name + "/" : nil
    }
    return entries.sorted { $1.utf8.lexicographicallyPrecedes($0.utf8) }
  }
}
