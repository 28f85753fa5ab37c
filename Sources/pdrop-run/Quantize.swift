import ArgumentParser
import CommandLineSupport
import Foundation
import PDrop

/// `pdrop-run quantize`: a model as a pair of GGUF files with quantized weights.
struct Quantize: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Writes a model as a pair of GGUF files with quantized weights, which llama.cpp can read too.",
    discussion: """
      The file of the language model is the output. The vision encoder and the projector, in F16, are written beside it \
      as mmproj- plus its name.
      """)

  @Option(name: [.short, .long], help: "Model directory or GGUF file to convert.")
  var model: String

  @Option(name: [.short, .long], help: "GGUF file of the language model to write.")
  var output: String

  @Option(help: "Type of the decoder's weights: q4_k, q6_k or q8_0.")
  var type = ModelQuantizer.WeightType.q4K

  @Option(
    name: [.customLong("vision-tower")],
    help: "CLIP or SigLIP directory for an original LLaVA checkpoint. (default: searched next to the model)")
  var visionTower: String?

  @Option(help: "GGUF file of the vision encoder, for a model in GGUF. (default: the only one beside the model)")
  var mmproj: String?

  @Option(
    name: [.short, .long], help: "Number of threads, at most one per processor that may be used. (default: all of them)"
  )
  var threads: Int?

  @Flag(help: "Replace existing files.")
  var overwrite = false

  func validate() throws {
    try checkRange("--threads", threads, 1...1024)
    guard output.hasSuffix(".gguf") else {
      throw ValidationError("--output must end in .gguf, found '\(output)'")
    }
    let paths = [output, ModelQuantizer.mmprojPath(besideModel: output)]
    if !overwrite, let existing = paths.first(where: FileManager.default.fileExists) {
      throw ValidationError("\(existing) exists; give another --output, or --overwrite to replace it")
    }
  }

  func run() throws {
    var quantizer = ModelQuantizer(type: type, threads: ThreadCount(requested: threads).count)
    (quantizer.visionTower, quantizer.mmproj) = (visionTower, mmproj)
    let result = try quantizer.write(model, to: output)
    for case (let path?, let bytes) in [(result.model, result.modelBytes), (result.mmproj, result.mmprojBytes)] {
      Log.write("wrote \(path), \(bytes / 1_000_000) MB")
    }
  }
}
