import Foundation
import TestSupport
import Testing

/// What the program `pdrop-run` did when it was run as a process.
struct ProgramRun {
  let status: Int32
  /// Whether a signal ended it, as a crash does; `status` is then the signal.
  let wasKilled: Bool
  let output: String
  let errors: String

  /// Lines on stderr, and the first of them.
  var errorLines: [Substring] { errors.split(separator: "\n") }
  /// Lines on stdout.
  var outputLines: [Substring] { output.split(separator: "\n") }

  /// Runs the program to its end with `input` on its stdin.
  ///
  /// - Parameter fileBlocks: How long a file it may write, in blocks of 512 bytes, as on a disk without more room.
  init(_ arguments: [String], input: String = "", fileBlocks: Int? = nil) throws {
    let (output, errors) = (Pipe(), Pipe())
    // A file, since the program may end before it has read all of a pipe.
    let folder = try TemporaryFolder()
    let inputFile: FileHandle = try #require(FileHandle(forReadingAtPath: folder.write("input", input)))
    let process = try Self.start(
      arguments, input: inputFile, output: output.fileHandleForWriting, errors: errors.fileHandleForWriting,
      fileBlocks: fileBlocks)
    try output.fileHandleForWriting.close()
    try errors.fileHandleForWriting.close()
    // The log is shorter than a pipe is wide, so the program never waits for us to read it.
    self.output = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    self.errors = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    status = process.terminationStatus
    wasKilled = process.terminationReason == .uncaughtSignal
  }

  /// Runs the program with its output going to a file or device.
  init(_ arguments: [String], output: FileHandle) throws {
    let errors = Pipe()
    let process = try Self.start(
      arguments, input: .nullDevice, output: output, errors: errors.fileHandleForWriting)
    try output.close()
    try errors.fileHandleForWriting.close()
    self.output = ""
    self.errors = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    status = process.terminationStatus
    wasKilled = process.terminationReason == .uncaughtSignal
  }

  /// Starts the program.
  static func start(
    _ arguments: [String], input: FileHandle, output: FileHandle, errors: FileHandle, fileBlocks: Int? = nil
  ) throws -> Process {
    let process = Process()
    let program: URL = try #require(executable, "pdrop-run is not beside the tests")
    process.executableURL = program
    process.arguments = arguments
    if let fileBlocks {
      process.executableURL = URL(filePath: "/bin/sh")
      process.arguments = ["-c", "ulimit -f \(fileBlocks); exec \"$@\"", "sh", program.path] + arguments
    }
    process.standardInput = input
    process.standardOutput = output
    process.standardError = errors
    // The thread that runs a test may block signals, and a process begins with what its maker blocks.
    var (all, before) = (sigset_t(), sigset_t())
    unsafe sigfillset(&all)
    unsafe pthread_sigmask(SIG_UNBLOCK, &all, &before)
    defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
    try process.run()
    return process
  }

  /// The program, which the build puts beside the tests.
  private static let executable: URL? = {
    let tests = [Bundle.main.executableURL] + Bundle.allBundles.map { Optional($0.bundleURL) }
    let folders = tests.compactMap { $0?.resolvingSymlinksInPath().deletingLastPathComponent() }
    return folders.map { $0.appending(path: "pdrop-run") }.first {
      FileManager.default.isExecutableFile(atPath: $0.path)
    }
  }()

  /// Expects a status, nothing on stdout, and one line of error on stderr, before the usage if the status is 2.
  func expectFailure(_ status: Int32, _ words: String = "", sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(!wasKilled && self.status == status, "\(errors)", sourceLocation: sourceLocation)
    #expect(output.isEmpty, sourceLocation: sourceLocation)
    let first = errorLines.first ?? ""
    #expect(first.hasPrefix("error: ") && first.contains(words), "\(errors)", sourceLocation: sourceLocation)
    #expect(errorLines.count { $0.hasPrefix("error: ") } == 1, "\(errors)", sourceLocation: sourceLocation)
    if status != 2 { #expect(errorLines.count == 1, "\(errors)", sourceLocation: sourceLocation) }
  }
}
