package import Kernels

/// What a source that may have to wait has to give.
package enum Taken<Value> {
  case value(Value)
  /// Nothing is there at the moment.
  case notYet
  case end
}

extension Taken: Sendable where Value: Sendable {}

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
  package mutating func next(waits: Bool = true) throws(SystemError) -> Taken<Line> {
    while true {
      if let feed = chunk[unread].firstIndex(of: UInt8(ascii: "\n")) {
        keep(unread.lowerBound..<feed)
        unread = feed + 1..<unread.upperBound
        line.isComplete = true
        return .value(takeLine())
      }
      keep(unread)
      unread = 0..<0
      guard !isAtEnd else { return line.byteCount > 0 ? .value(takeLine()) : .end }
      guard waitForMore(waits: waits) else { return .notYet }
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
