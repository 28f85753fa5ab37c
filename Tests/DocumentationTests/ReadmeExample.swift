import PDrop
import TokenDropping

/// The example of README.md, with the imports that it shows.
func readmeExample() throws {
  let model = try VisionLanguageModel(directory: "llava-1.5-7b-hf")
  let request = Request(question: "What is on the mat?", images: [.file("cat.jpg")], policy: PyramidDrop())
  var session = try Session(model, request, threads: 2)
  while let piece = try session.next() { print(piece, terminator: "") }
  print(session.report.visualTokensPerStage)  // [576, 288, 144, 72]
}
