import ArgumentParser
import CommandLineSupport
import Foundation
import PDrop
import Storage
import TokenDropping

/// An interactive chat about images: every line of input is a turn, and its answer is written to stdout.
///
/// A turn that fails is discarded and the chat continues. Its images stay for the next question, which may need them.
/// After an image that cannot be read, no question is answered until another one is given or the chat is cleared.
struct InteractiveRun {
  let model: VisionLanguageModel
  /// The request without question and images: policy, system prompt and generation options.
  let base: Request
  let threads: Int
  let speculation: Speculation
  let format: Answer.Format
  let verbose: Bool
  let verbosePrompt: Bool

  private let terminal = Terminal()
  private let output = Output()
  private var chat = Chat()
  private var isFirstTurn = true
  /// Whether the last image could not be read, which the next question may be about.
  private var lacksImage = false
  private var hasFailed = false

  init(
    model: VisionLanguageModel, base: Request, threads: Int, speculation: Speculation, format: Answer.Format,
    verbose: Bool, verbosePrompt: Bool
  ) {
    self.model = model
    self.base = base
    self.threads = threads
    self.speculation = speculation
    self.format = format
    self.verbose = verbose
    self.verbosePrompt = verbosePrompt
  }

  /// Runs the chat until the input ends or `/exit`.
  ///
  /// - Parameters:
  ///   - images: The images of the first question.
  ///   - first: The first question, answered before any input is read.
  /// - Throws: For an unusable image in `images`, and for output that cannot be written; `ExitCode` 1 at the end of input
  ///   from a pipe or file if an image or a question in it has failed.
  mutating func run(_ images: [Request.Image], first: String?) throws {
    StopSignal.installInterrupt()
    let isOneOfSeveral = images.count { if case .videoFrames = $0 { false } else { true } } > 1
    for image in images { try add(image, isOneOfSeveral: isOneOfSeveral) }
    terminal.note("chat with \(model.name); /help lists commands, /exit ends")
    if let first { try ask(first) }
    var isFirstLine = true
    loop: while var line = terminal.readLine() {
      if isFirstLine, line.unicodeScalars.first == "\u{FEFF}" { line.unicodeScalars.removeFirst() }
      isFirstLine = false
      switch ChatLine(line) {
      case .empty: continue
      case .question where lacksImage:
        fail("not answered: the image before the question is missing; give it with /image, or start again with /clear")
      case .question(let text): try ask(text)
      case .image(let typed): readImage(typed)
      case .clear:
        chat = Chat()
        lacksImage = false
        terminal.note("conversation and images cleared")
      case .help: for line in ChatLine.helpText { Log.write(line) }
      case .exit: break loop
      case .file(let reason):
        // The next question may be about the image.
        lacksImage = true
        fail(reason)
      case .invalid(let reason): fail(reason)
      }
    }
    // A user at a terminal has seen the error.
    if hasFailed, !terminal.isPresent { throw ExitCode(ExitStatus.someFailed.rawValue) }
  }

  private mutating func fail(_ message: String) {
    hasFailed = true
    Log.error(message)
  }

  /// Adds the image of a path as it was typed or pasted; one that cannot be read is reported.
  private mutating func readImage(_ typed: String) {
    do {
      guard !typed.isEmpty else { throw FileArgumentError("/image needs the path of an image") }
      try add(Request.Image(reference: PastedPath.path(typed, exists: FileManager.default.fileExists)))
      lacksImage = false
    } catch {
      lacksImage = true
      fail(errorText(error))
    }
  }

  /// Encodes an image for the next question.
  ///
  /// - Parameter isOneOfSeveral: Whether it is given together with others.
  private mutating func add(_ image: Request.Image, isOneOfSeveral: Bool = false) throws {
    let encoded = try model.encode(
      image, appliesOrientation: base.appliesOrientation, isOneOfSeveral: isOneOfSeveral,
      forSelection: base.policy.preselection != nil, packing: base.policy.preselection?.packing ?? .unpadded,
      threads: threads)
    chat.add(encoded)
    terminal.note("added an image of \(encoded.tokenCount) tokens to the next question")
  }

  /// Runs a turn.
  ///
  /// - Throws: `FileArgumentError` for output that cannot be written; other errors are reported.
  private mutating func ask(_ question: String) throws {
    var answer = TrimmedText()
    do {
      let report = try StopSignal.interruptible { try generate(question, &answer) }
      let isStopped = report.finishReason == nil
      guard !isStopped || !answer.text.isEmpty else {
        terminal.note("stopped before the answer; the question is discarded")
        return
      }
      chat.complete(question, answer: answer.text)
      isFirstTurn = false
      if format == .json { try JSONLine.print(report) } else { try output.write("\n") }
      if isStopped { terminal.note("stopped") }
      if verbose { VerboseLog.run(report, of: model) }
    } catch let error as FileArgumentError {
      throw error
    } catch {
      if format == .text, !answer.text.isEmpty { try output.write("\n") }
      fail(errorText(error))
      terminal.note("the question is discarded; /clear removes the whole conversation")
    }
  }

