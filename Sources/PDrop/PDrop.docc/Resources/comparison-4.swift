import PDrop
import TokenDropping

let model = try VisionLanguageModel(directory: "Models/tiny-textvqa")

let policies: [any TokenDroppingPolicy] = [
  NoDropping(),
  FastV(k: 2, r: 0.5),
  PyramidDrop(.listed(layers: [8, 16, 24], ratios: [0.5, 0.25, 0.125])),
]

func answer(with policy: any TokenDroppingPolicy) throws -> RunReport {
  let request = Request(
    question: "What number is at the top right?",
    images: [.file("Models/samples/bike.png")],
    policy: policy)
  var session = try Session(model, request, threads: 2)
  while try session.next() != nil {}
  return session.report
}

for policy in policies {
  let report = try answer(with: policy)
  let flops = report.flops.prefill + report.flops.rank
  print("\(policy.name): \(report.text)")
  print("  visual tokens in each stage: \(report.visualTokensPerStage)")
  print("  average retained tokens: \(report.averageVisualTokens)")
  print("  prefill FLOPs: \(100 * flops / report.baselineFlops)% of the baseline")
}
