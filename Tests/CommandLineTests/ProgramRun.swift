import Foundation
import TestSupport
import Testing

/// The result of a program, by default `pdrop-run`, after running it as a process.
struct ProgramRun {
  let status: Int32
  /// Whether a signal ended the process, as a crash does; `status` is then the signal.
  let wasKilled: Bool
  let output: String
  let errors: String

  /// Lines on stderr.
  var errorLines: [Substring] { errors.split(separator: "\n") }
  /// Lines on stdout.
  var outputLines: [Substring] { output.split(separator: "\n") }

  /// Runs the program to its end with `input` on its stdin.
  ///
  /// - Parameter preparation: Shell commands before the shell executes the program; `nil` for no shell.
  init(_ arguments: [String], input: String = "", program: String = "pdrop-run", before preparation: String? = nil)
    throws
  {
    let (output, errors) = (Pipe(), Pipe())
    // A file, because the program may end before it has read all of a pipe.
    let folder = try TemporaryFolder()
    let inputFile: FileHandle = try #require(FileHandle(forReadingAtPath: folder.write("input", input)))
    let process = try Self.start(
      arguments, input: inputFile, output: output.fileHandleForWriting, errors: errors.fileHandleForWriting,
      program: program, before: preparation)
    try output.fileHandleForWriting.close()
    try errors.fileHandleForWriting.close()
    // stderr fits in the pipe buffer, so the program never blocks on it while stdout is read.
    self.output = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    self.errors = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    status = process.terminationStatus
    wasKilled = process.terminationReason == .uncaughtSignal
  }

  /// Runs the program with a file or device as its stdout.
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
    _ arguments: [String], input: FileHandle, output: FileHandle, errors: FileHandle, program: String = "pdrop-run",
    before preparation: String? = nil
  ) throws -> Process {
    let process = Process()
    let executable: URL = try #require(Self.executable(program), "\(program) is not next to the tests")
    if let preparation {
      process.executableURL = URL(filePath: "/bin/sh")
      process.arguments = ["-c", preparation + #"; exec "$0" "$@""#, executable.path] + arguments
    } else {
      process.executableURL = executable
      process.arguments = arguments
    }
    process.standardInput = input
    process.standardOutput = output
    process.standardError = errors
    // The thread of a test may block signals, and a child process inherits the signal mask.
    var (all, before) = (sigset_t(), sigset_t())
    unsafe sigfillset(&all)
    unsafe pthread_sigmask(SIG_UNBLOCK, &all, &before)
    defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
    try process.run()
    return process
  }

  /// The path of a program, which the build places next to the tests.
  private static func executable(_ name: String) -> URL? {
    let tests = [Bundle.main.executableURL] + Bundle.allBundles.map { Optional($0.bundleURL) }
    let folders = tests.compactMap { $0?.resolvingSymlinksInPath().deletingLastPathComponent() }
    return folders.map { $0.appending(path: name) }.first {
      FileManager.default.isExecutableFile(atPath: $0.path)
    }
  }

  /// Expects a status, an empty stdout, and one error line on stderr, followed by the usage for status 2.
  func expectFailure(_ status: Int32, _ words: String = "", sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(!wasKilled && self.status == status, "\(errors)", sourceLocation: sourceLocation)
    #expect(output.isEmpty, sourceLocation: sourceLocation)
    let first = errorLines.first ?? ""
    #expect(first.hasPrefix("error: ") && first.contains(words), "\(errors)", sourceLocation: sourceLocation)
    #expect(errorLines.count { $0.hasPrefix("error: ") } == 1, "\(errors)", sourceLocation: sourceLocation)
    if status != 2 { #expect(errorLines.count == 1, "\(errors)", sourceLocation: sourceLocation) }
  }
}

/// A device that is always full; not every system has it.
enum FullDevice {
  static let path = "/dev/full"
  static let exists = FileManager.default.fileExists(atPath: path)
}
