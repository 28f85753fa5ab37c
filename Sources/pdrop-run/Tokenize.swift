import ArgumentParser
import CommandLineOptions
import Foundation
import PDrop

/// `pdrop-run tokenize`: text in, token ids out.
struct Tokenize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Prints the tokens of a text as JSON: ids, without the beginning token, and pieces.")

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
