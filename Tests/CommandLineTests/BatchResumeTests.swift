import Foundation
import TestSupport
import Testing

/// Resuming a batch after any end of a run, without lost answers.
@Suite(.enabled(if: isOptimized, "slow without optimisation")) struct BatchResumeTests {
  @Test func `killed and resumed runs write the same bytes as one run`() throws {
    let batch = try BatchFolder(count: 30)
    let whole = batch.folder.path("whole.jsonl")
    #expect(try ProgramRun(batch.arguments(output: whole)).status == 1)
    var generator = SeededGenerator(11)
    var killCount = 0
    for _ in 0..<8 {
      let process = try ProgramRun.start(
        batch.arguments(["--resume"]), input: .nullDevice, output: .nullDevice, errors: .nullDevice)
      // Progress depends on the machine; the result must not.
      Thread.sleep(forTimeInterval: .random(in: 0.02...0.5, using: &generator))
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      if process.terminationReason == .uncaughtSignal { killCount += 1 }
    }
    let last = try ProgramRun(batch.arguments(["--resume"]))
    #expect(killCount > 0 && last.status == 1, "\(last)")
    #expect(try batch.bytes() == batch.bytes(whole))
    #expect(try batch.lines().count == 30)
  }

  @Test func `a full disk keeps whole answers, and the run resumes when there is space`() throws {
    let batch = try BatchFolder(count: 12)
    let whole = batch.folder.path("whole.jsonl")
    #expect(try ProgramRun(batch.arguments(output: whole)).status == 1)
    let blocks = try batch.bytes(whole).count / 512
    for limit in [0, 1, blocks / 2, blocks] {
      let run = try ProgramRun(batch.arguments(["--resume"]), before: "ulimit -f \(limit)")
      #expect(run.status == 3 && !run.wasKilled, "\(run)")
      #expect(run.errorLines.last?.contains("no space") == true && run.errors.contains("--resume"), "\(run)")
      let kept = try batch.bytes()
      #expect(try kept.count <= 512 * limit && batch.bytes(whole).starts(with: kept))
      #expect(kept.isEmpty || kept.last == 0x0A)
    }
    #expect(try ProgramRun(batch.arguments(["--resume"])).status == 1)
    #expect(try batch.bytes() == batch.bytes(whole))
  }

  @Test func `overwrites answers only with --overwrite`() throws {
    let batch = try BatchFolder(count: 1)
    let first = try ProgramRun(batch.arguments())
    #expect(first.status == 0 && first.output.isEmpty)
    let bytes = try batch.bytes()
    try ProgramRun(batch.arguments()).expectFailure(3, "--overwrite")
    #expect(try batch.bytes() == bytes)
    // A model that cannot be loaded does not remove answers.
    try ProgramRun(batch.arguments(["--overwrite", "-m", "none"])).expectFailure(3, "none")
    #expect(try batch.bytes() == bytes)
    try Data(bytes + bytes).write(to: URL(filePath: batch.output))
    #expect(try ProgramRun(batch.arguments(["--overwrite"])).status == 0)
    #expect(try batch.bytes() == bytes)
    // Error records of earlier runs count for the exit status.
    let failing = try BatchFolder(count: 4)
    #expect(try ProgramRun(failing.arguments()).status == 1)
    let kept = try ProgramRun(failing.arguments(["--resume"]))
    #expect(kept.status == 1 && kept.errors.contains("--retry-failed"), "\(kept)")
    try FileManager.default.copyItem(
      atPath: BatchFolder.samples + "/bike.png", toPath: failing.folder.path("none.png"))
    let mended = try String(contentsOf: URL(filePath: failing.input), encoding: .utf8)
      .replacing("none.png", with: failing.folder.path("none.png"))
    try failing.folder.write("questions.jsonl", mended)
    let retried = try ProgramRun(failing.arguments(["--retry-failed"]))
    #expect(retried.status == 0, "\(retried)")
    #expect(try failing.lines().count == 4 && failing.lines().last?.contains(#""question_id":"q4""#) == true)
  }

  @Test func `an interrupt lets running records finish, and prints how to resume`() throws {
    let batch = try BatchFolder(count: 30)
    let errors = Pipe()
    let process = try ProgramRun.start(
      batch.arguments(), input: .nullDevice, output: .nullDevice, errors: errors.fileHandleForWriting)
    try errors.fileHandleForWriting.close()
    while process.isRunning, (try? batch.bytes())?.isEmpty ?? true { Thread.sleep(forTimeInterval: 0.01) }
    process.interrupt()
    let log = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationReason == .uncaughtSignal && process.terminationStatus == SIGINT, "\(log)")
    #expect(log.contains("--resume") && log.contains(" answered"), "\(log)")
    let kept = try batch.lines().count
    #expect(try kept > 0 && kept < 30 && batch.bytes().last == 0x0A)
    #expect(try ProgramRun(batch.arguments(["--resume"])).status == 1)
    #expect(try batch.lines().count == 30)
  }

  @Test func `an interrupt ends a program that waits for a question`() throws {
    let (input, output, errors) = (Pipe(), Pipe(), Pipe())
    let process = try ProgramRun.start(
      ["-t", "1", "-n", "1", "--input", "-"], input: input.fileHandleForReading, output: output.fileHandleForWriting,
      errors: errors.fileHandleForWriting)
    for pipe in [output, errors] { try pipe.fileHandleForWriting.close() }
    try input.fileHandleForWriting.write(contentsOf: Data(#"{"question_id": 1, "text": "a"}"#.utf8 + [0x0A]))
    #expect(!output.fileHandleForReading.availableData.isEmpty)
    process.interrupt()
    process.waitUntilExit()
    #expect(process.terminationReason == .uncaughtSignal && process.terminationStatus == SIGINT)
    let log = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    #expect(log.contains("1 of 1 record answered"), "\(log)")
  }
}
