import ArgumentParser
import BatchInference
import CommandLineSupport
import Foundation
import PDrop
import Storage

/// Options of a batch: a file of questions, or one question about every image in a folder.
struct BatchOptions: ParsableArguments {
  @Option(
    name: [.long, .customLong("question-file")],
    help: """
      File of questions, one JSON object per line: LLaVA's question_id, image, text, or OpenAI's custom_id, body. \
      With - for standard input, lines are answered as they arrive.
      """)
  var input: String?

  @Option(
    name: .customLong("image-folder"),
    help: "Folder of the images in --input; without --input, --prompt is answered for every image in it.")
  var imageFolder: String?

  @Option(
    name: [.long, .customLong("answers-file")],
    help: "File for the answers, in the order of the questions. (default: standard output)")
  var output: String?

  @Flag(help: "Continue after the answers in --output; error records count as answers.")
  var resume = false

  @Flag(name: .customLong("retry-failed"), help: "Like --resume, but failed records are answered again, at the end.")
  var retriesFailures = false

  @Flag(help: "Remove existing answers in --output.")
  var overwrite = false

  @Option(
    help: ArgumentHelp("Answer only shard i of n, every n-th record: 1/n to n/n; 0/n is n/n.", valueName: "i/n"),
    transform: Self.shard)
  var shard = BatchShard.all

  @Option(
    name: .customLong("first-line"),
    help: ArgumentHelp(
      "Line number of the first line of --input, if part of a longer file; answers use these numbers. (default: 1)",
      valueName: "N"))
  var firstLine: Int?

  @Option(
    name: .customLong("num-chunks"),
    help: "Number of contiguous chunks of --input, as in LLaVA's scripts; --chunk-idx selects one.")
  var chunkCount: Int?

  @Option(name: .customLong("chunk-idx"), help: "Chunk to answer, from 0 to --num-chunks - 1.")
  var chunkIndex: Int?

  @Option(help: "File for the report of the batch, as JSON: counts, timings, FLOPs.")
  var report: String?

  @OptionGroup var progressArguments: ProgressArguments
  @OptionGroup var engineArguments: EngineArguments

  @Flag(name: .customLong("dry-run"), help: "Print the memory and time that the batch needs, without answering.")
  var dryRun = false

  @Flag(name: .customLong("no-timings"), help: "Omit timings from answers, so that equal runs produce equal bytes.")
  var omitsTimings = false

  private static func shard(_ text: String) throws -> BatchShard {
    guard let shard = BatchShard(text) else {
      throw ValidationError("expected 1/n to n/n, such as 3/8, found '\(text)'")
    }
    return shard
  }

  /// The records of this run, by shard or chunk; `nil` for a chunk that does not exist.
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
        "--chunk-idx must be 0 to --num-chunks - 1, found \(chunkIndex ?? 0) of \(chunkCount ?? 0)")
    }
    guard chunkCount == nil || input != "-" else {
      throw ValidationError(
        "--num-chunks requires the number of lines; give --input a file instead of standard input")
    }
    try checkRange("--first-line", firstLine, 1...1_000_000_000_000)
  }

  /// Whether existing answers are kept.
  private var keepsAnswers: Bool { resume || retriesFailures }

  /// Checks the combination with other options.
  func validate(with question: QuestionOptions, trace: String?) throws {
    if input != nil {
      guard question.isEmpty, trace == nil else {
        throw ValidationError(
          "--input supplies questions and images; leave out --prompt, --file, --image, --video-frames, --interactive and "
            + "--trace"
        )
      }
    } else if imageFolder != nil {
      guard question.image.isEmpty, question.videoFrames == nil, question.chat == nil, !question.interactive,
        trace == nil
      else {
        throw ValidationError(
          "--image-folder supplies the images of --prompt; leave out --image, --video-frames, --chat, --interactive and "
            + "--trace")
      }
    } else {
      guard output == nil, !keepsAnswers, !overwrite, records == .all, report == nil, !dryRun else {
        throw ValidationError(
          "--output, --resume, --retry-failed, --overwrite, --shard, --num-chunks, --report and --dry-run require "
            + "--input or --image-folder")
      }
    }
    guard input != nil || firstLine == nil else {
      throw ValidationError("--first-line numbers the lines of --input; give --input as well")
    }
    guard !dryRun || input != "-" else {
      throw ValidationError("--dry-run requires the number of records; give --input a file instead of standard input")
    }
    guard !keepsAnswers || !overwrite else {
      throw ValidationError("--resume keeps existing answers, --overwrite removes them; give one of them")
    }
    guard !keepsAnswers || (output ?? "-") != "-" else {
      throw ValidationError("--resume requires the file of the answers; give it with --output")
    }
  }

  /// The batch with its files open; `nil` without `--input` and `--image-folder`.
  ///
  /// - Parameter model: The files of the model, which no output may replace.
  func run(asking question: QuestionOptions, of model: [String]) throws -> BatchRun? {
    let source: Batch.Input
    if let input {
      source = .lines(path: input, folder: imageFolder)
    } else if let imageFolder {
      source = .images(folder: imageFolder, question: try question.text() ?? "", isRendered: question.raw)
    } else {
      return nil
    }
    // Before hours of work, so that they do not end with an unwritable report.
    if !dryRun, let output, output != "-", model.contains(where: { OpenFile.isSame(output, $0) }) {
      throw FileArgumentError("\(output): is a file of the model; give another path")
    }
    if let report { try Output.checkWritable(report, keeping: [input, output].compactMap(\.self) + model) }
    var options = Batch.Options(input: source)
    options.spelling = { $0.option }
    // A dry run does not touch the answer file.
    options.output = dryRun ? "-" : output ?? "-"
    options.existingOutput =
      dryRun ? .refuse : keepsAnswers ? .resume(retriesFailures: retriesFailures) : overwrite ? .overwrite : .refuse
    options.shard = records ?? .all
    if let firstLine { options.firstLine = firstLine }
    options.keepsTimes = !omitsTimings
    return BatchRun(batch: try Batch(options), options: self)
  }
}
