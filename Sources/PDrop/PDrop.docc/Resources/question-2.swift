import PDrop
import TokenDropping

let model = try VisionLanguageModel(directory: "Models/tiny-textvqa")

let request = Request(
  question: "What number is at the top right?",
  images: [.file("Models/samples/bike.png")],
  policy: PyramidDrop())
