import BatchInference
import Foundation
import ModelTestSupport
import TestSupport
import Testing

/// Input and output of a batch, with an engine that answers immediately.
@Suite struct BatchJobTests {
  let fixture: BatchFixture

  init() throws { fixture = try BatchFixture() }

  /// Twelve records: some that fail, some that are invalid, two with the same identifier, two formats.
  static let mixed =
    [BatchFixture.question(1), BatchFixture.question(2, "fail"), #"{"question_id": 3"#, "", BatchFixture.question(1)]
    + [#"{"custom_id": "c", "body": {"messages": [{"role": "user", "content": "hello"}]}}"#, "{}", "\t"]
    + [#"{"custom_id": "d", "url": "/v1/embeddings", "body": {}}"#, #"{"question_id": "1", "text": "text"}"#]
    + (5...8).map { BatchFixture.question($0) }

  @Test func `answers every record in its own format, in order`() throws {
    let report = try fixture.run(Self.mixed)
    let lines = try fixture.lines()
    #expect(report.records == 12 && lines.count == 12)
    #expect(report.answered == 8)
    #expect(report.failed == ["out_of_memory": 1, "bad_record": 2, "unsupported_option": 1])
    struct Line: Decodable {
      var answer_id: String?
      var id: String?
      var text: String?
    }
    let numbers = try lines.map { line in
      let line = try JSONDecoder().decode(Line.self, from: Data(line.utf8))
      return line.answer_id ?? line.id ?? ""
    }
    #expect(numbers == ["1", "2", "3", "5", "pdrop-6", "7", "pdrop-9", "10", "11", "12", "13", "14"])
    #expect(lines[0].contains(#""text":"answer to q1""#))
    #expect(lines[1].contains(#""code":"out_of_memory""#) && !lines[1].contains(#""text""#))
    #expect(lines[4].contains(#""content":"answer to hello""#) && lines[4].contains(#""error":null"#))
    #expect(lines[6].contains(#""body":null"#) && lines[6].contains(#""status_code":400"#))
  }

  @Test func `writes answers in input order when they finish in any order`() throws {
    let questions = (0..<3000).map { BatchFixture.question($0) }
    try fixture.run(questions)
    let expected = try fixture.bytes()
    var generator = SeededGenerator(7)
    var maxActive = 0
    try fixture.run(questions, existingOutput: .overwrite) { job in
      var active: [BatchJob.Question] = []
      while true {
        let poll = try job.take(waits: active.isEmpty)
        if case .ready(let question) = poll {
          active.append(question)
          maxActive = max(maxActive, active.count)
          if Bool.random(using: &generator) || Bool.random(using: &generator) { continue }
        } else if active.isEmpty {
          break
        }
        // The first one is finished only when no other record may be started.
        if case .pending = poll, let first = active.first {
          active.removeFirst()
          try job.finish([(first, fixture.answer(first))])
          continue
        }
        active.shuffle(using: &generator)
        let ended = active.suffix(3)
        active.removeLast(ended.count)
        try job.finish(ended.map { ($0, fixture.answer($0)) })
      }
    }
    #expect(try fixture.bytes() == expected)
    #expect(maxActive > 3 && maxActive <= 1024, "\(maxActive)")
  }

  @Test func `gives out no record that is too far ahead of the first unfinished one`() throws {
    let questions = (0..<1500).map { BatchFixture.question($0) }
    try fixture.run(questions) { job in
      guard case .ready(let first) = try job.take() else { return }
      var count = 1
      while case .ready(let question) = try job.take() {
        try job.finish([(question, fixture.answer(question))])
        count += 1
      }
      #expect(count == 1024)
      #expect(try fixture.bytes().isEmpty)
      try job.finish([(first, fixture.answer(first))])
      #expect(try fixture.lines().count == 1024)
      while case .ready(let question) = try job.take() { try job.finish([(question, fixture.answer(question))]) }
    }
    #expect(try fixture.lines().count == 1500)
  }

  @Test func `resumes from an output that is cut off at any byte`() throws {
    try fixture.run(Self.mixed)
    let whole = try fixture.bytes()
    for count in 0...whole.count {
      try Data(whole.prefix(count)).write(to: URL(filePath: fixture.output))
      try fixture.run(Self.mixed, existingOutput: .resume(retriesFailures: false))
      let bytes = try fixture.bytes()
      #expect(bytes == whole, "cut at \(count)")
      if bytes != whole { break }
    }
  }

  @Test func `resumes from an output with zeros at its end, as after a system crash`() throws {
    try fixture.run(Self.mixed)
    let whole = try fixture.bytes()
    let end = try #require(whole.prefix(whole.count / 2).lastIndex(of: 0x0A))
    try Data(whole[...end] + [0, 0, 0, 0]).write(to: URL(filePath: fixture.output))
    try fixture.run(Self.mixed, existingOutput: .resume(retriesFailures: false))
    #expect(try fixture.bytes() == whole)
  }

  @Test func `retries failed records once, if requested`() throws {
    let questions = [BatchFixture.question(1), BatchFixture.question(2, "fail"), BatchFixture.question(3)]
    try fixture.run(questions)
    let before = try fixture.lines()
    let kept = try fixture.run(questions, existingOutput: .resume(retriesFailures: false))
    #expect(kept.records == 0 && kept.answered_before == 3 && kept.failed_before == 1)
    #expect(try fixture.lines() == before)

    let mended = [questions[0], BatchFixture.question(2, "mended"), questions[2]]
    let report = try fixture.run(mended, existingOutput: .resume(retriesFailures: true))
    #expect(report.records == 1 && report.answered == 1 && report.answered_before == 2 && report.failed_before == 0)
    let after = try fixture.lines()
    #expect(after.prefix(2) == [before[0], before[2]] && after.count == 3)
    #expect(after[2].contains("answer to mended"))
    #expect(try FileManager.default.contentsOfDirectory(atPath: fixture.folder.path).count == 2)
  }

  @Test(arguments: [1, 2, 3, 5, 20])
  func `shards numbered from 1 or from 0 partition the batch`(count: Int) throws {
    try fixture.run(Self.mixed)
    let whole = try fixture.lines().sorted()
    for first in [0, 1] {
      var union: [String] = []
      for index in first..<first + count {
        let path = fixture.folder.path("shard-\(first)-\(index)")
        try fixture.run(Self.mixed, shard: #require(BatchShard("\(index)/\(count)")), output: path)
        union += try fixture.lines(path)
      }
      #expect(union.sorted() == whole)
    }
  }

  /// LLaVA's rule for 7 records: runs of ceil(7/n) records, the last ones shorter or empty.
  @Test(arguments: [
    (1, [7]), (2, [4, 3]), (3, [3, 3, 1]), (4, [2, 2, 2, 1]), (5, [2, 2, 2, 1, 0]), (7, [1, 1, 1, 1, 1, 1, 1]),
    (9, [1, 1, 1, 1, 1, 1, 1, 0, 0]), (Int.max, [1]),
  ])
  func `chunks are consecutive runs of lines that partition the batch`(count: Int, sizes: [Int]) throws {
    let questions = (1...7).flatMap { [BatchFixture.question($0), "  "] }
    try fixture.run(questions)
    let whole = try fixture.lines()
    #expect(whole.count == 7)
    var union: [String] = []
    for (index, size) in sizes.enumerated() {
      let path = fixture.folder.path("chunk-\(index)")
      try fixture.run(questions, shard: #require(BatchShard(chunk: index, of: count)), output: path)
      let lines = try fixture.lines(path)
      #expect(lines.count == size)
      union += lines
    }
    #expect(union == Array(whole.prefix(sizes.reduce(0, +))))
  }

  @Test(arguments: [(0, 0), (1, 1), (-1, 2), (2, 2), (0, -1)])
  func `refuses an invalid chunk`(index: Int, count: Int) { #expect(BatchShard(chunk: index, of: count) == nil) }

  @Test(arguments: ["", "1", "/", "1/", "/2", "3/2", "-1/2", "1/0", "0/0", "a/b", "1/2/3", "1.0/2"])
  func `refuses an invalid shard`(text: String) { #expect(BatchShard(text) == nil) }

  @Test func `refuses to write to the input, to existing answers and to other files`() throws {
    let questions = [BatchFixture.question(1)]
    try fixture.run(questions)
    let before = try fixture.bytes()
    #expect(throws: BatchError.outputNotEmpty(path: fixture.output, byteCount: before.count)) {
      try fixture.run(questions)
    }
    #expect(try fixture.bytes() == before)

    let input = fixture.folder.path("questions.jsonl")
    for earlier in [Batch.ExistingOutput.overwrite, .refuse, .resume(retriesFailures: true)] {
      #expect(throws: BatchError.outputIsInput(path: input)) {
        try fixture.run(questions, existingOutput: earlier, output: input)
      }
    }
    #expect(try fixture.lines(input) == questions)

    for text in [questions[0], questions[0] + "\n", "{}\n", "notes", "{\"a\":\n{\"b\":"] {
      let notes = try fixture.folder.write("notes", text)
      for retries in [false, true] {
        #expect(throws: BatchError.notAnAnswer(path: notes, line: 1)) {
          try fixture.run(questions, existingOutput: .resume(retriesFailures: retries), output: notes)
        }
      }
      #expect(try fixture.bytes(notes) == Array(text.utf8))
    }
  }

  @Test func `refuses an output that another run is writing to`() throws {
    let questions = [BatchFixture.question(1)]
    try fixture.run(questions) { job in
      #expect(throws: BatchError.outputInUse(path: fixture.output)) {
        try fixture.run(questions, existingOutput: .resume(retriesFailures: false))
      }
      while case .ready(let question) = try job.take() { try job.finish([(question, fixture.answer(question))]) }
    }
    #expect(try fixture.lines().count == 1)
  }

  @Test func `finishes active records when it is stopped, and reports that it was`() throws {
    let questions = (1...5).map { BatchFixture.question($0) }
    var count = 0
    let report = try fixture.run(questions, isStopped: count == 2) { job in
      while case .ready(let question) = try job.take() {
        count += 1
        try job.finish([(question, fixture.answer(question))])
      }
    }
    #expect(report.stopped && report.records == 2)
    let rest = try fixture.run(questions, existingOutput: .resume(retriesFailures: false))
    #expect(!rest.stopped && rest.records == 3 && rest.answered_before == 2)
    #expect(try fixture.lines().count == 5)
  }
}
