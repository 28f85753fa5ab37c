/// Why a `preprocessor_config.json` was refused.
package enum PreprocessorConfigurationError: Error, Equatable {
  case malformed(file: String, reason: String)
  case invalidValue(key: String, expected: String, found: String)
}

extension PreprocessorConfigurationError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .malformed(let file, let reason):
      "\(file): not a preprocessor configuration (\(reason)); download the file again"
    case .invalidValue(let key, let expected, let found):
      "preprocessor_config.json: \(key) is \(found), expected \(expected); correct the file"
    }
  }
}