  /// Streams an answer until it ends or is interrupted.
  private func generate(_ question: String, _ answer: inout TrimmedText) throws -> RunReport {
    let request = chat.request(question, like: base)
    if verbosePrompt { try VerboseLog.prompt(request, model) }
    var session = try Session(model, request, threads: threads, speculation: speculation)
    while !StopSignal.isRequested, let next = try session.next() {
      let text = answer.append(next)
      if format == .text { try output.write(text) }
    }
    var report = session.report
    for image in chat.newImages { report.include(image) }
    if !isFirstTurn {
      report.timings.total -= report.timings.load
      report.timings.load = 0
    }
    return report
  }
}

/// A line of chat input: a question, or a command that begins with `/`.
enum ChatLine: Equatable {
  case empty
  case question(String)
  /// The path as it was typed or pasted.
  case image(path: String)
  case clear, help, exit
  /// A file without `/image`, with the error message.
  case file(String)
  /// An invalid command, with the error message.
  case invalid(String)

  static let helpText = [
    "/image PATH  add an image to the next question",
    "/clear       remove the conversation and its images",
    "/exit        end the chat; so does the end of input",
    "Ctrl-C stops an answer; any other line is a question. Every question ranks all visual tokens again, so tokens",
    "dropped for one question are available for the next.",
  ]

  init(_ line: String) {
    let text = line.trimmingCharacters(in: .whitespacesAndNewlines)
    guard text.hasPrefix("/") else {
      self = text.isEmpty ? .empty : Self.namesFile(text) ? Self.file(named: text) : .question(text)
      return
    }
    let words = text.split(maxSplits: 1, whereSeparator: \.isWhitespace).map(String.init)
    switch (words[0].lowercased(), words.dropFirst().first) {
    case ("/image", let path): self = .image(path: path ?? "")
    case ("/clear", nil): self = .clear
    case ("/help", nil): self = .help
    case ("/exit", nil), ("/quit", nil): self = .exit
    case ("/clear", _), ("/help", _), ("/exit", _), ("/quit", _):
      self = .invalid("\(words[0]) takes nothing after it, found \(words[1].excerpt)")
    case _ where Self.namesFile(text): self = Self.file(named: text)
    case (_, let path?) where Self.namesFile(path):
      self = .file("\(words[0].prefix(60)): no such command; give an image with /image PATH")
    default: self = .invalid("\(words[0].prefix(60)): no such command; /help lists them")
    }
  }

  private static func file(named text: String) -> ChatLine {
    .file("\(text.pathExcerpt): a file instead of a question; give an image with /image PATH")
  }

  /// Whether a text is the path of a file, as it is typed or pasted.
  private static func namesFile(_ text: String) -> Bool {
    func exists(_ path: String) -> Bool {
      let attributes = try? FileManager.default.attributesOfItem(atPath: path)
      return attributes.map { $0[.type] as? FileAttributeType != .typeDirectory } ?? false
    }
    return exists(PastedPath.path(text, exists: exists))
  }
}

/// The terminal of a chat; prompts and notes are written only if there is one.
struct Terminal {
  let isPresent = isatty(STDIN_FILENO) != 0 && isatty(STDERR_FILENO) != 0

  /// The next line of standard input without its newline; `nil` at the end of input.
  func readLine() -> String? {
    if isPresent { write("> ") }
    let line = Swift.readLine()
    // Output after the prompt starts on a new line.
    if isPresent, line == nil { write("\n") }
    return line
  }

  /// Writes a note about the chat.
  func note(_ text: String) {
    if isPresent { Log.write("(\(text))") }
  }

  private func write(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data(text.utf8)) }
}

/// A streamed text without white space at its ends.
struct TrimmedText {
  /// The text so far.
  private(set) var text = ""
  /// Trailing white space, part of the text only if more text follows.
  private var pending = ""

  /// Appends streamed text and returns the part to print now.
  mutating func append(_ streamed: String) -> String {
    pending += streamed
    let scalars = pending.unicodeScalars
    guard let last = scalars.lastIndex(where: { !$0.properties.isWhitespace }) else {
      if text.isEmpty { pending = "" }
      return ""
    }
    let end = scalars.index(after: last)
    let begin = text.isEmpty ? scalars.firstIndex { !$0.properties.isWhitespace } ?? end : scalars.startIndex
    let added = String(scalars[begin..<end])
    pending = String(scalars[end...])
    text += added
    return added
  }
}
