import BatchInference
import PDrop

/// The example of docs/batch.md, with the imports that it shows.
func batchPageExample() throws {
  let model = try VisionLanguageModel(directory: "llava-1.5-7b-hf")
  var options = Batch.Options(input: .lines(path: "questions.jsonl", folder: "images"))
  options.output = "answers.jsonl"
  options.existingOutput = .resume(retriesFailures: true)
  let report = try Batch(options).run(model, like: Request(prompt: .messages([])), engine: EngineOptions(threads: 4))
  print("\(report.answered) of \(report.records) records answered")
}
