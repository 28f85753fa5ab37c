internal import Kernels

#if canImport(FoundationEssentials)
  package import FoundationEssentials
#else
  package import Foundation
#endif

extension Vocabulary {
  /// Reads the tokenizer of a checkpoint's folder.
  ///
  /// `tokenizer.json` wins over `tokenizer.model` where both exist, as the published libraries prefer it. The side
  /// files `tokenizer_config.json`, `added_tokens.json` and `special_tokens_map.json` are read where they exist: they
  /// add tokens and name those with a part to play.
  ///
  /// - Throws: `VocabularyError`.
  package static func load(directory: URL) throws(VocabularyError) -> Vocabulary {
    let sides = try TokenizerSideFiles(directory: directory)
    if let bytes = try TokenizerFile.bytes("tokenizer.json", in: directory) {
      return try read(tokenizerJSON: bytes, sides: sides)
    }
    if let bytes = try TokenizerFile.bytes("tokenizer.model", in: directory) {
      return try read(sentencePieceModel: bytes, sides: sides)
    }
    throw .missing(directory: directory.path)
  }
}

/// Access to the files of a tokenizer, none of which has a reason to be large.
package enum TokenizerFile {
  package static let byteLimit = 128 << 20

  /// The file's content, or nil where there is no such file.
  package static func bytes(_ name: String, in directory: URL) throws(VocabularyError) -> [UInt8]? {
    let file: SharedBytes
    do { file = try SharedBytes(mapping: directory.appending(path: name).path) } catch {
      switch error {
      case .notFound: return nil
      case .empty: return []
      case .notAFile: throw .unreadable(file: name, reason: "a directory or device")
      case .unreadable(_, let reason), .unwritable(_, let reason): throw .unreadable(file: name, reason: reason)
      }
    }
    guard file.count <= byteLimit else {
      throw .tooLarge(file: name, byteCount: file.count, limit: byteLimit)
    }
    let bytes = file.copy(0..<file.count)
    guard !FilePointer.isFound(bytes) else { throw .notFetched(file: name) }
    return bytes
  }

  /// The file's content as JSON, or nil where there is no such file.
  package static func json(_ name: String, in directory: URL) throws(VocabularyError) -> JSONValue? {
    guard let bytes = try bytes(name, in: directory) else { return nil }
    return try json(name, bytes)
  }

  static func json(_ name: String, _ bytes: [UInt8]) throws(VocabularyError) -> JSONValue {
    do throws(JSONParser.Failure) {
      return try JSONParser.parse(bytes)
    } catch {
      throw .malformed(file: name, offset: error.offset, expected: error.expected)
    }
  }
}
