import CommandLineSupport
import Foundation
import PDrop

/// A chat about images: every line of input is a turn, its answer goes to stdout.
///
/// An error in a turn takes the turn back, but for its images, and the chat goes on: they wait for the next question,
/// so that none is answered blind.
struct InteractiveRun {
  let model: VisionLanguageModel
  /// How every question is asked.
  let base: Request
  let threads: Int
  let format: Answer.Format
  let verbose: Bool
  let verbosePrompt: Bool

  private let terminal = Terminal()
  private let output = Output()
  private var chat = Chat()
  private var isFirstTurn = true

  init(
    model: VisionLanguageModel, base: Request, threads: Int, format: Answer.Format, verbose: Bool, verbosePrompt: Bool
  ) {
    self.model = model
    self.base = base
    self.threads = threads
    self.format = format
    self.verbose = verbose
    self.verbosePrompt = verbosePrompt
  }

  /// Chats until the input ends.
  ///
  /// - Parameters:
  ///   - images: What the first question is about.
  ///   - first: A question that is asked before any input is read.
  /// - Throws: For an image among the first ones that cannot be used, and for output that cannot be written.
  mutating func run(_ images: [Request.Image], first: String?) throws {
    Interruption.install()
    for image in images { try add(image) }
    terminal.note("chat with \(model.name); /help lists commands, /exit ends")
    if let first { try ask(first) }
    while let line = terminal.readLine() {
      switch ChatLine(line) {
      case .empty: continue
      case .question(let text): try ask(text)
      case .image(let path): reporting { chat in try chat.add(Request.Image(reference: path)) }
      case .clear:
        chat = Chat()
        terminal.note("the conversation and its images are forgotten")
      case .help: for line in ChatLine.helpText { Log.write(line) }
      case .exit: return
      case .wrong(let reason): Log.error(reason)
      }
    }
  }

  /// Encodes an image for the next question.
  private mutating func add(_ image: Request.Image) throws {
    let encoded = try model.encode(image, appliesOrientation: base.appliesOrientation, threads: threads)
    chat.add(encoded)
    terminal.note("image of \(encoded.tokenCount) tokens for the next question")
  }

  /// Does something that may fail without ending the chat.
  private mutating func reporting(_ action: (inout InteractiveRun) throws -> Void) {
    do { try action(&self) } catch { Log.error(errorText(error)) }
  }

  /// A turn.
  ///
  /// - Throws: `FileArgumentError` for output that cannot be written; other errors are reported.
  private mutating func ask(_ question: String) throws {
    var answer = TrimmedText()
    do {
      let report = try Interruption.watching { try generate(question, &answer) }
      let isStopped = report.finishReason == nil
      guard !isStopped || !answer.text.isEmpty else {
        terminal.note("stopped before the answer; the question is taken back")
        return
      }
      chat.complete(question, answer: answer.text)
      isFirstTurn = false
      if format == .json { try JSONLine.print(report) } else { try output.write("\n") }
      if isStopped { terminal.note("stopped") }
      if verbose { VerboseLog.run(report, of: model) }
    } catch let problem as FileArgumentError {
      throw problem
    } catch {
      if format == .text, !answer.text.isEmpty { try output.write("\n") }
      Log.error(errorText(error))
      terminal.note("the question is taken back; /clear forgets all of the conversation")
    }
  }

  /// Streams an answer until it ends or is interrupted.
  private func generate(_ question: String, _ answer: inout TrimmedText) throws -> RunReport {
    let request = chat.request(question, like: base)
    if verbosePrompt { try VerboseLog.prompt(request, model) }
    var session = try Session(model, request, threads: threads)
    while !Interruption.isWanted, let piece = try session.next() {
      let text = answer.push(piece)
      if format == .text { try output.write(text) }
    }
    var report = session.report
    for image in chat.newImages { report.include(image) }
    if !isFirstTurn {
      report.milliseconds.total -= report.milliseconds.load
      report.milliseconds.load = 0
    }
    return report
  }
}

/// A line that somebody types in a chat: a question, or a command that begins with `/`.
enum ChatLine: Equatable {
  case empty
  case question(String)
  case image(path: String)
  case clear, help, exit
  /// A command that cannot be carried out, and why.
  case wrong(String)

  static let helpText = [
    "/image PATH  add an image to the next question",
    "/clear       forget the conversation and its images",
    "/exit        end the chat, as the end of input does",
    "Ctrl-C stops an answer; any other line is a question. Every question ranks all visual tokens anew, so those dropped",
    "for one question are there again for the next.",
  ]

  init(_ line: String) {
    let text = line.trimmingCharacters(in: .whitespacesAndNewlines)
    guard line.hasPrefix("/") else {
      self = text.isEmpty ? .empty : .question(text)
      return
    }
    let words = text.split(maxSplits: 1, whereSeparator: \.isWhitespace).map(String.init)
    switch (words[0], words.dropFirst().first) {
    case ("/image", let path?): self = .image(path: (path as NSString).expandingTildeInPath)
    case ("/image", nil): self = .wrong("/image needs the path of an image")
    case ("/clear", nil): self = .clear
    case ("/help", nil): self = .help
    case ("/exit", nil), ("/quit", nil): self = .exit
    default: self = .wrong("\(text): no such command; /help lists them")
    }
  }
}

/// The terminal of a chat, if it has one: prompts and notes are for people only.
struct Terminal {
  private let isPresent = isatty(STDIN_FILENO) != 0 && isatty(STDERR_FILENO) != 0

  /// The next line of standard input, without its end; `nil` at the end of input.
  func readLine() -> String? {
    if isPresent { write("> ") }
    let line = Swift.readLine()
    // Whatever comes next begins a line of its own.
    if isPresent, line == nil { write("\n") }
    return line
  }

  /// Says something about the chat.
  func note(_ text: String) {
    if isPresent { Log.write("(\(text))") }
  }

  private func write(_ text: String) { try? FileHandle.standardError.write(contentsOf: Data(text.utf8)) }
}

/// A text that comes in pieces, without the white space at its ends.
struct TrimmedText {
  /// What has come so far.
  private(set) var text = ""
  /// White space that belongs to the text only if more follows.
  private var held = ""

  /// Takes the next piece and returns what it adds.
  mutating func push(_ piece: String) -> String {
    held += piece
    let scalars = held.unicodeScalars
    guard let last = scalars.lastIndex(where: { !$0.properties.isWhitespace }) else {
      if text.isEmpty { held = "" }
      return ""
    }
    let end = scalars.index(after: last)
    let begin = text.isEmpty ? scalars.firstIndex { !$0.properties.isWhitespace } ?? end : scalars.startIndex
    let added = String(scalars[begin..<end])
    held = String(scalars[end...])
    text += added
    return added
  }
}
