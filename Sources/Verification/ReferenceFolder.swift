import Foundation
import Kernels
package import ModelFormats
package import Storage

/// A folder of what the reference library computed, in the form of `Tests/Goldens`: `cases`, `features`, `preprocess`, and
/// the images.
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

/// The tensors of a reference's file, each in the type and of the shape that the format gives it.
struct ReferenceTensors {
  private let file: SafetensorsFile

  init(_ path: String) throws(ReferenceError) {
    do { file = try SafetensorsFile(path) } catch { throw .file(error) }
  }

  /// The tensors of a file that need not exist.
  init?(ifPresent path: String) throws(ReferenceError) {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    try self.init(path)
  }

  /// The values of an `F32` tensor; `nil` when the reference does not store it.
  ///
  /// - Parameter shape: The size of each axis, 0 where any will do.
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

  /// How many axes a tensor has; 0 when the reference does not store it.
  func rank(_ name: String) -> Int { file.records[name]?.shape.count ?? 0 }

  private func stored(_ name: String) throws(ReferenceError) -> [UInt8] {
    do { return try file.bytes(name) } catch { throw .file(error) }
  }

  private func has(_ name: String, _ element: String, _ shape: [Int]) throws(ReferenceError) -> Bool {
    guard let record = file.records[name] else { return false }
    let fits = record.shape.count == shape.count && zip(record.shape, shape).allSatisfy { $1 == 0 || $0 == $1 }
    guard fits, record.elementName == element else {
      let sizes = shape.map { $0 == 0 ? "any" : "\($0)" }.joined(separator: ", ")
      throw .badTensor(
        file: file.path, name: name, expected: "\(element) [\(sizes)]", found: "\(record.elementName) \(record.shape)")
    }
    return true
  }
}

/// Why a reference cannot be used: one line that names the file, what was expected and what was found.
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
