import Foundation
import ModelFormats
package import PDrop
import TestSupport
import Testing
package import Verification

/// A modified copy of a golden model, with a copy of its reference; unmodified files are symbolic links.
package final class ChangedModel {
  private let folder: TemporaryFolder
  package let name: String

  /// - Parameters:
  ///   - name: The golden model.
  ///   - golden: The only case in the reference.
  ///   - runs: The runs of the case in the reference; all by default.
  package init(_ name: String = "tiny-llava-1.5", case golden: String = "text_only", runs: [String]? = nil) throws {
    folder = try TemporaryFolder()
    self.name = name
    let manager = FileManager.default
    for path in [name, "reference/cases/\(name)"] {
      try manager.createDirectory(at: folder.url.appending(path: path), withIntermediateDirectories: true)
    }
    for file in try manager.contentsOfDirectory(atPath: Goldens.path("models/\(name)")) {
      try link("models/\(name)/\(file)", as: "\(name)/\(file)")
    }
    for path in ["images", "features", "preprocess"] { try link(path, as: "reference/\(path)") }
    for kind in ["json", "safetensors"] {
      try link("cases/\(name)/\(golden).\(kind)", as: "reference/cases/\(name)/\(golden).\(kind)")
    }
    guard let runs else { return }
    try changeJSON("reference/cases/\(name)/\(golden).json") { object in
      let all = object["runs"] as? [[String: Any]] ?? []
      object["runs"] = all.filter { runs.contains($0["name"] as? String ?? "") }
    }
  }

  /// The model's directory.
  package var directory: String { folder.path(name) }

  /// The folder of the reference.
  package var reference: String { folder.path("reference") }

  /// The result of a case of the reference with a model, by default the modified one.
  package func report(on golden: String = "text_only", of model: VisionLanguageModel? = nil) throws -> CaseResult {
    // The folder is removed with this object.
    defer { withExtendedLifetime(self) {} }
    let model = try model ?? VisionLanguageModel(directory: directory)
    return try ModelCheck(model, ReferenceFolder(reference, model: model.name), threads: 2).report(on: golden)
  }

  private func link(_ golden: String, as path: String) throws {
    try FileManager.default.createSymbolicLink(
      at: folder.url.appending(path: path), withDestinationURL: Goldens.url(golden))
  }

  /// Replaces or creates a file.
  package func write(_ path: String, _ bytes: some Sequence<UInt8>) throws {
    try? remove(path)
    let parent = folder.url.appending(path: path).deletingLastPathComponent()
    try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true)
    try folder.write(path, bytes)
  }

  package func remove(_ path: String) throws {
    try FileManager.default.removeItem(at: folder.url.appending(path: path))
  }

  package func bytes(_ path: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: folder.url.appending(path: path)))
  }

  /// Changes the object of a JSON file.
  package func changeJSON(_ path: String, _ change: (inout [String: Any]) -> Void) throws {
    var object = try JSONSerialization.jsonObject(with: Data(bytes(path))) as? [String: Any] ?? [:]
    change(&object)
    try write(path, JSONSerialization.data(withJSONObject: object))
  }

  /// Changes the first run of a case.
  package func changeRun(_ path: String, _ change: (inout [String: Any]) -> Void) throws {
    try changeJSON(path) { object in
      var runs = object["runs"] as? [[String: Any]] ?? []
      change(&runs[0])
      object["runs"] = runs
    }
  }

  /// Sets a byte of a tensor.
  package func setByte(_ index: Int, of tensor: String, to value: UInt8, in path: String) throws {
    var bytes = try bytes(path)
    bytes[try range(of: tensor, in: path).lowerBound + index] = value
    try write(path, bytes)
  }

  private func range(of tensor: String, in path: String) throws -> Range<Int> {
    try #require(try SafetensorsFile(folder.path(path)).records[tensor]?.bytes, "\(tensor)")
  }

  /// Adds to every value of one of the model's `F32` tensors.
  package func add(_ difference: Float, to tensor: String) throws {
    let path = "\(name)/model.safetensors"
    let range = try range(of: tensor, in: path)
    var bytes = try bytes(path)
    for i in stride(from: range.lowerBound, to: range.upperBound, by: 4) {
      let word = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[i + $1]) << (8 * UInt32($1)) }
      let changed = (Float(bitPattern: word) + difference).bitPattern
      for j in 0..<4 { bytes[i + j] = UInt8(truncatingIfNeeded: changed >> (8 * UInt32(j))) }
    }
    try write(path, bytes)
  }
}
