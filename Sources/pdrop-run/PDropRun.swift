import ArgumentParser
import CommandLineSupport
import Foundation
import Tokenizers

/// `pdrop-run`: answers questions about images.
@main
struct PDropRun: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pdrop-run",
    abstract: "Answers questions about images with LLaVA on a CPU, dropping visual tokens stage by stage.",
    usage: """
      pdrop-run [answer] [<options>]
      pdrop-run <subcommand> [<options>]
      """,
    discussion: """
      The default subcommand is answer. Its most common options:

        -m, --model          model directory, by default the bundled tiny-textvqa
        --image              image: a file or data URL, may be repeated
        -p, --prompt         question
        -i, --interactive    chat on standard input
        --input              file of questions, answered as a batch
        --output             file for the answers of a batch
        --policy             none, pyramiddrop (default), fastv, random or uniform
        --lambda             keep ratio from one stage to the next, by default 0.5
        -n, --n-predict      maximum number of new tokens, by default 128
        --temp               sampling temperature, by default 0 for greedy decoding
        --precision          compute precision: auto, f32, bf16, int8, int4
        -t, --threads        number of threads, by default all cores
        --kept-map           file for the image with dropped patches dimmed
        --format             text or json
        -v, --verbose        kept tokens, FLOPs, timings and memory on stderr

      All options: pdrop-run answer --help
      """,
    version: "0.1.0",
    subcommands: [Answer.self, Tokenize.self, Check.self, Quantize.self, Select.self],
    defaultSubcommand: Answer.self)

  static func main() { runProgram() }
}

/// `pdrop-run tokenize`: the token ids of a text.
struct Tokenize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Prints the token ids of a text, without BOS, and their strings as JSON.")

  @OptionGroup var modelOptions: ModelOptions

  @Option(name: [.short, .long], help: "File with the text; - for standard input.")
  var file: String?

  @Option(name: [.short, .long], help: "Text to tokenize.")
  var prompt: String?

  func validate() throws {
    guard (file == nil) != (prompt == nil) else { throw ValidationError("give the text with --file or --prompt") }
  }

  func run() throws {
    struct Output: Encodable {
      var ids: [Int32]
      var pieces: [String?]
    }
    let text = try prompt ?? TextFile.read(file ?? "-")
    let tokenizer = try modelOptions.loadTokenizer()
    let ids = tokenizer.encode(text)
    try JSONLine.print(Output(ids: ids, pieces: tokenizer.pieces(of: ids)))
  }
}
