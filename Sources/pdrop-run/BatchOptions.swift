import ArgumentParser
import BatchInference
import CommandLineSupport
import Foundation
import PDrop

/// Many questions from a file, or one about a folder of images.
struct BatchOptions: ParsableArguments {
  @Option(
    name: [.long, .customLong("question-file")],
    help: """
      Questions, a JSON object a line: LLaVA's question_id, image, text, or OpenAI's custom_id, body; - for standard \
      input, answered line by line as they come.
      """)
  var input: String?

  @Option(
    name: .customLong("image-folder"),
    help: "Folder of the images that --input names; without --input, --prompt is asked about each image in it.")
  var imageFolder: String?

  @Option(
    name: [.long, .customLong("answers-file")],
    help: "File for the answers, in the order of the questions. (default: standard output)")
  var output: String?

  @Flag(help: "Go on after the answers that --output holds; error records count as answers.")
  var resume = false

  @Flag(name: .customLong("retry-failed"), help: "As --resume, but records that failed are answered again, at the end.")
  var retriesFailures = false

  @Flag(help: "Remove the answers that --output holds.")
  var overwrite = false

  @Option(
    help: ArgumentHelp("Answer every n-th record only: 1/n to n/n; 0/n is n/n.", valueName: "i/n"),
    transform: Self.shard)
  var shard = BatchShard.all

  @Option(
    name: .customLong("first-line"),
    help: ArgumentHelp(
      "Number of the first line of --input, when it is a piece of a longer file: answers name their lines by it. "
        + "(default: 1)",
      valueName: "N"))
  var firstLine: Int?

  @Option(
    name: .customLong("num-chunks"),
    help: "As LLaVA's scripts split a file: so many runs of lines, of which --chunk-idx names the one to answer.")
  var chunkCount: Int?

  @Option(name: .customLong("chunk-idx"), help: "Which of --num-chunks to answer, counted from 0.")
  var chunkIndex: Int?

  @Option(help: "File for what the batch did and cost, as JSON.")
  var report: String?

  @OptionGroup var engineArguments: EngineArguments

  @Flag(name: .customLong("dry-run"), help: "Answer nothing: print what memory and time the batch would take.")
  var dryRun = false

  @Flag(name: .customLong("no-timings"), help: "Leave times out of answers, so that equal runs give equal bytes.")
  var omitsTimings = false

  private static func shard(_ text: String) throws -> BatchShard {
    guard let shard = BatchShard(text) else {
      throw ValidationError("expected 1/n to n/n, such as 3/8, found '\(text)'")
    }
    return shard
  }

  /// The records of this run, by either way to name them; `nil` where there are no such records.
  private var records: BatchShard? {
    guard let chunkCount, let chunkIndex else { return shard }
    return BatchShard(chunk: chunkIndex, of: chunkCount)
  }

  func validate() throws {
    guard (chunkCount == nil) == (chunkIndex == nil) else {
      throw ValidationError("--num-chunks and --chunk-idx belong together; give both or neither")
    }
    guard chunkCount == nil || shard == .all else {
      throw ValidationError("--shard and --num-chunks both split the input; give one of them")
    }
    guard records != nil else {
      throw ValidationError(
        "--chunk-idx must be 0 to --num-chunks less 1, found \(chunkIndex ?? 0) of \(chunkCount ?? 0)")
    }
    guard chunkCount == nil || input != "-" else {
      throw ValidationError(
        "--num-chunks counts the lines of a file first; give one by --input in place of standard input")
    }
    guard firstLine ?? 1 > 0 else { throw ValidationError("--first-line counts from 1, found \(firstLine ?? 0)") }
  }

  /// Whether answers that are there already are kept.
  private var keepsAnswers: Bool { resume || retriesFailures }

  /// Checks what goes with what.
  func validate(with question: QuestionOptions, trace: String?) throws {
    if input != nil {
      guard question.isEmpty, trace == nil else {
        throw ValidationError(
          "--input brings its own questions and images; leave out --prompt, --file, --image, --interactive and --trace"
        )
      }
    } else if imageFolder != nil {
      guard question.image.isEmpty, question.chat == nil, !question.interactive, trace == nil else {
        throw ValidationError(
          "--image-folder brings the images of --prompt; leave out --image, --chat, --interactive and --trace")
      }
    } else {
      guard output == nil, !keepsAnswers, !overwrite, records == .all, report == nil, !dryRun else {
        throw ValidationError(
          "--output, --resume, --retry-failed, --overwrite, --shard, --num-chunks, --report and --dry-run go with --input "
            + "or --image-folder")
      }
    }
    guard input != nil || firstLine == nil else {
      throw ValidationError("--first-line counts the lines of --input; give it as well")
    }
    guard !dryRun || input != "-" else {
      throw ValidationError("--dry-run counts the records of a file; give one by --input in place of standard input")
    }
    guard !keepsAnswers || !overwrite else {
      throw ValidationError("--resume keeps the answers that are there, --overwrite removes them; give one of them")
    }
    guard !keepsAnswers || (output ?? "-") != "-" else {
      throw ValidationError("--resume needs the file of the answers; give it by --output")
    }
  }

  /// The batch that the options ask for, its files open; `nil` when they ask for none.
  func run(asking question: QuestionOptions) throws -> BatchRun? {
    var prompt: Request.Prompt?
    let source: Batch.Input
    if let input {
      source = .lines(path: input, folder: imageFolder)
    } else if let imageFolder {
      let text = try question.text() ?? ""
      source = .images(folder: imageFolder, question: text)
      prompt = question.raw ? .rendered(text) : .messages([ChatMessage(question: text, imageCount: 1)])
    } else {
      return nil
    }
    // Hours of work are not to end in a report that cannot be written.
    if let report { try Output.checkFolder(of: report) }
    var options = Batch.Options(input: source)
    options.spelling = { $0.option }
    // A dry run leaves the file of the answers alone.
    options.output = dryRun ? "-" : output ?? "-"
    options.earlier =
      dryRun ? .refuse : keepsAnswers ? .resume(retriesFailures: retriesFailures) : overwrite ? .overwrite : .refuse
    options.shard = records ?? .all
    if let firstLine { options.firstLine = firstLine }
    options.keepsTimes = !omitsTimings
    return BatchRun(batch: try Batch(options), prompt: prompt, options: self)
  }
}
