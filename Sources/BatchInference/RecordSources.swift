import Foundation
import PDrop
package import Storage

/// What a source that may have to wait has to give.
package enum Poll<Value> {
  case ready(Value)
  /// Nothing is there at the moment.
  case pending
  case finished
}

extension Poll: Sendable where Value: Sendable {}

/// A line of a file or pipe.
package struct Line: Sendable {
  /// Counted from 1, unless the reader is told otherwise.
  package var number: Int
  /// Without the line feed; of a line that is too long, nothing.
  package var bytes: [UInt8]
  /// How long the line is, without its line feed.
  package var byteCount: Int
  /// Where the line begins in the file.
  package var offset: Int
  /// Whether a line feed ends it; only the last line may lack one.
  package var isComplete: Bool

  package var isTooLong: Bool { bytes.count < byteCount }
  /// Whether nothing but white space is on it.
  package var isBlank: Bool { !isTooLong && bytes.allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D } }
}

/// Reads line by line, in memory for one line, and gives a line as soon as its end has come.
package struct LineReader {
  /// The longest line that is kept, in bytes.
  package static let lengthLimit = 64 << 20

  private let file: OpenFile
  private let lengthLimit: Int
  private let isStopped: () -> Bool
  private var chunk = [UInt8](repeating: 0, count: 1 << 16)
  /// What of the chunk has not been looked at.
  private var unread = 0..<0
  private var isAtEnd = false
  /// The line that is being put together.
  private var line: Line

  /// - Parameters:
  ///   - firstNumber: The first line's number.
  ///   - isStopped: Whether waiting for more is to end.
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
  /// - Parameter waits: Whether to wait until there is one; even so there is none yet when the reader is stopped.
  package mutating func next(waits: Bool = true) throws(SystemError) -> Poll<Line> {
    while true {
      if let feed = chunk[unread].firstIndex(of: UInt8(ascii: "\n")) {
        keep(unread.lowerBound..<feed)
        unread = feed + 1..<unread.upperBound
        line.isComplete = true
        return .ready(takeLine())
      }
      keep(unread)
      unread = 0..<0
      guard !isAtEnd else { return line.byteCount > 0 ? .ready(takeLine()) : .finished }
      guard waitForMore(waits: waits) else { return .pending }
      unread = 0..<(try file.read(into: &chunk))
      isAtEnd = unread.isEmpty
    }
  }

  /// Adds bytes of the chunk to the line.
  private mutating func keep(_ range: Range<Int>) {
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

  /// Whether there is more to read, or the end to be seen.
  private func waitForMore(waits: Bool) -> Bool {
    guard waits else { return file.isReadable(withinMilliseconds: 0) }
    while !isStopped() {
      if file.isReadable(withinMilliseconds: 200) { return true }
    }
    return false
  }
}

/// The records of a file or pipe with a JSON object on each line; blank lines are none.
struct QuestionLines: RecordSource {
  private let name: String
  private let parser: RecordParser
  private let members: BatchShard.Members
  private var lines: LineReader
  /// Of lines that do not tell theirs.
  private var family: RecordFamily?
  private var ordinal = 0
  private let byteCount: Int?
  private var bytesRead = 0

  /// - Parameters:
  ///   - path: The file, which is opened again to find its first line that tells its family, and to count its lines where the
  ///     shard asks for that.
  ///   - firstLine: The number of its first line, for a piece of a longer file.
  ///   - isStopped: Whether waiting for a line is to end.
  init(
    _ file: OpenFile, path: String, firstLine: Int, parser: RecordParser, shard: BatchShard,
    isStopped: @escaping () -> Bool
  ) throws(BatchError) {
    name = path == "-" ? "standard input" : path
    self.parser = parser
    members = try shard.members { () throws(BatchError) in
      guard path != "-", file.isRegular else {
        throw .unreadable(path: path, reason: "its lines are counted before any is answered, which takes a file")
      }
      return try Self.recordCount(path)
    }
    lines = LineReader(file, firstNumber: firstLine, isStopped: isStopped)
    byteCount = file.isRegular ? file.size : nil
    if path != "-", file.isRegular { family = try Self.firstFamily(path) }
  }

  var share: Double? { byteCount.map { $0 == 0 ? 1 : min(1, Double(bytesRead) / Double($0)) } }

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
      // Only until the family is known need the other shards' lines be understood.
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
    try reading(path) { lines throws(SystemError) in
      while case .ready(let line) = try lines.next() {
        if let family = RecordParser.family(of: line) { return family }
      }
      return nil
    }
  }

  private static func recordCount(_ path: String) throws(BatchError) -> Int {
    try reading(path) { lines throws(SystemError) in
      var count = 0
      while case .ready(let line) = try lines.next() {
        if !line.isBlank { count += 1 }
      }
      return count
    }
  }

  /// What there is to be found in the lines of a file before it is read line by line.
  private static func reading<Value>(
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

/// A question about every image of a folder and the folders in it, in the order of their paths.
///
/// What the name does not call an image is left out, as are hidden files and links to folders. Names are held in memory
/// for one folder at a time, and for those that it is in.
struct ImageFolder: RecordSource {
  /// What names end with that are taken for images: formats that are read, and others, which get an error record so
  /// that no image is lost without a word.
  fileprivate static let endings: Set<String> = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif", "jxl", "jp2",
  ]

  private let base: Request
  private let question: String
  private let members: BatchShard.Members
  private let count: Int
  private var walk: FolderWalk
  private var number = 0

  /// - Parameter base: The request for an image, but for the image.
  init(_ path: String, asking question: String, base: Request, shard: BatchShard) throws(BatchError) {
    self.base = base
    self.question = question
    walk = try FolderWalk(path, endings: Self.endings)
    var walk = walk
    var count = 0
    while try walk.next() != nil { count += 1 }
    self.count = count
    members = shard.members { count }
  }

  var share: Double? { count == 0 ? 1 : min(1, Double(number) / Double(count)) }

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
  /// The paths of all images in a folder and the folders in it, relative to it and in order.
  ///
  /// - Throws: `BatchError` for a folder that cannot be read.
  package static func images(inFolder path: String) throws(BatchError) -> [String] {
    var walk = try FolderWalk(path, endings: ImageFolder.endings)
    var paths: [String] = []
    while let path = try walk.next() { paths.append(path) }
    return paths
  }
}

/// Goes through a folder and the folders in it.
private struct FolderWalk {
  let root: String
  private let endings: Set<String>
  /// What is still to be visited in the folder that was entered last, and in those around it; the next one is last.
  private var pending: [[String]]

  init(_ root: String, endings: Set<String>) throws(BatchError) {
    (self.root, self.endings) = (root, endings)
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

  /// The images and folders in a folder, last first, folders with a `/` at their end.
  private func entries(below folder: String) throws(BatchError) -> [String] {
    let manager = FileManager.default
    let path = root + "/" + folder
    let names: [String]
    do { names = try manager.contentsOfDirectory(atPath: path) } catch {
      throw .unreadable(path: path, reason: "is it a folder?")
    }
    let entries = names.filter { !$0.hasPrefix(".") }.compactMap { name -> String? in
      if endings.contains((name as NSString).pathExtension.lowercased()) { return folder + name }
      let kind = try? manager.attributesOfItem(atPath: path + "/" + name)[.type] as? FileAttributeType
      return kind == .typeDirectory ? folder + name + "/" : nil
    }
    return entries.sorted { $1.utf8.lexicographicallyPrecedes($0.utf8) }
  }
}
