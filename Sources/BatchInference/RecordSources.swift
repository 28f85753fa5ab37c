import Foundation
import ImageProcessing
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
  /// The first bytes of a line that is too long, otherwise empty.
  package var beginning: [UInt8] = []
  /// Length of the line without its line feed.
  package var byteCount: Int
  /// Offset of the line in the file.
  package var offset: Int
  /// Whether the line ends in a line feed; only the last line may lack one.
  package var isComplete: Bool

  package var isTooLong: Bool { bytes.count < byteCount }
  /// The beginning of some UTF-8 files, U+FEFF.
  static let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]

  /// Whether the line consists of white space, with or without a byte order mark.
  package var isBlank: Bool {
    let text = bytes.starts(with: Self.byteOrderMark) ? bytes[Self.byteOrderMark.count...] : bytes[...]
    return !isTooLong && text.allSatisfy { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }
  }
}

/// A reader of lines, in memory for one line, that returns each line as soon as it is complete.
package struct LineReader {
  /// Maximum length of a line in bytes.
  package static let lengthLimit = 64 << 20
  /// Number of bytes of `Line.beginning`.
  private static let beginningLength = 4096

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
    if line.byteCount <= lengthLimit {
      line.bytes += chunk[range]
    } else if line.beginning.isEmpty {
      line.beginning = Array((line.bytes + chunk[range]).prefix(Self.beginningLength))
      line.bytes = []
    }
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
  private let path: String
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
    self.path = path
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

  private var name: String { path == "-" ? "standard input" : path }

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
      if ordinal == 0 { try Self.check(firstBytes: line.isTooLong ? line.beginning : line.bytes, of: name) }
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

  /// Checks that an input is UTF-8 text with an object on each line, by its first bytes.
  ///
  /// A line that is a JSON list is no record, but a file that begins with one is a list of records. One damaged line is an
  /// error of its record, but a file of which no line begins an object has another format.
  ///
  /// - Throws: `BatchError.foreignInput`.
  static func check(firstBytes bytes: [UInt8], of name: String) throws(BatchError) {
    func refuse(_ found: String) throws(BatchError) { throw .foreignInput(path: name, found: found) }
    if let content = ForeignContent(firstBytes: bytes) { try refuse(content.problem) }
    let text = bytes.starts(with: Line.byteOrderMark) ? bytes[Line.byteOrderMark.count...] : bytes[...]
    let isSpace: (UInt8) -> Bool = { [0x20, 0x09, 0x0D].contains($0) }
    let lines = text.split(separator: UInt8(ascii: "\n")).map { $0.drop(while: isSpace) }.filter { !$0.isEmpty }
    guard let first = lines.first else { return }
    if first.first == UInt8(ascii: "[") {
      try refuse("a JSON list instead of an object on each line; convert it, as with 'jq -c .[]'")
    }
    guard lines.count > 1, lines.dropFirst().allSatisfy({ $0.first != UInt8(ascii: "{") }) else { return }
    if first.first != UInt8(ascii: "{") {
      let line = String(decoding: first.prefix(4 * 61), as: UTF8.self).excerpt
      try refuse("text such as \(line) instead of a JSON object on each line; convert it to JSON Lines")
    }
    if first.dropFirst().allSatisfy(isSpace) {
      try refuse("JSON in several lines instead of an object on each line; convert it, as with 'jq -c .'")
    }
  }

  func hasOther(_ key: RecordKey, askingOneOf hashes: Set<UInt64>) throws(BatchError) -> Bool {
    guard path != "-", byteCount != nil else { return false }
    let parser = parser
    var family = family
    var isFound = false
    try Self.scan(path) { lines throws(SystemError) in
      while !isFound, case .ready(let line) = try lines.next() {
        guard !line.isBlank else { continue }
        let record = parser.record(line, orElse: family ?? .llava).record
        family = family ?? record.family
        isFound = record.key == key && record.answerHashes.contains(where: hashes.contains)
      }
    }
    return isFound
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
  private let questionHash: UInt64
  private let members: BatchShard.Members
  private let count: Int
  private var walk: FolderWalk
  private var number = 0

  /// - Parameter base: The request without its image.
  init(_ path: String, asking question: String, base: Request, shard: BatchShard) throws(BatchError) {
    self.base = base
    self.question = question
    questionHash = QuestionHash(question).value
    walk = try FolderWalk(path, extensions: Self.extensions)
    var walk = walk
    var count = 0
    while try walk.next() != nil { count += 1 }
    self.count = count
    members = shard.members { count }
  }

  var fractionRead: Double? { count == 0 ? 1 : min(1, Double(number) / Double(count)) }

  /// A path is there once.
  func hasOther(_: RecordKey, askingOneOf _: Set<UInt64>) -> Bool { false }

  mutating func next(waits: Bool) throws(BatchError) -> Poll<ParsedRecord> {
    while let path = try walk.next() {
      number += 1
      guard members.contains(number) else { continue }
      let record = BatchRecord(
        family: .llava, number: number, identifier: .text(path.description), question: question,
        questionHash: questionHash)
      let request = Result { () throws(RecordFailure) in
        var request = base
        request.images = [try Self.image(walk.root + path)]
        return request
      }
      return .ready(ParsedRecord(record: record, request: request))
    }
    return .finished
  }
}

extension ImageFolder {
  /// The image of a path; a file whose name is not UTF-8 is read at once, because other functions take text.
  fileprivate static func image(_ path: ByteString) throws(RecordFailure) -> Request.Image {
    if let text = path.text { return .file(text) }
    let name = path.description
    do {
      let file = try OpenFile(reading: path)
      guard file.isRegular else {
        throw ImageError.notAFile(name: name, found: file.isFolder ? "folder" : "device or pipe")
      }
      // One byte above the limit, so that a larger file is refused where others are.
      return .encoded(try file.readAll(limit: ImageDecoder().byteLimit + 1), name: name)
    } catch let error as SystemError {
      throw RecordFailure(
        error.isNotFound ? ImageError.missingFile(name: name) : .unreadableFile(name: name, reason: error.problem))
    } catch {
      throw RecordFailure(error)
    }
  }
}

extension VisionLanguageModel {
  /// The paths of all images in a folder and its subfolders, relative to it and in order.
  ///
  /// - Throws: `BatchError` for a folder that cannot be read, and for a name that is not UTF-8.
  package static func images(inFolder path: String) throws(BatchError) -> [String] {
    var walk = try FolderWalk(path, extensions: ImageFolder.extensions)
    var paths: [String] = []
    while let path = try walk.next() {
      guard let text = path.text else {
        throw .unreadable(path: (walk.root + path).description, reason: "its name is not UTF-8; rename it")
      }
      paths.append(text)
    }
    return paths
  }
}

/// A traversal of a folder and its subfolders.
private struct FolderWalk {
  /// The folder, with a slash at its end.
  let root: ByteString
  private let extensions: Set<String>
  /// Entries to visit in the current folder and in those around it, the next one last.
  private var pending: [[Folder.Entry]] = []

  init(_ root: String, extensions: Set<String>) throws(BatchError) {
    (self.root, self.extensions) = (ByteString(root + "/"), extensions)
    pending = [try entries(below: ByteString(""))]
  }

  /// The next file's path below the root.
  mutating func next() throws(BatchError) -> ByteString? {
    while !pending.isEmpty {
      guard let entry = pending[pending.count - 1].popLast() else {
        pending.removeLast()
        continue
      }
      guard entry.isFolder else { return entry.name }
      pending.append(try entries(below: entry.name))
    }
    return nil
  }

  /// The images and folders in a folder, in reverse order; names begin below the root, and those of folders end in `/`.
  private func entries(below folder: ByteString) throws(BatchError) -> [Folder.Entry] {
    let entries: [Folder.Entry]
    do { entries = try Folder.entries(of: root + folder) } catch {
      throw .unreadable(path: (root + folder).description, reason: "\(error); is it a folder?")
    }
    let visited = entries.compactMap { entry -> Folder.Entry? in
      guard entry.name.bytes.first != UInt8(ascii: ".") else { return nil }
      let isImage = isImage(entry.name)
      guard isImage || entry.isFolder else { return nil }
      return Folder.Entry(
        name: folder + entry.name + ByteString(isImage ? "" : "/"), isFolder: !isImage)
    }
    return visited.sorted { $1.name < $0.name }
  }

  private func isImage(_ name: ByteString) -> Bool {
    guard let dot = name.bytes.lastIndex(of: UInt8(ascii: ".")), dot > 0 else { return false }
    return extensions.contains(String(decoding: name.bytes[(dot + 1)...], as: UTF8.self).lowercased())
  }
}
