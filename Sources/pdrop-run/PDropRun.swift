import ArgumentParser
import CommandLineSupport
import Foundation
import Tokenizers

/// `pdrop-run`: questions in, answers out.
@main
struct PDropRun: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pdrop-run",
    abstract: "Answers questions about images with LLaVA on a CPU, dropping visual tokens stage by stage.",
    version: "0.1.0",
    subcommands: [Answer.self, Tokenize.self, Check.self],
    defaultSubcommand: Answer.self)

  static func main() { runProgram() }
}

/// `pdrop-run tokenize`: text in, token ids out.
struct Tokenize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Prints the tokens of a text as JSON: ids, without the BOS token, and pieces.")

  @OptionGroup var modelOptions: ModelOptions

  @Option(name: [.short, .long], help: "File to read the text from; - for standard input.")
  var file: String?

  @Option(name: [.short, .long], help: "The text itself.")
  var prompt: String?

  func validate() throws {
    guard (file == nil) != (prompt == nil) else { throw ValidationError("give the text by --file or by --prompt") }
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
