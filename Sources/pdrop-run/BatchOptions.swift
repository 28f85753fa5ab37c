import ArgumentParser

/// Many questions from a file.
struct BatchOptions: ParsableArguments {
  @Option(
    name: [.long, .customLong("question-file")],
    help: "Questions in LLaVA's format, a JSON object a line: question_id, image, text.")
  var input: String?

  @Option(name: .customLong("image-folder"), help: "Folder of the pictures that --input names.")
  var imageFolder: String?

  @Option(
    name: [.long, .customLong("answers-file")],
    help: "File for the answers, in the order of the questions. (default: standard output)")
  var output: String?
}
