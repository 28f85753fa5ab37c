import Foundation
import Storage
import Synchronization
import TestSupport
import Testing

/// Limits on memory, and files that are cut while they are mapped, each in a process of its own.
@Suite struct ProcessFaultsTests {
  @Test func `a file that is cut while mapped ends the program with one line that names it`() async throws {
    let result = await #expect(processExitsWith: .exitCode(3), observing: [\.standardErrorContent]) {
      ProcessFaults.exit(with: 3)
      let folder = try TemporaryFolder()
      let other = try SharedBytes(mapping: folder.write("other", [UInt8](repeating: 2, count: 100_000)))
      let path = try folder.write("weights", [UInt8](repeating: 1, count: 1_000_000))
      let bytes = try SharedBytes(mapping: path)
      guard bytes[999_999] == 1 else { exit(4) }
      guard unsafe truncate(folder.path("weights"), 30_000) == 0 else { exit(5) }
      guard other[99_999] == 2 && bytes[29_999] == 1 else { exit(6) }
      let byte = bytes[999_999]
      // Used after the fault, so that the folder is not removed before.
      exit(folder.path.isEmpty ? 7 : Int32(byte))
    }
    let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
    #expect(text.split(separator: "\n").count == 1)
    #expect(text.hasPrefix("error: ") && text.contains("/weights: ") && !text.contains("other"))
  }

  #if os(Linux)
    @Test func `an allocation beyond the limit on address space ends the program with one line`() async throws {
      let result = await #expect(processExitsWith: .exitCode(3), observing: [\.standardErrorContent]) {
        ProcessFaults.exit(with: 3)
        var limit = rlimit(rlim_cur: 8 << 30, rlim_max: 8 << 30)
        guard unsafe setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0, AddressSpace.limit == 8 << 30,
          let available = AddressSpace.available, available > 1 << 30, AddressSpace.hasRoom(for: 1 << 30),
          !AddressSpace.hasRoom(for: available + 1)
        else { exit(1) }
        // Fits.
        unsafe allocateBytes(1 << 30).deallocate()
        unsafe allocateBytes(8 << 30).deallocate()
        exit(2)
      }
      let text = String(decoding: try #require(result).standardErrorContent, as: UTF8.self)
      #expect(text.split(separator: "\n").count == 1 && text.contains("ulimit -v"), "\(text)")
    }

    @Test func `files and threads beyond the limit are refused`() async {
      await #expect(processExitsWith: .success) {
        let folder = try TemporaryFolder()
        try folder.write("file", [UInt8](repeating: 1, count: 1000))
        guard unsafe truncate(folder.path("file"), 16 << 30) == 0 else { exit(1) }
        var limit = rlimit(rlim_cur: 8 << 30, rlim_max: 8 << 30)
        guard unsafe setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0 else { exit(2) }
        do {
          _ = try SharedBytes(mapping: folder.path("file"))
          exit(3)
        } catch { guard "\(error)".contains("ulimit -v") else { exit(4) } }
        guard !folder.path.isEmpty, BackgroundThread.start({}) else { exit(5) }
        limit.rlim_cur = 16 << 20
        guard unsafe setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0 else { exit(6) }
        if BackgroundThread.start({}) { exit(7) }
        // Without a thread, work is done at once.
        let isDone = DispatchSemaphore(value: 0)
        BackgroundQueue().add { isDone.signal() }
        guard isDone.wait(timeout: .now()) == .success else { exit(8) }
      }
    }
  #endif

  @Test func `a queue does its work in order, also after it is released`() {
    let numbers = Mutex([Int]())
    let isDone = DispatchSemaphore(value: 0)
    do {
      let queue = BackgroundQueue()
      for number in 0..<100 { queue.add { numbers.withLock { $0.append(number) } } }
      queue.add { isDone.signal() }
    }
    isDone.wait()
    #expect(numbers.withLock { $0 } == Array(0..<100))
  }

  @Test func `the peak memory is that of this process`() throws {
    let before = peakResidentBytes()
    let bytes = SharedBytes(copying: [UInt8](repeating: 1, count: 64 << 20))
    let peak = peakResidentBytes()
    #expect(bytes[0] == 1 && peak >= 64 << 20 && peak >= before)
  }

  @Test func `paths in messages have one line and a maximum length`() {
    #expect("/a b/c.png".pathExcerpt == "/a b/c.png")
    #expect("a\nb\u{1B}[0m".pathExcerpt == "a\\nb\\u{1B}[0m" || "a\nb\u{1B}[0m".pathExcerpt == "a\\nb\\u{001B}[0m")
    let long = String(repeating: "x", count: 100_000) + "/end.png"
    #expect(long.pathExcerpt.unicodeScalars.count == 240 && long.pathExcerpt.hasSuffix("x/end.png"))
    #expect(throws: FileError.self) { try SharedBytes(mapping: long) }
    #expect(FileError.notFound(path: long).problem.count < 300)
  }
}
