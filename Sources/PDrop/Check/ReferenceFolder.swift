internal import Foundation

/// A folder of what the reference library computed, in the form of `Tests/Goldens`: `cases`, `features`, `preprocess`, and
/// the pictures.
package struct ReferenceFolder: Sendable {
  package let path: String
  /// The model's name among the cases.
  package let model: String
  /// The model's cases, in order.
  package let caseNames: [String]

  /// - Parameter model: The model directory's name. A folder with cases of one model only serves under any name.
  /// - Throws: `ReferenceError.noCases` when the folder has none of the model.
  package init(_ path: String, model: String) throws(ReferenceError) {
    if let folder = ReferenceFolder(path, exactly: model) {
      self = folder
    } else if let only = Self.models(path).only, let folder = ReferenceFolder(path, exactly: only) {
      self = folder
    } else {
      throw .noCases(folder: path, model: model)
    }
  }

  /// The reference of a model directory: in its folder `reference`, or in the nearest folder above it that has cases of the
  /// directory's name.
  package init(besideModel directory: String) throws(ReferenceError) {
    let model = URL(filePath: directory, directoryHint: .isDirectory).standardizedFileURL
    let name = model.lastPathComponent
    let own = model.appending(path: "reference").path(percentEncoded: false)
    if let folder = try? ReferenceFolder(own, model: name) {
      self = folder
      return
    }
    var above = model
    while above.pathComponents.count > 1 {
      above.deleteLastPathComponent()
      if let folder = ReferenceFolder(above.path(percentEncoded: false), exactly: name) {
        self = folder
        return
      }
    }
    throw .notFound(model: name, searched: [own, "cases/\(name) of a folder above the model's"])
  }

  private init?(_ path: String, exactly model: String) {
    let names = Self.entries("\(path)/cases/\(model)").filter { $0.hasSuffix(".json") }.map { String($0.dropLast(5)) }
    guard !names.isEmpty else { return nil }
    self.path = path.hasSuffix("/") ? String(path.dropLast()) : path
    (self.model, caseNames) = (model, names)
  }

  private static func models(_ path: String) -> [String] {
    entries(path + "/cases").filter { !entries("\(path)/cases/\($0)").isEmpty }
  }

  private static func entries(_ path: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
  }
}

extension Array {
  /// The element of a list of one.
  fileprivate var only: Element? { count == 1 ? self[0] : nil }
}
