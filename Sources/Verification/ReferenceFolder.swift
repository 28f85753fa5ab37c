import Foundation
import Kernels
package import ModelFormats
package import Storage

/// A folder of reference vectors in the layout of `Tests/Goldens`: `cases`, `features`, `preprocess` and images.
package struct ReferenceFolder: Sendable {
  package let path: String
  /// The name of the model's folder in `cases`.
  package let model: String
  /// The cases of the model, sorted.
  package let caseNames: [String]

  /// Opens a folder.
  ///
  /// - Parameters:
  ///   - model: The name of the model directory. A folder with the cases of a single model accepts any name.
  ///   - ggufFiles: The paths of a model's GGUF files, whose folder is named after the model; cases of other files are
  ///     left out. Empty for another model.
  /// - Throws: `ReferenceError.noCases` if the folder has no cases of the model.
  package init(_ path: String, model: String, ggufFiles: [String] = []) throws(ReferenceError) {
    let name = ggufFiles.first.map(Self.folderName) ?? model
    if let folder = ReferenceFolder(path, exactly: name, ggufFiles) {
      self = folder
    } else if let only = Self.models(path).only, let folder = ReferenceFolder(path, exactly: only, ggufFiles) {
      self = folder
    } else {
      throw .noCases(folder: path, model: name)
    }
  }

  /// Finds the reference of a model: the folder `reference` in its directory, or the nearest folder above with its
  /// cases.
  ///
  /// - Parameters:
  ///   - directory: The model directory.
  ///   - ggufFiles: The paths of a model's GGUF files, whose directory is used; empty for another model.
  /// - Throws: `ReferenceError.notFound`.
  package init(besideModel directory: String, ggufFiles: [String] = []) throws(ReferenceError) {
    let model =
      ggufFiles.first.map { URL(filePath: $0).standardizedFileURL.deletingLastPathComponent() }
      ?? URL(filePath: directory, directoryHint: .isDirectory).standardizedFileURL
    let name = model.lastPathComponent
    let own = model.appending(path: "reference").path(percentEncoded: false)
    if let folder = try? ReferenceFolder(own, model: name, ggufFiles: ggufFiles) {
      self = folder
      return
    }
    var above = model
    while above.pathComponents.count > 1 {
      above.deleteLastPathComponent()
      if let folder = ReferenceFolder(above.path(percentEncoded: false), exactly: name, ggufFiles) {
        self = folder
        return
      }
    }
    throw .notFound(model: name, searched: [own, "cases/\(name) of a folder above the model's"])
  }

  private init?(_ path: String, exactly model: String, _ ggufFiles: [String]) {
    var names = Self.entries("\(path)/cases/\(model)").filter { $0.hasSuffix(".json") }.map { String($0.dropLast(5)) }
    if !ggufFiles.isEmpty {
      let files = Set(ggufFiles.map(Self.fileName))
      // A case that cannot be read is reported when it is run.
      names.removeAll { name in
        let stored = try? JSONFile.read(ReferenceCaseFile.self, at: "\(path)/cases/\(model)/\(name).json")
        return [stored?.model, stored?.mmproj].compactMap(\.self).contains { !files.contains(Self.fileName($0)) }
      }
    }
    guard !names.isEmpty else { return nil }
    self.path = path.hasSuffix("/") ? String(path.dropLast()) : path
    (self.model, caseNames) = (model, names)
  }

  private static func fileName(_ path: String) -> String { URL(filePath: path).lastPathComponent }

  /// The name of the folder of a file.
  private static func folderName(_ path: String) -> String {
    URL(filePath: path).standardizedFileURL.deletingLastPathComponent().lastPathComponent
  }

  private static func models(_ path: String) -> [String] {
    entries(path + "/cases").filter { !entries("\(path)/cases/\($0)").isEmpty }
  }

  private static func entries(_ path: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
  }
}

