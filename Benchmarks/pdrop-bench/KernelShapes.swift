import Kernels
import ModelFormats

/// A product as a model asks for it.
struct KernelShape {
  var name: String
  var inputs: Int
  var outputs: Int
  /// How many rows to try.
  var rows: [Int]
}

extension LLaVAConfiguration {
  /// The products of a decoder layer and of the head, with weights that share their input taken as one.
  func decoderShapes(rows: [Int]) -> [KernelShape] {
    let (d, m, heads) = (text.hiddenSize, text.intermediateSize, text.heads)
    return [
      KernelShape(name: "q/k/v", inputs: d, outputs: heads.queryColumns + 2 * heads.keyValueColumns, rows: rows),
      KernelShape(name: "o", inputs: heads.queryColumns, outputs: d, rows: rows),
      KernelShape(name: "gate/up", inputs: d, outputs: 2 * m, rows: rows),
      KernelShape(name: "down", inputs: m, outputs: d, rows: rows),
      KernelShape(name: "lm_head", inputs: d, outputs: text.vocabularySize, rows: rows),
    ]
  }

  /// The products of the tower and the projector for one view.
  var visionShapes: [KernelShape] {
    let (d, m, patch) = (vision.hiddenSize, vision.intermediateSize, vision.patchSize)
    let (patches, rows) = ([vision.patchCount], [1 + vision.patchCount])
    return [
      KernelShape(name: "clip patch", inputs: 3 * patch * patch, outputs: d, rows: patches),
      KernelShape(name: "clip q/k/v", inputs: d, outputs: 3 * d, rows: rows),
      KernelShape(name: "clip out", inputs: d, outputs: d, rows: rows),
      KernelShape(name: "clip fc1", inputs: d, outputs: m, rows: rows),
      KernelShape(name: "clip fc2", inputs: m, outputs: d, rows: rows),
      KernelShape(name: "projector 1", inputs: d, outputs: text.hiddenSize, rows: patches),
      KernelShape(name: "projector 2", inputs: text.hiddenSize, outputs: text.hiddenSize, rows: patches),
    ]
  }
}
