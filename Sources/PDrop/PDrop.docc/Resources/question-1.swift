import PDrop
import TokenDropping

let model = try VisionLanguageModel(directory: "Models/tiny-textvqa")
