import Foundation
package import ImageProcessing
package import LLaVA
import ModelFormats
public import Storage

/// The tensors of a run, for comparison with those of the reference.
package struct TraceTensors {
  package var views: [ImageViews]
  /// Features of all images, `[V, D]`.
  package var features: [Float]
  /// Logits after prefill, `[N]`.
  package var lastLogits: [Float]
  /// Logits of the last generated token, `[N]`.
  package var finalLogits: [Float]
  /// Last row of the prompt before the first layer and after each layer, `[layers + 1, D]`.
  package var lastRows: [[Float]]
  /// Indices of the tokens of each image that entered the decoder; `nil` for all.
  package var selected: [[Int]]?
  package var drops: [DropResult]

  /// Writes `trace.json` and `trace.safetensors`, with the keys of the reference goldens.
  package func write(to directory: String, _ report: RunReport) throws(TraceError) {
    let folder = URL(filePath: directory, directoryHint: .isDirectory)
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let files = [("trace.json", try encodedJSON(report)), ("trace.safetensors", try encoded())]
      for (name, data) in files {
        try AtomicFile.write([UInt8](data), to: folder.appending(path: name).path(percentEncoded: false))
      }
    } catch let error as FileError {
      throw TraceError(directory: directory, reason: .unwritable(error.problem))
    } catch {
      throw TraceError(directory: directory, reason: .unwritable(error.localizedDescription))
    }
  }

  private func encodedJSON(_ report: RunReport) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(report)
  }

  private func encoded() throws -> Data {
    var file = SafetensorsWriter()
    if let size = views.first?.size {
      let shape = [views.reduce(0) { $0 + $1.count }, 3, size, size]
      file.add("pixels_u8", views.flatMap(\.pixels), shape: shape)
      file.add("pixel_values", views.flatMap(\.pixelValues), shape: shape)
      let hiddenSize = lastRows.first?.count ?? 1
      file.add("features", features, shape: [features.count / hiddenSize, hiddenSize])
    }
    file.add("last_logits", lastLogits, shape: [lastLogits.count])
    file.add("final_logits", finalLogits, shape: [finalLogits.count])
    file.add("hidden_last", lastRows.flatMap { $0 }, shape: [lastRows.count, lastRows.first?.count ?? 0])
    for (j, tokens) in (selected ?? []).enumerated() {
      file.add("selection/image\(j)/kept", tokens.map(Int32.init), shape: [tokens.count])
    }
    for (s, drop) in drops.enumerated() {
      for (j, image) in drop.images.enumerated() {
        file.add("stage\(s)/image\(j)/scores", image.scores, shape: [image.scores.count])
        file.add("stage\(s)/image\(j)/kept", image.kept.map(Int32.init), shape: [image.kept.count])
      }
    }
    return try file.encoded()
  }
}

/// A trace that was not written.
public struct TraceError: UserFacingError, Equatable {
  public enum Reason: Equatable, Sendable {
    /// The request does not record tensors.
    case notRecorded
    case unwritable(String)
  }

  public let directory: String
  public let reason: Reason

  public var category: ErrorCategory { .resource }
  public var problem: String {
    switch reason {
    case .notRecorded:
      "\(directory): the trace is not written, as the request does not record tensors; set Request.recordsTensors"
    case .unwritable(let reason): "\(directory): the trace cannot be written (\(reason))"
    }
  }
}
