import BatchInference
import Foundation
import Storage
import TestSupport
import Testing

@Suite struct LineReaderTests {
  private func lines(of bytes: [UInt8], limit: Int = LineReader.lengthLimit) throws -> [Line] {
    let folder = try TemporaryFolder()
    var reader = LineReader(try OpenFile(reading: folder.write("lines", bytes)), lengthLimit: limit)
    var lines: [Line] = []
    while case .ready(let line) = try reader.next() { lines.append(line) }
    return lines
  }

  @Test(arguments: [0, 1, 65535, 65536, 65537, 200_000])
  func `finds lines across the boundaries of reads`(length: Int) throws {
    let long = (0..<length).map { UInt8(ascii: "a") + UInt8($0 % 26) }
    let lines = try lines(of: long + [0x0A] + long + [0x0A, 0x0A] + Array("end".utf8))
    #expect(lines.map(\.bytes) == [long, long, [], Array("end".utf8)])
    #expect(lines.map(\.number) == [1, 2, 3, 4])
    #expect(lines.map(\.offset) == [0, length + 1, 2 * length + 2, 2 * length + 3])
    #expect(lines.map(\.isComplete) == [true, true, true, false])
  }

  @Test func `discards a line that is too long and continues with the next one`() throws {
    let long = [UInt8](repeating: 0x20, count: 150_000)
    let lines = try lines(of: Array("abcd\n".utf8) + long + Array("\nabcde\n\t \r\n".utf8), limit: 4)
    #expect(lines.map(\.bytes) == [Array("abcd".utf8), [], [], Array("\t \r".utf8)])
    #expect(lines.map(\.byteCount) == [4, 150_000, 5, 3])
    #expect(lines.map(\.isTooLong) == [false, true, true, false])
    #expect(lines.map(\.isBlank) == [false, false, false, true])
  }

  @Test func `returns pending instead of waiting for an incomplete line`() throws {
    let pipe = Pipe()
    let path = "/dev/fd/\(pipe.fileHandleForReading.fileDescriptor)"
    var reader = LineReader(try OpenFile(reading: path))
    func isPending(_ poll: Poll<Line>) -> Bool { if case .pending = poll { true } else { false } }
    #expect(isPending(try reader.next(waits: false)))
    try pipe.fileHandleForWriting.write(contentsOf: Data("one\ntwo".utf8))
    guard case .ready(let line) = try reader.next(waits: false) else {
      Issue.record("no line")
      return
    }
    #expect(line.bytes == Array("one".utf8))
    #expect(isPending(try reader.next(waits: false)))
    try pipe.fileHandleForWriting.close()
    guard case .ready(let last) = try reader.next() else {
      Issue.record("no last line")
      return
    }
    #expect(last.bytes == Array("two".utf8) && !last.isComplete)
  }

  @Test func `stops waiting when it is stopped`() throws {
    let pipe = Pipe()
    let path = "/dev/fd/\(pipe.fileHandleForReading.fileDescriptor)"
    var reader = LineReader(try OpenFile(reading: path)) { true }
    guard case .pending = try reader.next() else {
      Issue.record("a line from an empty pipe")
      return
    }
  }
}
