internal import Kernels

#if canImport(FoundationEssentials)
  internal import FoundationEssentials
#else
  internal import Foundation
#endif

/// A JSON file read into a value, with errors that name the file and the key.
package enum JSONFile {
  /// The largest file read, in bytes; tokenizers are a few megabytes.
  static let sizeLimit = 256 << 20

  /// - Throws: `CheckpointError` when the file is missing, too large, not JSON or not of the type's form.
  package static func read<Value: Decodable>(_ type: Value.Type, at path: String) throws(CheckpointError) -> Value {
    let bytes: SharedBytes
    do { bytes = try SharedBytes(mapping: path) } catch { throw .file(error) }
    guard bytes.count <= sizeLimit else {
      throw .malformed(file: path, reason: "\(bytes.count) bytes of JSON, expected at most \(sizeLimit)")
    }
    return try decode(type, from: bytes.copy(0..<bytes.count), file: path)
  }

  /// As `read`, or `nil` when there is no such file.
  package static func readIfPresent<Value: Decodable>(
    _ type: Value.Type, at path: String
  ) throws(CheckpointError) -> Value? {
    do { return try read(type, at: path) } catch .file(.notFound) { return nil } catch { throw error }
  }

  /// The value that JSON text describes.
  package static func decode<Value: Decodable>(
    _ type: Value.Type, from bytes: [UInt8], file: String
  ) throws(CheckpointError) -> Value {
    do { return try JSONDecoder().decode(type, from: Data(bytes)) } catch let error as CheckpointError {
      throw error
    } catch PreprocessorConfigurationError.invalidValue(let key, let expected, let found) {
      throw .badValue(file: file, key: key, expected: expected, found: found)
    } catch let error as DecodingError {
      throw .malformed(file: file, reason: error.oneLine)
    } catch PreprocessorConfigurationError.invalidValue(let key, let expected, let found) {
      throw .badValue(file: file, key: key, expected: expected, found: found)
    } catch {
      throw .malformed(file: file, reason: "not JSON")
    }
  }
}

extension DecodingError {
  /// What was wrong, and at which key, in one line.
  fileprivate var oneLine: String {
    switch self {
    case .keyNotFound(let key, let context):
      "missing key '\((context.codingPath + [key]).dotted)'"
    case .typeMismatch(let type, let context):
      "'\(context.codingPath.dotted)': expected \(type), found something else"
    case .valueNotFound(let type, let context):
      "'\(context.codingPath.dotted)': expected \(type), found null"
    case .dataCorrupted(let context) where context.codingPath.isEmpty:
      "not valid JSON"
    case .dataCorrupted(let context):
      "'\(context.codingPath.dotted)': \(context.debugDescription)"
    @unknown default:
      "not of the expected form"
    }
  }
}

extension [any CodingKey] {
  fileprivate var dotted: String { map(\.stringValue).joined(separator: ".") }
}