extension Array {
  /// The only element; `nil` if the count is not 1.
  fileprivate var only: Element? { count == 1 ? self[0] : nil }
}

/// The tensors of a reference file, checked against the element types and shapes of the format.
struct ReferenceTensors {
  private let file: SafetensorsFile

  init(_ path: String) throws(ReferenceError) {
    do { file = try SafetensorsFile(path) } catch { throw .file(error) }
  }

  /// Opens a file; `nil` if it does not exist.
  init?(ifPresent path: String) throws(ReferenceError) {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    try self.init(path)
  }

  /// The values of an `F32` tensor; `nil` when the reference does not store it.
  ///
  /// - Parameter shape: The size of each axis, 0 for any size.
  func floats(_ name: String, _ shape: [Int]) throws(ReferenceError) -> [Float]? {
    guard try has(name, "F32", shape) else { return nil }
    do { return try file.tensor(name).floats() } catch { throw .file(error) }
  }

  /// The values of an `I32` tensor; `nil` when the reference does not store it.
  func integers(_ name: String, _ shape: [Int]) throws(ReferenceError) -> [Int]? {
    guard try has(name, "I32", shape) else { return nil }
    let bytes = try stored(name)
    return stride(from: 0, to: bytes.count, by: 4).map { i in
      let word = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[i + $1]) << (8 * UInt32($1)) }
      return Int(Int32(bitPattern: word))
    }
  }

  /// The values of a `U8` tensor; `nil` when the reference does not store it.
  func bytes(_ name: String, _ shape: [Int]) throws(ReferenceError) -> [UInt8]? {
    try has(name, "U8", shape) ? stored(name) : nil
  }

  /// The number of axes of a tensor; 0 when the reference does not store it.
  func rank(_ name: String) -> Int { file.records[name]?.shape.count ?? 0 }

  private func stored(_ name: String) throws(ReferenceError) -> [UInt8] {
    do { return try file.bytes(name) } catch { throw .file(error) }
  }

  private func has(_ name: String, _ element: String, _ shape: [Int]) throws(ReferenceError) -> Bool {
    guard let info = file.records[name] else { return false }
    let fits = info.shape.count == shape.count && zip(info.shape, shape).allSatisfy { $1 == 0 || $0 == $1 }
    guard fits, info.elementName == element else {
      let sizes = shape.map { $0 == 0 ? "any" : "\($0)" }.joined(separator: ", ")
      throw .badTensor(
        file: file.path, name: name, expected: "\(element) [\(sizes)]", found: "\(info.elementName) \(info.shape)")
    }
    return true
  }
}

/// An error in a reference, with a one-line description: the file, the expected and the found value.
package enum ReferenceError: UserFacingError, Equatable {
  case notFound(model: String, searched: [String])
  case noCases(folder: String, model: String)
  case file(CheckpointError)
  case badValue(file: String, key: String, expected: String, found: String)
  case badTensor(file: String, name: String, expected: String, found: String)
  case doesNotFit(file: String, reason: String)

  package var category: ErrorCategory { .resource }
  package var problem: String {
    switch self {
    case .notFound(let model, let searched):
      "no reference vectors for \(model), neither in \(searched.joined(separator: " nor in "))"
    case .noCases(let folder, let model):
      "\(folder): expected reference vectors, such as cases/\(model)/NAME.json, found none"
    case .file(let error):
      error.description
    case .badValue(let file, let key, let expected, let found):
      "\(file): \(key): expected \(expected), found \(found)"
    case .badTensor(let file, let name, let expected, let found):
      "\(file): '\(name)': expected \(expected), found \(found); does the reference belong to this model?"
    case .doesNotFit(let file, let reason):
      "\(file): the reference does not fit the model: \(reason)"
    }
  }

  package var remedies: [Remedy] {
    switch self {
    case .notFound, .noCases: [.makeReference, .referenceFolder]
    default: []
    }
  }
}
