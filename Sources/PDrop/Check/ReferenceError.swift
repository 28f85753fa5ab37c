package import ModelFormats

/// Why a reference cannot be used: one line that names the file, what was expected and what was found.
package enum ReferenceError: Error, Equatable, CustomStringConvertible {
  case notFound(model: String, searched: [String])
  case noCases(folder: String, model: String)
  case file(CheckpointError)
  case badValue(file: String, key: String, expected: String, found: String)
  case badTensor(file: String, name: String, expected: String, found: String)
  case doesNotFit(file: String, reason: String)

  private static let remedy = "make some with Models/make_reference.py, or name their folder with --reference"

  package var description: String {
    switch self {
    case .notFound(let model, let searched):
      "no reference vectors for \(model), neither in \(searched.joined(separator: " nor in ")); \(Self.remedy)"
    case .noCases(let folder, let model):
      "\(folder): expected reference vectors, such as cases/\(model)/NAME.json, found none; \(Self.remedy)"
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
}
