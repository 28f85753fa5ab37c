import PDrop
import TokenDropping

let model = try VisionLanguageModel(directory: "Models/tiny-textvqa")

let policies: [any TokenDroppingPolicy] = [
  NoDropping(),
  FastV(k: 2, r: 0.5),
  PyramidDrop(.listed(layers: [8, 16, 24], ratios: [0.5, 0.25, 0.125])),
]
